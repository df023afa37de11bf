"""Draws of a task first, and then of one of its transitions."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from offline_gcrl.hindsight.draws import uniform_tensor
from offline_gcrl.support.errors import DataError
from offline_gcrl.training.batches.draw import UNIT_BITS
from offline_gcrl.training.batches.storage import ROWS_PER_PART, Storage, Tensors

ORDER_BYTES = 8
"""Bytes per transition of their order by tasks."""


class InTasks(NamedTuple):
    """N transitions in the order of their tasks."""

    order: Tensor
    """(N,): numbers of the transitions."""
    begin: Tensor
    """(tasks,): where each task begins in ``order``."""
    size: Tensor
    """(tasks,): number of transitions of each task."""

    def pick(self, keys: Mapping[str, Tensor], counter: Tensor, shares: Tensor) -> Tensor:
        """Numbers of transitions, of the shape of ``counter``; tasks of no transitions are never drawn.

        Args:
            keys: of the random streams.
            counter: numbers of the transitions among those of all batches.
            shares: (tasks,), probabilities of the tasks.

        Raises:
            DataError: no task with a share has transitions; not on a GPU, where the check would wait for it.
        """
        # Rounding must not draw a task of share 0.
        shares = shares.to(self.size.device).double() * (self.size > 0)
        if shares.device.type == "cpu" and not shares.any():
            raise DataError(
                "the data has no transition to train on for the tasks that are trained on now: all their goals may be held "
                "out, or have no sentence, or the resident transitions lack them; change train.sequence or train.tasks"
            )
        cumulative = (shares / shares.sum()).cumsum(0)[:-1]
        unit = uniform_tensor(keys["task"], counter, UNIT_BITS).float() / UNIT_BITS
        task = torch.searchsorted(cumulative, unit.double(), right=True)
        within = uniform_tensor(keys["transition"], counter, self.size[task])
        return self.order[self.begin[task] + within]


def in_tasks(task: Tensor, number: int, storage: Storage, name: str) -> InTasks:
    """Order transitions by their tasks.

    Args:
        task: (N,), the task of each transition.
        number: number of tasks.
        storage: where the order is stored.
        name: of the transitions there.
    """

    def parts() -> Iterator[Tensors]:
        for one in range(number):
            for first in range(0, len(task), ROWS_PER_PART):
                own = (task[first : first + ROWS_PER_PART] == one).nonzero()[:, 0]
                if len(own):
                    yield {"order": own + first}

    size = torch.bincount(task, minlength=number)
    order = storage.tensors(f"{name}-by-task", len(task), parts)["order"]
    return InTasks(order, size.cumsum(0) - size, size)
