"""The sampler: batches of one split of a dataset, or of one of its tasks."""

import copy
import math
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from offline_gcrl.config import Sampling, nearest
from offline_gcrl.config.outputs import EMBEDDING
from offline_gcrl.hindsight.draws import uniform_tensor
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.draw import Draw, Transitions, stream_keys
from offline_gcrl.training.batches.fields import FIELDS
from offline_gcrl.training.batches.in_tasks import InTasks, in_tasks
from offline_gcrl.training.batches.spoken import read_spoken
from offline_gcrl.training.batches.tables import Chosen, read_transitions


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
    def by_task(self) -> InTasks:
        """Transitions in the order of their tasks."""
        name, number = self.transitions.name, self.data.dimensions.tasks
        return in_tasks(self.transitions.task, number, self.data.storage, name)

    @property
    def image_bytes(self) -> int:
        """Bytes of the images in a batch, as numbers that networks read; 0 without images."""
        if self.data.image_shape is None:
            return 0
        fields = sum(name.endswith(("observations", "goals")) for name in self.sampling.fields)
        return 4 * math.prod(self.data.image_shape) * self.batch_size * fields

    def batches(
        self, first: int, count: int, task_shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The batches of steps ``first`` to ``first + count - 1``: tensors (count, batch, ...).

        With ``task_shares`` (tasks,), probabilities, a task is drawn first and then one of its transitions;
        without, every transition is as likely as any other. Tasks of no transitions are never drawn.
        """
        return self.read(self.draw(first, count, task_shares))

    def probes(
        self, first: int, count: int, task_shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Batches for measurements, as ``batches`` of steps that training does not use."""
        return BatchSampler.batches(self, first, count, task_shares)

    def read(self, draw: Draw) -> dict[str, Tensor]:
        """The fields that the agent asks for, (count, batch, ...), on the device of batches."""
        target = self.data.target
        return {name: FIELDS[name](draw).to(target) for name in self.sampling.fields}

    def draw(self, first: int, count: int, task_shares: Tensor | None = None) -> Draw:
        """What the batches of steps ``first`` to ``first + count - 1`` are read from."""
        step, counter = self.numbers(first, count)
        pick = self._pick(counter, task_shares)
        return Draw(self.transitions, self.sampling, self.keys, counter, step, pick)

    def numbers(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Numbers of the updates, (count, 1), and of the transitions of their batches, (count, batch)."""
        step = torch.arange(first, first + count, device=self.data.device)[:, None]
        within = torch.arange(self.batch_size, device=self.data.device)
        return step, step * self.batch_size + within

    def _pick(self, counter: Tensor, task_shares: Tensor | None) -> Tensor:
        if task_shares is None:
            return uniform_tensor(self.keys["transition"], counter, len(self))
        return self.by_task.pick(self.keys, counter, task_shares)


def check_fields(sampling: Sampling) -> None:
    """Check that the fields that an agent asks for exist.

    Raises:
        SettingsError: naming the field and the nearest one.
    """
    for name in sampling.fields:
        if name not in FIELDS:
            raise SettingsError(
                f"an agent asks for the batch field '{name}', which does not exist; {nearest(name, FIELDS)}; "
                "fields are functions in offline_gcrl/training/batches/fields.py"
            )


def _transitions(
    data: DeviceData, hindsight: Path, sampling: Sampling, split: str, task: str | None
) -> Transitions:
    mixtures = {
        "actor_goal": sampling.actor_goals,
        "value_goal": sampling.value_goals,
        "representation_goal": sampling.representation_goals,
    }
    used = {purpose: mixture for purpose, mixture in mixtures.items() if mixture}
    spoken = read_spoken(hindsight, data, sampling.speech) if sampling.speech else None
    instructions = spoken.kept if spoken else "none"
    chosen = Chosen(split, task, used, instructions)
    positions, tables = read_transitions(hindsight, data, chosen)
    return Transitions(
        data=data,
        rows=positions["row"],
        last_row=positions["last_row"],
        first_row=positions["first_row"],
        task=positions["task"],
        tables=tables,
        success=data.episodes.goal.success,
        spoken=spoken,
        embedded=(hindsight / EMBEDDING).exists(),
        name=chosen.name,
    )
