"""The sampler: batches of one split of a dataset, or of one of its tasks."""

import copy
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Sampling, nearest
from offline_gcrl.episodes.dataset import EpisodeIndex
from offline_gcrl.hindsight.draws import uniform_tensor
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.draw import UNIT_BITS, Draw, Transitions, stream_keys
from offline_gcrl.training.batches.fields import FIELDS
from offline_gcrl.training.batches.tables import read_table, without_held_out_goals


class BatchSampler:
    """Makes batches with the fields that an agent asks for.

    Goals that the recipe holds out are never drawn, nor are transitions that are left without a goal.

    Raises:
        DataError: the hindsight table does not belong to the dataset, or all goals are held out.
        SettingsError: the agent asks for a field that does not exist.
    """

    def __init__(
        self,
        data: DeviceData,
        hindsight: Path,
        sampling: Sampling,
        *,
        split: str,
        batch_size: int,
        seed: int,
        task: str | None = None,
    ) -> None:
        check_fields(sampling)
        self.data, self.sampling, self.batch_size = data, sampling, batch_size
        self.keys = stream_keys(seed, data.device)
        self.transitions = _transitions(data, hindsight, sampling, split, task)

    def __len__(self) -> int:
        """Number of transitions to draw from."""
        return len(self.transitions.rows)

    def of_seed(self, seed: int) -> "BatchSampler":
        """The sampler of another seed, on the same data and tables."""
        other = copy.copy(self)
        other.keys = stream_keys(seed, self.data.device)
        return other

    @cached_property
    def by_task(self) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions in the order of their tasks; where each task begins there, and how many it has."""
        task = self.transitions.task
        count = torch.bincount(task, minlength=self.data.dimensions.tasks)
        return torch.argsort(task, stable=True), count.cumsum(0) - count, count

    def batches(
        self, first: int, count: int, task_shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The batches of steps ``first`` to ``first + count - 1``: tensors (count, batch, ...).

        With ``task_shares`` (tasks,), probabilities, a task is drawn first and then one of its transitions;
        without, every transition is as likely as any other. Tasks of no transitions are never drawn.
        """
        draw = self.draw(first, count, task_shares)
        return {name: FIELDS[name](draw) for name in self.sampling.fields}

    def draw(self, first: int, count: int, task_shares: Tensor | None = None) -> Draw:
        """What the batches of steps ``first`` to ``first + count - 1`` are read from."""
        step = torch.arange(first, first + count, device=self.data.device)[:, None]
        counter = step * self.batch_size + torch.arange(self.batch_size, device=self.data.device)
        pick = self._pick(counter, task_shares)
        return Draw(self.transitions, self.sampling, self.keys, counter, step, pick)

    def _pick(self, counter: Tensor, task_shares: Tensor | None) -> Tensor:
        transition, units = self.keys["transition"], UNIT_BITS
        if task_shares is None:
            return uniform_tensor(transition, counter, len(self))
        order, begin, size = self.by_task
        shares = task_shares.double() * (size > 0)  # Rounding must not draw a task of share 0.
        cumulative = (shares / shares.sum()).cumsum(0)[:-1]
        unit = uniform_tensor(self.keys["task"], counter, units).float() / units
        task = torch.searchsorted(cumulative, unit.double(), right=True)
        return order[begin[task] + uniform_tensor(transition, counter, size[task])]


def check_fields(sampling: Sampling) -> None:
    """Check that the fields that an agent asks for exist.

    Raises:
        SettingsError: naming the field and the nearest one.
    """
    for name in sampling.fields:
        if name not in FIELDS:
            raise SettingsError(
                f"an agent asks for the batch field '{name}', which does not exist{nearest(name, FIELDS)}; "
                "fields are functions in offline_gcrl/training/batches/fields.py"
            )


def _transitions(
    data: DeviceData, hindsight: Path, sampling: Sampling, split: str, task: str | None
) -> Transitions:
    episodes = data.episodes
    rows = episodes.transition_rows(split, task)
    mixtures = {
        "actor_goal": sampling.actor_goals,
        "value_goal": sampling.value_goals,
        "representation_goal": sampling.representation_goals,
    }
    tables = {
        purpose: read_table(hindsight, data, rows, mixture)
        for purpose, mixture in mixtures.items()
        if mixture
    }
    if episodes.held_out:
        tables, left = without_held_out_goals(tables, data.held_out)
        rows = rows[left.cpu().numpy()]
    return Transitions(
        data=data,
        rows=data.tensor(rows),
        last_row=data.tensor(_last_row(episodes)[rows]),
        first_row=data.tensor(episodes.per_row("first_row")[rows]),
        task=data.tensor(_task_numbers(episodes)[rows]),
        tables=tables,
        success=episodes.goal.success,
    )


def _last_row(episodes: EpisodeIndex) -> NDArray[np.int64]:
    return episodes.per_row("first_row") + episodes.per_row("length").astype(np.int64)


def _task_numbers(episodes: EpisodeIndex) -> NDArray[np.int64]:
    tasks = episodes.schema["tasks"]
    numbers = [tasks.index(task) for task in episodes.table["task"]]
    return np.repeat(np.array(numbers, dtype=np.int64), episodes.table["length"].to_numpy() + 1)
