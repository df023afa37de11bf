"""Gradients per task: computing them, measuring their conflicts, and combining them into one.

Each network is treated separately, so that the critic's gradients, which are of another size, do not influence
how the actor's are combined.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torchjd import aggregation

from offline_gcrl.agents import INNER, Agent, Losses
from offline_gcrl.hindsight.draws import stream_key

Matrix = Tensor
"""(tasks, parameters): the gradient of each task, as rows."""


def networks(agent: Agent) -> dict[str, list[nn.Parameter]]:
    """The trained parameters of an agent, by network."""
    assert isinstance(agent, nn.Module)
    learning = {id(p) for group in agent.parameter_groups() for p in group["params"]}
    found: dict[str, list[nn.Parameter]] = {}
    for path, parameter in agent.named_parameters():  # A parameter of two networks comes up once.
        if id(parameter) in learning and parameter.requires_grad:
            network = path.removeprefix(INNER).partition(".")[0]
            found.setdefault(network, []).append(parameter)
    return found


def task_gradients(found: list[Losses | None], agent: Agent) -> dict[str, Matrix]:
    """The gradient of each task's loss, a matrix for each network; zeros for a task without any.

    Args:
        found: the result of ``losses_by_task``.
        agent: the agent of these losses.
    """
    parts = networks(agent)
    rows: dict[str, list[Tensor]] = {name: [] for name in parts}
    for one in found:
        gradients = iter(_gradients(one, [p for part in parts.values() for p in part]))
        for name, part in parts.items():
            rows[name].append(torch.cat([next(gradients).flatten() for _ in part]))
    return {name: torch.stack(of_tasks) for name, of_tasks in rows.items()}


def _gradients(one: Losses | None, parameters: list[nn.Parameter]) -> Sequence[Tensor]:
    if one is None:
        return [torch.zeros_like(parameter) for parameter in parameters]
    # A parameter that a loss does not reach, as the head of another task, has a gradient of zero.
    return torch.autograd.grad(one[0], parameters, allow_unused=True, materialize_grads=True)


def set_gradients(agent: Agent, vectors: dict[str, Tensor]) -> None:
    """Write one gradient per network into the parameters, for the optimizer."""
    for name, parameters in networks(agent).items():
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, torch.split(vectors[name], sizes), strict=True):
            parameter.grad = part.view_as(parameter)


def cosines(matrix: Matrix) -> Tensor:
    """Cosines between the gradients of tasks, (tasks, tasks); 0 where a gradient is zero."""
    unit = matrix / matrix.norm(dim=1, keepdim=True).clamp(min=1e-12)
    products: Tensor = unit @ unit.T
    return products.clamp(-1.0, 1.0)


class Combination(Protocol):
    """Combines the gradients of tasks into one."""

    def __call__(self, matrix: Matrix, update: int) -> Tensor:
        """Combine (tasks, parameters), the gradients of weighted losses, into (parameters,).

        The sum of the rows is the gradient of the objective. Random choices depend on ``update``, its number, alone.
        """


def plain_sum(matrix: Matrix, update: int) -> Tensor:
    """The gradient of the objective."""
    return matrix.sum(0)


class ProjectedConflicts:
    """PCGrad (Yu et al., NeurIPS 2020, algorithm 1): gradients are projected to not oppose each other.

    For each task i and each other task j in random order, where g_i . g_j < 0: g_i -= (g_i . g_j) / |g_j|^2 g_j. The
    results are added.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.weighting = seed, aggregation.PCGradWeighting()

    def __call__(self, matrix: Matrix, update: int) -> Tensor:
        """(parameters,) from (tasks, parameters)."""
        with torch.random.fork_rng(
            devices=[]
        ):  # torchjd draws the order from the global generator.
            torch.manual_seed(stream_key(self.seed, update) % 2**63)
            weights = self.weighting(matrix @ matrix.T)
        return weights @ matrix


class Aggregated:
    """An aggregator of torchjd, which computes weights from the inner products of the gradients.

    Its weights are for the mean of the gradients; times the number of tasks, they are for the sum.
    """

    def __init__(self, weighting: Any) -> None:
        self.weighting = weighting

    def __call__(self, matrix: Matrix, update: int) -> Tensor:
        """(parameters,) from (tasks, parameters)."""
        weights: Tensor = self.weighting(matrix @ matrix.T) * len(matrix)
        return weights @ matrix


CAGRAD_RADIUS = 0.4
"""Radius c of CAGrad around the mean gradient; the paper's choice for most experiments."""
WEIGHTINGS: dict[str, Any] = {
    "aligned_mtl": aggregation.AlignedMTLWeighting,
    "imtl_g": aggregation.IMTLGWeighting,
    "mgda": aggregation.MGDAWeighting,
    "cagrad": lambda: aggregation.CAGradWeighting(c=CAGRAD_RADIUS),
    "upgrad": aggregation.UPGradWeighting,
    "dualproj": aggregation.DualProjWeighting,
}


def combination(name: str, seed: int) -> Combination:
    """A combination by its name in ``train.tasks.gradients``."""
    if name == "pcgrad":
        return ProjectedConflicts(seed)
    return Aggregated(WEIGHTINGS[name]()) if name in WEIGHTINGS else plain_sum


class GradNorm:
    """GradNorm: learned weights with which all tasks train at similar rates (Chen et al., ICML 2018, algorithm 1).

    G_i is the norm of w_i times the gradient of task i, over all parameters of the agent. r_i is the loss of task i
    relative to its initial loss, divided by the mean of these over tasks. The weights descend on
    sum_i |G_i - mean(G) r_i^alpha|, with the second term constant, and are then scaled to sum to the number of tasks.
    """

    def __init__(self, tasks: int, alpha: float, learning_rate: float) -> None:
        self.alpha, self.learning_rate = alpha, learning_rate
        self.weights = torch.ones(tasks)
        self.initial = torch.zeros(tasks)
        """(tasks,): the loss of each task at its first batch; 0 before."""

    def learn(self, losses: Tensor, norms: Tensor, present: Tensor) -> None:
        """One step on the weights.

        Args:
            losses: (tasks,), unweighted losses, not negative.
            norms: (tasks,), norms of the unweighted gradients.
            present: (tasks,), whether the batch contains the task; the weights of other tasks do not change.
        """
        losses, norms = losses.detach(), norms.detach()
        self.initial = torch.where(present & (self.initial == 0.0), losses, self.initial)
        ratio = losses / self.initial.clamp(min=1e-12)
        rate = ratio / ratio[present].mean()
        weighted = self.weights * norms
        target = weighted[present].mean() * rate.pow(self.alpha)
        slope = torch.where(present, (weighted - target).sign() * norms, 0.0)
        # A weight below zero would raise the loss of its task.
        weights = (self.weights - self.learning_rate * slope).clamp(min=1e-3)
        self.weights = weights * len(weights) / weights.sum()

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.weights, self.initial = self.weights.to(device), self.initial.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and initial losses."""
        return {"weights": self.weights, "initial": self.initial}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load them."""
        self.weights = state["weights"].to(self.weights.device)
        self.initial = state["initial"].to(self.initial.device)
