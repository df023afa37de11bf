"""Updates on several tasks: with weighted transitions, or with one gradient per task."""

from typing import Any

import torch
from torch import Tensor

from offline_gcrl.agents import Agent, Batch
from offline_gcrl.training.multitask.gradients import (
    Combination,
    GradNorm,
    set_gradients,
    task_gradients,
)
from offline_gcrl.training.multitask.losses import (
    counts,
    losses_by_task,
    stacked,
    transition_weights,
)
from offline_gcrl.training.ranks import ALONE, Ranks
from offline_gcrl.training.updates import LossFunction, PlainUpdater, skip_waiting


class WeightedUpdater(PlainUpdater):
    """Descends on sum_i w_i J_i by plain updates on batches with weighted transitions."""

    def __init__(
        self,
        agent: Agent,
        loss_function: LossFunction,
        optimizer: torch.optim.Optimizer,
        weights: Tensor,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(agent, loss_function, optimizer, ranks=ranks)
        self.weights = weights
        """(tasks,), weights that sum to 1."""

    def run(self, batches: dict[str, Tensor], first: int, count: int) -> dict[str, Tensor]:
        """Run updates ``first`` to ``first + count - 1`` on batches (count, batch, ...); return their mean diagnostics."""
        # Of the global batch; the mean over ranks of sums over slices is then the sum over the batch.
        weights = transition_weights(batches["tasks"], self.weights) * self.ranks.world
        return super().run({**batches, "weights": weights}, first, count)


class TaskGradientUpdater(PlainUpdater):
    """Computes the gradient of each task's loss, and steps by a combination of them."""

    def __init__(
        self,
        agent: Agent,
        optimizer: torch.optim.Optimizer,
        combine: Combination,
        *,
        tasks: int,
        weights: Tensor | None = None,
        gradnorm: GradNorm | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(agent, agent.loss, optimizer, ranks=ranks)
        self.combine, self.tasks = combine, tasks
        self.weights, self.gradnorm = weights, gradnorm

    def update(self, batch: Batch, number: int = 0) -> dict[str, Tensor]:
        """Update ``number``: a step, and the targets move. Returns diagnostics."""
        own = self.ranks.part(batch)
        found = losses_by_task(self.agent.loss, own, self.tasks, self.set_state)
        losses, info, present = stacked(found)
        matrices = task_gradients(found, self.agent)
        if self.ranks.world > 1:
            present = self._add_ranks(batch, own, [losses, *info.values(), *matrices.values()])
        weights = self._weights(batch["tasks"])
        if self.gradnorm is not None:
            squared = [matrix.square().sum(1) for matrix in matrices.values()]
            norms = torch.stack(squared).sum(0).sqrt()
            self.gradnorm.learn(losses, norms, present)
        weighted = weights[present, None]
        set_gradients(
            self.agent,
            {
                name: self.combine(weighted * matrix[present], number)
                for name, matrix in matrices.items()
            },
        )
        skip_waiting(self.optimizer, number)
        self.move_targets()
        self.optimizer.step()
        shares = weights * present / (weights * present).sum()
        return {name: (values * shares).sum() for name, values in info.items()}

    def _add_ranks(self, batch: Batch, own: Batch, means: list[Tensor]) -> Tensor:
        """Replace means of tasks on each rank's slice, (tasks, ...), by those of the global batch.

        Returns:
            (tasks,), whether the global batch contains the task.
        """
        total = counts(batch["tasks"], self.tasks)
        shares = counts(own["tasks"], self.tasks) / total.clamp(min=1)
        for values in means:
            values.mul_(shares.view(-1, *[1] * (values.ndim - 1)))
        self.ranks.add(means)
        return total > 0

    def _weights(self, tasks: Tensor) -> Tensor:
        """(tasks,), weights for this batch: given, learned, or the shares of tasks in the batch."""
        if self.gradnorm is not None:
            return self.gradnorm.weights / self.tasks
        if self.weights is not None:
            return self.weights
        return counts(tasks, self.tasks) / tasks.shape[-1]

    def state_dict(self) -> dict[str, Any]:
        """The learned weights."""
        return {"gradnorm": self.gradnorm.state_dict()} if self.gradnorm is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load them."""
        if self.gradnorm is not None:
            self.gradnorm.load_state_dict(state["gradnorm"])
