"""A batch taken apart by tasks: the loss of each, from one forward pass."""

from collections.abc import Callable

import torch
from torch import Tensor

from offline_gcrl.agents import Batch, Losses


def counts(tasks: Tensor, number: int) -> Tensor:
    """How many transitions of each of ``number`` tasks: task numbers (..., batch) to (..., number)."""
    return _one_hot(tasks, number).sum(-2)


def transition_weights(tasks: Tensor, weights: Tensor) -> Tensor:
    """What makes of a sum over transitions the sum of weighted means of tasks.

    Args:
        tasks: task numbers (..., batch).
        weights: (tasks,), of the mean loss of each task.

    Returns:
        (..., batch): w_i / n_i for a transition of task i, which the batch has n_i of.
    """
    each = weights / counts(tasks, len(weights)).clamp(min=1)
    return each.gather(-1, tasks)


def losses_by_task(
    loss_function: Callable[[Batch], Losses], batch: Batch, number: int
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The mean loss of each task, its diagnostics, and which tasks the batch has.

    Only the weights of transitions differ between tasks, so all networks run once (``torch.vmap``). Means
    over the batch that a loss takes by itself, as diagnostics, are those of the whole batch for every task.

    Returns:
        losses (tasks,), diagnostics of (tasks,) each, and (tasks,) whether there is any transition of it; where
        there is none, loss and diagnostics are those of the whole batch.
    """
    members = _one_hot(batch["tasks"], number).T.float()  # (tasks, batch)
    size = members.sum(1, keepdim=True)
    rows = torch.where(size > 0, members / size.clamp(min=1.0), 1.0 / members.shape[1])
    losses, info = torch.vmap(lambda row: loss_function({**batch, "weights": row}))(rows)
    return losses, info, size[:, 0] > 0


def means_by_task(values: Tensor, tasks: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Mean of values (batch,) within each task, and which tasks there are: (tasks,) both."""
    members = _one_hot(tasks, number).to(values.dtype)
    size = members.sum(0)
    return values @ members / size.clamp(min=1.0), size > 0


def _one_hot(tasks: Tensor, number: int) -> Tensor:
    return (tasks[..., None] == torch.arange(number, device=tasks.device)).long()
