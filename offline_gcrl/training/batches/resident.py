"""Resident sets: parts of data larger than memory that are in memory in turn, and that batches are drawn from.

A set is used for a period of updates. It consists of blocks of whole episodes, which are read from files one after another,
while batches are drawn from the set before. Which blocks these are is a hash of (seed, period), so that a batch is still a
function of (seed, step).
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from offline_gcrl.config import Resident, Sampling
from offline_gcrl.hindsight.draws import uniform_tensor
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.memory import in_gib
from offline_gcrl.training.batches.blocks import Rows, read_blocks
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.draw import Draw, Transitions
from offline_gcrl.training.batches.in_tasks import InTasks, in_tasks
from offline_gcrl.training.batches.loading import BlockReader, Room
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.batches.storage import InMemory, Mapped

LEAST_BLOCKS = 8
"""Smallest number of blocks in a set: with fewer, transitions of a batch would be of few episodes."""
ROOM = 4
"""Blocks for which there must be memory in addition to two sets, while one is read."""


@dataclass(frozen=True)
class ResidentSet:
    """The blocks of a period in memory."""

    period: int
    transitions: Transitions
    """Of its blocks, whose rows are numbered within the set."""
    begin: Tensor
    """(m,): the first transition of the block of each place in the set."""
    size: Tensor
    """(m,): number of transitions of that block."""
    tasks: int
    """Number of tasks of the dataset."""

    @cached_property
    def by_task(self) -> InTasks:
        """Transitions in the order of their tasks."""
        return in_tasks(self.transitions.task, self.tasks, InMemory(), "resident")

    def pick(self, keys: Mapping[str, Tensor], counter: Tensor, shares: Tensor | None) -> Tensor:
        """Numbers of transitions, of the shape of ``counter``, by the shares of tasks if these are given."""
        if shares is not None:
            return self.by_task.pick(keys, counter, shares)
        place = uniform_tensor(keys["resident_block"], counter, len(self.size))
        return self.begin[place] + uniform_tensor(keys["transition"], counter, self.size[place])


class _Memory:
    """Memory for the set in use, and for the next one, which a thread reads."""

    def __init__(self) -> None:
        self.current: ResidentSet | None = None
        self.ahead: Future[ResidentSet] | None = None
        self.rooms: tuple[Room, Room] | None = None
        self.thread = ThreadPoolExecutor(1)


class ResidentSampler(BatchSampler):
    """Makes batches of transitions that are resident.

    A set has m places, and the transitions are divided into m equal parts in the order of the data. A place has the block of
    a transition that is drawn from its part. A batch takes a place at random, and a transition of its block. So over all
    periods every transition is as likely as any other, and a set has its share of each source and task.

    Args:
        data: in mapped files, and without images.
        hindsight: folder of the hindsight table.
        sampling: settings of the agent.
        resident: memory of sets and length of periods.
        split: of the dataset.
        batch_size: transitions in a batch.
        seed: training seed.
        updates: number of updates; sets of later ones are not read ahead.
        task: the only task; None for all.

    Raises:
        SettingsError: the memory is too small for sets of several blocks.
    """

    def __init__(
        self,
        data: DeviceData,
        hindsight: Path,
        sampling: Sampling,
        resident: Resident,
        *,
        split: str,
        batch_size: int,
        seed: int,
        updates: int,
        task: str | None = None,
    ) -> None:
        super().__init__(
            data, hindsight, sampling, split=split, batch_size=batch_size, seed=seed, task=task
        )
        assert isinstance(data.storage, Mapped)
        self.blocks = read_blocks(self.transitions, data.storage)
        self.reader = BlockReader(data, self.transitions, self.blocks)
        self.places = _places(self.reader, resident)
        self.period_updates, self.updates = resident.updates, updates
        self._memory = _Memory()

    def of_seed(self, seed: int) -> "ResidentSampler":
        """The sampler of another seed, on the same files."""
        other = super().of_seed(seed)
        assert isinstance(other, ResidentSampler)
        other._memory = _Memory()
        return other

    def batches(
        self, first: int, count: int, task_shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The batches of steps ``first`` to ``first + count - 1``, as of ``BatchSampler``, of resident transitions.

        With ``task_shares``, tasks that a set lacks are not drawn in its period.
        """
        # A draw is read before the next set replaces its transitions.
        parts = [self.read(draw) for draw in self._draws(first, count, task_shares)]
        if len(parts) == 1:
            return parts[0]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def resident(self, period: int) -> ResidentSet:
        """The set of a period, which is read unless it is in memory; the next one is then read ahead.

        It is valid until the set of another period is asked for.
        """
        memory = self._memory
        if memory.current is None or memory.current.period != period:
            ahead, memory.ahead = memory.ahead, None
            found = ahead.result() if ahead else None
            memory.current = None  # Its memory is used again.
            if found is None or found.period != period:
                found = self._read(period)
            memory.current = found
            if (period + 1) * self.period_updates < self.updates:
                memory.ahead = memory.thread.submit(self._read, period + 1)
        return memory.current

    def blocks_of(self, period: int) -> Rows:
        """Numbers of the blocks in a period, by place, (m,)."""
        ends = np.arange(self.places + 1, dtype=np.int64) * len(self) // self.places
        counter = period * self.places + torch.arange(self.places)
        part = torch.from_numpy(np.diff(ends))
        drawn = uniform_tensor(self.keys["resident_set"].cpu(), counter, part).numpy()
        found: Rows = np.searchsorted(self.blocks.first, ends[:-1] + drawn, side="right") - 1
        return found

    def _read(self, period: int) -> ResidentSet:
        """Read a set into the memory that the set before it does not use: sets of odd periods and of even ones have their own."""
        memory = self._memory
        if memory.rooms is None:
            memory.rooms = self.reader.room(self.places), self.reader.room(self.places)
        number, place = np.unique(self.blocks_of(period), return_inverse=True)
        transitions, begin = self.reader.read(number, memory.rooms[period % 2])
        size = np.diff(self.blocks.first)[number]
        own = torch.from_numpy(begin[place]), torch.from_numpy(size[place])
        return ResidentSet(period, transitions, *own, self.data.dimensions.tasks)

    def _draws(self, first: int, count: int, task_shares: Tensor | None) -> Iterator[Draw]:
        """Draws of the given steps, one for each period."""
        while count > 0:
            period, passed = divmod(first, self.period_updates)
            own = min(count, self.period_updates - passed)
            resident = self.resident(period)
            step, counter = self.numbers(first, own)
            pick = resident.pick(self.keys, counter, task_shares)
            yield Draw(resident.transitions, self.sampling, self.keys, counter, step, pick)
            first, count = first + own, count - own


def _places(reader: BlockReader, resident: Resident) -> int:
    """Number of places of a set.

    Raises:
        SettingsError: there are fewer than ``LEAST_BLOCKS``.
    """
    largest = reader.bytes_of_place
    places: int = (resident.memory // largest - ROOM) // 2
    if places < LEAST_BLOCKS:
        needed = largest * (2 * LEAST_BLOCKS + ROOM)
        raise SettingsError(
            f"params.yaml: train.resident.memory_gib: {resident.memory_gib:g} are too few for sets of {LEAST_BLOCKS} blocks of "
            f"this dataset, which need {in_gib(needed)}; set a larger number, or train.data: mapped"
        )
    return places
