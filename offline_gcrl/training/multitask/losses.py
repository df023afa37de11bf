"""Losses per task of a batch, and weights of its transitions that combine them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from offline_gcrl.agents import Batch, Losses
from offline_gcrl.training.updates import diagnostics


def counts(tasks: Tensor, number: int) -> Tensor:
    """Number of transitions per task: task numbers (..., batch) to (..., number)."""
    return _one_hot(tasks, number).sum(-2)


def transition_weights(tasks: Tensor, weights: Tensor) -> Tensor:
    """Weights of transitions whose weighted sum is the weighted sum of the means of tasks.

    Args:
        tasks: task numbers (..., batch).
        weights: (tasks,), weights of the mean losses of tasks.

    Returns:
        (..., batch): w_i / n_i for a transition of task i, where the batch has n_i transitions of task i.
    """
    each = weights / counts(tasks, len(weights)).clamp(min=1)
    return each.gather(-1, tasks)


def losses_by_task(
    loss_function: Callable[[Batch], Losses],
    batch: Batch,
    number: int,
    on_info: Callable[[Mapping[str, Tensor]], None] = lambda info: None,
) -> list[Losses | None]:
    """Loss and diagnostics of each task on its own transitions; None for a task without transitions in the batch.

    Forward passes of the parts of a batch cost little more than one of the complete batch. One forward pass with
    weights per task gives the same gradients, but needs a backward pass of the complete batch per task: on 10 tasks
    it took longer, and more so for larger networks.

    ``on_info`` is called with everything that the loss of a task returned, running state included, before the next.
    """
    found: list[Losses | None] = []
    for task in range(number):
        own = (batch["tasks"] == task).nonzero()[:, 0]
        if len(own) == 0:
            found.append(None)
            continue
        loss, info = loss_function({name: values[own] for name, values in batch.items()})
        on_info(info)
        found.append((loss, diagnostics(info)))
    return found


def stacked(found: list[Losses | None]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Losses, diagnostics and presence of tasks as detached tensors (tasks,); 0 for tasks without transitions."""
    first = next(one for one in found if one is not None)
    nothing = torch.zeros_like(first[0].detach())
    losses = torch.stack([one[0].detach() if one else nothing for one in found])
    info = {
        name: torch.stack([one[1][name] if one else nothing for one in found]) for name in first[1]
    }
    present = torch.tensor([one is not None for one in found], device=losses.device)
    return losses, info, present


def means_by_task(values: Tensor, tasks: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Mean of values (batch,) per task, and whether the batch contains the task: both (tasks,)."""
    members = _one_hot(tasks, number).to(values.dtype)
    size = members.sum(0)
    return values @ members / size.clamp(min=1.0), size > 0


def _one_hot(tasks: Tensor, number: int) -> Tensor:
    return (tasks[..., None] == torch.arange(number, device=tasks.device)).long()
