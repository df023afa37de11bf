"""Several seeds in one batched update: their weights are stacked, and the agent's own loss is mapped over them.

Seeds are independent: the gradient of the summed losses is each seed's own, and Adam and the lerp of the
targets are elementwise. Each seed learns the same as it would alone, up to the last digits of float32.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from offline_gcrl.agents import Agent, Batch, Losses
from offline_gcrl.training.speed import NO_FAST_PATHS, Plan
from offline_gcrl.training.updates import PlainUpdater


class StackedUpdater(PlainUpdater):
    """Updates of agents with the same settings on batches (seeds, batch, ...), one batch per seed.

    Diagnostics have the shape (seeds,).

    Args:
        agents: one per seed, with its initial weights.
        optimizers: Adam of each seed, with its initial state.
        plan: the fast paths of the updates.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        optimizers: Sequence[torch.optim.Optimizer],
        plan: Plan = NO_FAST_PATHS,
    ) -> None:
        modules = [agent for agent in agents if isinstance(agent, nn.Module)]
        self.agents, self.optimizers = agents, optimizers
        self.stack, self.stacked_buffers = stack_module_state(modules)
        self.names = {id(weight): name for name, weight in modules[0].named_parameters()}
        loss = StackedLoss(modules[0], self.stack | self.stacked_buffers)
        optimizer = plan.adam(
            {**group, "params": self._stacked(group["params"])}
            for group in agents[0].parameter_groups()
        )
        super().__init__(agents[0], plan.prepared(loss), optimizer, plan.prepared_step)
        self.moves = [
            (self._stacked(targets), self._stacked(sources), rate)
            for targets, sources, rate in self.moves
        ]
        self._take_optimizer_states()

    def buffers(self) -> dict[str, Tensor]:
        """The running state of all seeds, by name."""
        return self.stacked_buffers

    def tensors(self) -> list[Tensor]:
        """All tensors that an update may change: weights, targets and running state of all seeds."""
        return [*self.stack.values(), *self.stacked_buffers.values()]

    def finish_round(self) -> None:
        """Copy weights, running state and the state of the optimizer to each agent."""
        state = self.optimizer.state
        for seed, (agent, optimizer) in enumerate(zip(self.agents, self.optimizers, strict=True)):
            state_of_all = self.stack | self.stacked_buffers
            own = {name: stacked[seed].detach() for name, stacked in state_of_all.items()}
            agent.load_state_dict(own)  # type: ignore[attr-defined]
            for weight, stacked in self._optimized(optimizer):
                optimizer.state[weight] = {
                    name: (value if value.ndim == 0 else value[seed]).clone()
                    for name, value in state[stacked].items()
                }

    def _take_optimizer_states(self) -> None:
        """Stack the states of the seeds' optimizers, which have done the same number of updates."""
        pairs = [self._optimized(optimizer) for optimizer in self.optimizers]
        for of_seeds in zip(*pairs, strict=True):
            stacked = of_seeds[0][1]
            states = [
                optimizer.state[weight]
                for optimizer, (weight, _) in zip(self.optimizers, of_seeds, strict=True)
                if weight in optimizer.state
            ]
            if states:
                self.optimizer.state[stacked] = {
                    name: value.clone()
                    if value.ndim == 0
                    else torch.stack([state[name] for state in states])
                    for name, value in states[0].items()
                }

    def _optimized(self, optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, Tensor]]:
        """Pairs of a seed's weight and its stack, for all that is learned, in the order of the parameter groups."""
        own = [p for group in optimizer.param_groups for p in group["params"]]
        stacked = [p for group in self.optimizer.param_groups for p in group["params"]]
        return list(zip(own, stacked, strict=True))

    def _stacked(self, weights: Sequence[Tensor]) -> list[Tensor]:
        return [self.stack[self.names[id(weight)]] for weight in weights]


class StackedLoss:
    """The sum of the losses of all seeds, with the diagnostics of each, by mapping the agent's loss."""

    def __init__(self, agent: nn.Module, stack: dict[str, Tensor]) -> None:
        self.shape = _LossAsForward(copy.deepcopy(agent).to("meta"))
        self.stack = stack

    def __call__(self, batch: Batch) -> Losses:
        """The loss of a batch (seeds, batch, ...), and diagnostics (seeds,)."""
        losses, info = torch.vmap(self._of_one_seed)(self.stack, dict(batch))
        return losses.sum(), info

    def _of_one_seed(self, weights: dict[str, Tensor], batch: dict[str, Tensor]) -> Losses:
        named = {f"agent.{name}": value for name, value in weights.items()}
        losses: Losses = functional_call(self.shape, named, (batch,))
        return losses


class _LossAsForward(nn.Module):
    """An agent whose ``forward`` is its loss, since ``functional_call`` calls ``forward``."""

    def __init__(self, agent: nn.Module) -> None:
        super().__init__()
        self.agent = agent

    def forward(self, batch: dict[str, Tensor]) -> Losses:
        """The agent's loss."""
        losses: Losses = self.agent.loss(batch)  # type: ignore[operator]
        return losses
