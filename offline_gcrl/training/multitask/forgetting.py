"""Against forgetting of earlier tasks: elastic weight consolidation, and frozen heads."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from offline_gcrl.networks.conditioning import Heads

CHUNK = 8
"""Transitions whose Jacobians are in memory at the same time."""


def diagonal_fisher(
    actor: nn.Module, observations: Tensor, goals: Tensor, tasks: Tensor
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of a Gaussian policy with unit deviation, by parameter.

    F_j = E[(d log pi(a | s, g) / d theta_j)^2] over actions of the policy itself equals, for such a policy, the
    mean over states of sum_o (d mu_o(s, g) / d theta_j)^2, so no actions are drawn.

    Args:
        actor: a policy's mean mu.
        observations: (samples, observation).
        goals: (samples, goal).
        tasks: task numbers (samples,).
    """
    parameters = {name: p.detach() for name, p in actor.named_parameters() if p.requires_grad}

    def mean(parameters: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(actor, parameters, inputs)
        return outputs

    jacobian = torch.vmap(jacrev(mean), in_dims=(None, 0, 0, 0))
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for start in range(0, len(tasks), CHUNK):
        part = slice(start, start + CHUNK)
        slopes = jacobian(parameters, observations[part], goals[part], tasks[part])
        for name, slope in slopes.items():  # (chunk, action, *parameter)
            total[name] += slope.square().sum((0, 1))
    return {name: value / len(tasks) for name, value in total.items()}


class ElasticPenalty:
    """Elastic weight consolidation (Kirkpatrick et al., PNAS 2017) of the policy.

    The penalty is weight / 2 sum_k sum_j F_kj (theta_j - theta*_kj)^2 over the finished tasks k, F_k the Fisher
    information of task k at the parameters theta*_k after it. Up to a constant it is a single quadratic with
    the summed information F and the anchor sum_k F_k theta*_k / F; only these are stored. Values and critics, which
    are used for the current tasks only, are not penalised.
    """

    def __init__(self, actor: nn.Module, weight: float) -> None:
        self.actor, self.weight = actor, weight
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    def consolidate(self, fisher: dict[str, Tensor]) -> None:
        """Add a finished task with the current parameters of the actor."""
        parameters = {name: p.detach().clone() for name, p in self.actor.named_parameters()}
        for name, new in fisher.items():
            old = self.fisher.get(name, torch.zeros_like(new))
            anchor = self.anchor.get(name, parameters[name])
            share = torch.where(old + new > 0.0, new / (old + new), 0.0)
            self.anchor[name] = torch.lerp(anchor, parameters[name], share)
            self.fisher[name] = old + new

    def __call__(self) -> Tensor:
        """The penalty at the actor's parameters, up to a constant."""
        parameters = dict(self.actor.named_parameters())
        terms = [
            (fisher * (parameters[name] - self.anchor[name]).square()).sum()
            for name, fisher in self.fisher.items()
        ]
        total = torch.stack(terms).sum() if terms else next(iter(parameters.values())).new_zeros(())
        return 0.5 * self.weight * total

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Summed information and anchor."""
        return {"fisher": self.fisher, "anchor": self.anchor}

    def load_state_dict(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Load them."""
        device = next(self.actor.parameters()).device
        self.fisher, self.anchor = (
            {name: value.to(device) for name, value in state[part].items()}
            for part in ("fisher", "anchor")
        )


def freeze_heads(agent: nn.Module, tasks: list[int]) -> None:
    """Freeze the heads of finished tasks in every network; the shared trunk continues to learn."""
    for module in agent.modules():
        if isinstance(module, Heads):
            for task in tasks:
                module.heads[task].requires_grad_(False)
