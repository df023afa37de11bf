"""Reading of blocks of transitions into memory, with the states and goals that they need.

Rows are numbered within what is read: first the states of all blocks, then their desired goals if the data has any, then the
goals in other episodes. A batch of the same transitions has the same values as one of the complete data.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.training.batches.blocks import Blocks, Rows, in_other_episodes, starts_of
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.draw import Transitions
from offline_gcrl.training.batches.in_tasks import ORDER_BYTES
from offline_gcrl.training.batches.storage import Mapped, TensorFile
from offline_gcrl.training.batches.tables import INT32_ROWS, GoalTable

Room = dict[str, NDArray[Any]]
"""Memory for blocks, by field."""


@dataclass(frozen=True)
class ResidentArrays:
    """States and goals in memory, as ``data.Arrays``."""

    observations: Tensor
    actions: Tensor
    raw_goals: Tensor
    goals: Tensor

    @property
    def device(self) -> torch.device:
        """The processor."""
        return self.observations.device

    def __len__(self) -> int:
        """Number of states."""
        return len(self.observations)


class BlockReader:
    """Reads blocks of the transitions of a sampler.

    Args:
        data: in mapped files, and without images.
        transitions: of the sampler.
        blocks: of these transitions.
    """

    def __init__(self, data: DeviceData, transitions: Transitions, blocks: Blocks) -> None:
        assert isinstance(data.storage, Mapped)
        self.data, self.transitions, self.blocks = data, transitions, blocks
        states, goals = map(data.storage.files, data.names)
        self.states, self.raw = states, goals["raw"]
        self.has_desired = self.raw.rows > len(data)
        self.normalises = data.scaling.normalise
        spoken = transitions.spoken
        self.captions = spoken.sentences.captions if spoken and spoken.has_captions else None

    @property
    def bytes_of_blocks(self) -> Rows:
        """Bytes that each block takes, (B,)."""
        return self._bytes(self.blocks.rows, np.diff(self.blocks.first), self._far)

    @property
    def bytes_of_place(self) -> int:
        """Bytes of memory for any block."""
        return int(self._bytes(*self._largest))

    @property
    def _far(self) -> Rows:
        """Goals in other episodes of each block, (B,)."""
        return sum(map(np.diff, self.blocks.far.values()), np.zeros_like(self.blocks.rows))

    @property
    def _largest(self) -> Rows:
        """Largest numbers of states, transitions, and goals in other episodes of a block, (3,)."""
        sizes = (self.blocks.rows, np.diff(self.blocks.first), self._far)
        return np.array([size.max() for size in sizes])

    def _bytes(self, rows: Rows, transitions: Rows, far: Rows) -> Rows:
        goal = self.raw.row_bytes * (2 if self.normalises else 1)
        state = sum(file.row_bytes for file in self.states.values())
        attributes = len(self.captions.names) if self.captions else 0
        row = state + attributes + goal * (2 if self.has_desired else 1)
        transition = sum(file.row_bytes for file in self.blocks.files.values()) + ORDER_BYTES
        return rows * row + transitions * transition + far * goal

    def room(self, places: int) -> Room:
        """Memory for any ``places`` blocks."""
        rows, transitions, far = (int(size) for size in self._largest * places)
        goals = rows * (2 if self.has_desired else 1) + far
        room = {name: _empty(file, rows) for name, file in self.states.items()}
        room |= {name: _empty(file, transitions) for name, file in self.blocks.files.items()}
        if goals >= INT32_ROWS:
            wide = [f"{purpose}-goals" for purpose in self.blocks.far]
            room |= {name: room[name].astype(np.int64) for name in wide}
        room["raw"] = _empty(self.raw, goals)
        room["normalised"] = _empty(self.raw, goals) if self.normalises else room["raw"]
        names = self.captions.names if self.captions else ()
        return room | {"attributes": np.empty((rows, len(names)), np.uint8)}

    def read(self, numbers: Rows, room: Room) -> tuple[Transitions, Rows]:
        """Read blocks with ascending numbers, which replace what was read into the same memory before.

        Memory that is used again is faster than new memory, and that of the process does not grow.

        Returns:
            The transitions, whose ``data`` is what was read; and the first transition of each block.
        """
        reading = _Reading(self, numbers, room)
        for number in numbers:
            reading.add(int(number))
        return reading.transitions(), reading.first


class _Reading:
    """Memory that is filled block by block."""

    def __init__(self, reader: BlockReader, numbers: Rows, room: Room) -> None:
        blocks = reader.blocks
        self.reader, self.blocks = reader, blocks
        sizes = np.diff(blocks.first)[numbers]
        self.first = np.append(0, sizes.cumsum()[:-1])
        """(blocks,): the first transition of each block."""
        self.rows = int(blocks.rows[numbers].sum())
        far = {purpose: int(np.diff(ends)[numbers].sum()) for purpose, ends in blocks.far.items()}
        self.at_goal, end = {}, self.rows * (2 if reader.has_desired else 1)
        """The next place for a goal in another episode, by purpose."""
        for purpose, count in far.items():
            self.at_goal[purpose], end = end, end + count
        self.own = {name: room[name][: self.rows] for name in reader.states}
        self.raw, self.normalised = room["raw"][:end], room["normalised"][:end]
        self.table = {name: room[name][: int(sizes.sum())] for name in blocks.files}
        self.attributes = room["attributes"][: self.rows]
        self.at_row = self.at_transition = 0

    def add(self, number: int) -> None:
        """Read the next block."""
        start, stop = self.blocks.first[number : number + 2]
        part = {name: file.read(start, stop) for name, file in self.blocks.files.items()}
        begin = starts_of(part["first_row"])
        first, last = part["first_row"][begin], part["last_row"][begin]
        length = last - first + 1
        place = self.at_row + length.cumsum() - length
        self._add_rows(first, length)
        shift = np.repeat(place - first, np.diff(np.append(begin, stop - start)))
        for purpose in self.blocks.far:
            self._add_goals(number, purpose, part, shift)
        for name in ("row", "first_row", "last_row"):
            part[name] = part[name] + shift
        for name, values in part.items():
            self.table[name][self.at_transition : self.at_transition + len(values)] = values
        self.at_row += int(length.sum())
        self.at_transition += int(stop - start)

    def _add_rows(self, first: Rows, length: Rows) -> None:
        """Read the states and goals of episodes, which are at ``first`` and have ``length`` rows."""
        reader, here = self.reader, self.at_row
        low, high = int(first[0]), int(first[-1] + length[-1])
        shift = first - low - (length.cumsum() - length)
        kept = np.repeat(shift, length) + np.arange(length.sum())
        there = here + len(kept)
        for name, file in reader.states.items():
            self.own[name][here:there] = file.read(low, high)[kept]
        achieved = reader.raw.read(low, high)[kept]
        self._set_goals(here, achieved)
        if reader.has_desired:
            total = len(reader.data)
            desired = reader.raw.read(total + low, total + high)[kept]
            self._set_goals(self.rows + here, desired)
        if reader.captions:
            self.attributes[here:there] = reader.captions.values(achieved)

    def _add_goals(
        self, number: int, purpose: str, part: dict[str, NDArray[Any]], shift: Rows
    ) -> None:
        """Number the goals of a block within what is read, and read those in other episodes."""
        total, name = len(self.reader.data), f"{purpose}-goals"
        goals = part[name].astype(np.int64)
        far = in_other_episodes(goals, part["first_row"], part["last_row"], total)
        local = goals + shift[:, None] + np.where(goals >= total, self.rows - total, 0)
        start, stop = self.blocks.far[purpose][number : number + 2]
        here = self.at_goal[purpose]
        if stop > start:
            self._set_goals(here, self.blocks.far_goals[purpose].read(start, stop))
            local[far] = here + np.arange(stop - start)
        self.at_goal[purpose] = here + int(stop - start)
        part[name] = local

    def _set_goals(self, place: int, values: NDArray[np.float32]) -> None:
        self.raw[place : place + len(values)] = values
        if self.reader.normalises:
            goals = self.reader.data.scaling.goals(torch.from_numpy(values))
            self.normalised[place : place + len(values)] = goals.numpy()

    def transitions(self) -> Transitions:
        """The transitions of all blocks."""
        whole = self.reader.transitions
        table = {name: torch.from_numpy(values) for name, values in self.table.items()}
        arrays = ResidentArrays(
            torch.from_numpy(self.own["observations"]),
            torch.from_numpy(self.own["actions"]),
            torch.from_numpy(self.raw),
            torch.from_numpy(self.normalised),
        )
        tables = {
            purpose: GoalTable(
                table[f"{purpose}-goals"],
                table[f"{purpose}-rewards"],
                own.cumulative,
                table.get(f"{purpose}-instructions"),
                table.get(f"{purpose}-instruction_rewards"),
            )
            for purpose, own in whole.tables.items()
        }
        spoken = whole.spoken
        if spoken and self.reader.captions:
            spoken = replace(spoken, values_of_rows=torch.from_numpy(self.attributes))
        return replace(
            whole,
            data=arrays,
            rows=table["row"],
            first_row=table["first_row"],
            last_row=table["last_row"],
            task=table["task"],
            tables=tables,
            spoken=spoken,
        )


def _empty(file: TensorFile, rows: int) -> NDArray[Any]:
    return np.empty((rows, *file.shape), file.kind)
