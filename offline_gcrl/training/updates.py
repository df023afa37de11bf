"""Updates of an agent: a gradient step on its loss, and a move of its targets and running state; many in one call.

How the updates of a chunk are run is chosen once, when training starts; training itself knows only
``run``. What they compute is the same function of the agent and the batches in any case.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from offline_gcrl.agents import EVERY, STATE, Agent, Batch, Losses
from offline_gcrl.networks.targets import move_targets
from offline_gcrl.training.ranks import ALONE, Ranks

LossFunction = Callable[[Batch], Losses]


class Updater(Protocol):
    """Runs the updates of a chunk."""

    def run(self, batches: dict[str, Tensor], first: int, count: int) -> dict[str, Tensor]:
        """Run updates ``first`` to ``first + count - 1`` on batches (count, batch, ...); return their mean diagnostics."""

    def finish_round(self) -> None:
        """Write weights and optimizer states back to the agents, to be saved."""

    def state_dict(self) -> dict[str, Any]:
        """The updater's own state, plain values and tensors, as a part of the checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""


class PlainUpdater:
    """Runs one update after another.

    Args:
        agent: what learns.
        loss_function: the loss of a batch.
        optimizer: steps the weights.
        prepare: compiles the moves of targets and the optimizer's steps.
    """

    def __init__(
        self,
        agent: Agent,
        loss_function: LossFunction,
        optimizer: torch.optim.Optimizer,
        prepare: Callable[[Callable[[], Any]], Callable[[], Any]] = lambda step: step,
        *,
        ranks: Ranks = ALONE,
    ) -> None:
        self.agent, self.loss_function, self.optimizer = agent, loss_function, optimizer
        self.step, self.move = prepare(optimizer.step), prepare(self.move_targets)
        self.moves = agent.target_pairs()
        self.ranks = ranks

    def run(self, batches: dict[str, Tensor], first: int, count: int) -> dict[str, Tensor]:
        """Run updates ``first`` to ``first + count - 1`` on batches (count, batch, ...); return their mean diagnostics."""
        info = mean([self.update(one(batches, index), first + index) for index in range(count)])
        self.ranks.average(list(info.values()))
        return info

    def update(self, batch: Batch, number: int = 0) -> dict[str, Tensor]:
        """Update ``number``: a gradient step on the loss; targets and running state move. Returns diagnostics."""
        loss, info = self.loss_function(self.ranks.part(batch))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.average_gradients(self.optimizer)
        skip_waiting(self.optimizer, number)
        self.move()  # Towards the weights before the step, as OGBench's targets do.
        self.step()
        self.set_state(info)
        return diagnostics(info)

    def move_targets(self) -> None:
        """Move the targets of the agent."""
        for targets, sources, rate in self.moves:
            move_targets(targets, sources, rate)

    def set_state(self, info: Mapping[str, Tensor]) -> None:
        """Set the running state of the agent to the values that its loss returned."""
        with torch.no_grad():
            for name, value in next_state(info).items():
                self.buffers()[name].copy_(value)

    def buffers(self) -> dict[str, Tensor]:
        """The running state of the agent, by name."""
        return dict(self.agent.named_buffers())  # type: ignore[attr-defined]

    def tensors(self) -> list[Tensor]:
        """All tensors that an update may change: weights, targets and running state."""
        return [*self.agent.parameters(), *self.buffers().values()]  # type: ignore[attr-defined]

    def finish_round(self) -> None:
        """Do nothing: the agent has its weights already."""

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Ignore the state, which is empty."""


def skip_waiting(optimizer: torch.optim.Optimizer, number: int) -> None:
    """Drop the gradients of parameter groups that do not step at this update, so that Adam leaves them as they are.

    A gradient of zero would not do: Adam would still step by its momentum, and decay it.
    """
    for group in optimizer.param_groups:
        if (number + 1) % group.get(EVERY, 1):
            for parameter in group["params"]:
                parameter.grad = None


def period(optimizer: torch.optim.Optimizer) -> int:
    """Number of updates after which the same parameter groups step again."""
    return math.lcm(*(group.get(EVERY, 1) for group in optimizer.param_groups))


def diagnostics(info: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The diagnostics among the values that a loss returned, without the running state."""
    return {name: value for name, value in info.items() if not name.startswith(STATE)}


def next_state(info: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values that a loss returned for the running state, by the name of the buffer."""
    return {
        name.removeprefix(STATE): value for name, value in info.items() if name.startswith(STATE)
    }


def one(batches: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """One batch of several."""
    return {name: values[index] for name, values in batches.items()}


def mean(infos: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each diagnostic."""
    return {name: torch.stack([info[name] for info in infos]).mean(0) for name in infos[0]}
