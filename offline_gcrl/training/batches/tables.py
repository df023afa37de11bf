"""The transitions that a sampler draws from, with the goals of each: columns of the hindsight table.

They are read in parts of consecutive transitions, so that reading takes no more memory than the result.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Mixture
from offline_gcrl.config.outputs import TABLE
from offline_gcrl.episodes.dataset import EpisodeIndex
from offline_gcrl.goals.held_out import NONE_LEFT, without_held_out
from offline_gcrl.hindsight.relabel import goal_column, reward_column
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import DataError
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.storage import Tensors

TRANSITIONS_PER_PART = 2**18
INT32_ROWS = 2**31
Columns = list[tuple[str | None, str, float]]
"""(goal column, reward column, share) of each draw of each strategy in a mixture."""


@dataclass(frozen=True)
class GoalTable:
    """Goals and labels of N transitions, a column per draw of each strategy of the mixture."""

    goals: Tensor
    """(N, columns) int32, or int64 where there are 2^31 goals: rows of all goals, achieved goals first, then desired
    goals."""
    rewards: Tensor
    """(N, columns): the labels."""
    cumulative: Tensor
    """(columns - 1,): cumulative probabilities of the columns, without the last, which is 1."""


@dataclass(frozen=True)
class Chosen:
    """The transitions of one split, or of one task of it, and the mixtures that their goals are drawn from."""

    split: str
    task: str | None
    by_purpose: Mapping[str, Mixture]
    """By purpose; those of purposes without goals are missing."""

    @property
    def name(self) -> str:
        """A name for the files of these transitions."""
        words = repr(
            (self.split, self.task, sorted((k, dict(v)) for k, v in self.by_purpose.items()))
        )
        return f"{self.split}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def read_transitions(
    hindsight: Path, data: DeviceData, chosen: Chosen
) -> tuple[Tensors, dict[str, GoalTable]]:
    """Read the chosen transitions and the columns of their mixtures.

    Returns:
        ``row``, ``first_row``, ``last_row`` and ``task``, (N,) each, as in ``draw.Transitions``; and the goals by purpose.

    Raises:
        DataError: the table belongs to another dataset, or lacks a strategy of a mixture; or all goals are held out.
    """
    path = intact(hindsight / TABLE)
    columns = {purpose: _columns(path, mixture) for purpose, mixture in chosen.by_purpose.items()}
    index = data.episodes
    if pq.read_metadata(path).num_rows != index.table["length"].sum():
        raise DataError(f"{hindsight} is not the table of this dataset; run `dvc repro`")
    stored = data.storage.tensors(
        chosen.name,
        int(index.table["length"].sum()),
        lambda: _parts(path, data, chosen, columns),
    )
    if not stored:
        raise DataError(NONE_LEFT)
    tables = {
        purpose: GoalTable(
            stored.pop(f"{purpose}-goals"), stored.pop(f"{purpose}-rewards"), _cumulative(own).to(data.device)
        )
        for purpose, own in columns.items()
    }  # fmt: skip
    return stored, tables


def _parts(
    path: Path, data: DeviceData, chosen: Chosen, columns: Mapping[str, Columns]
) -> Iterator[Tensors]:
    """The transitions in parts, without held-out goals."""
    index = data.episodes
    held_out = data.held_out if index.held_out else None
    names = {name for own in columns.values() for pair in own for name in pair[:2] if name}
    per_transition = _TransitionIndex(index, chosen)
    with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
        first = 0
        for read in file.iter_batches(TRANSITIONS_PER_PART, columns=sorted(names), use_threads=False):  # fmt: skip
            is_chosen, part = per_transition.between(first, first + len(read))
            first += len(read)
            numbers = {n: read[n].to_numpy(zero_copy_only=False)[is_chosen] for n in names}
            part |= {
                f"{purpose}-{kind}": values
                for purpose, own in columns.items()
                for kind, values in _goals(own, numbers, part["row"].numpy(), len(data)).items()
            }
            yield part if held_out is None else _without_held_out(part, list(columns), held_out)


def _goals(
    columns: Columns, numbers: dict[str, NDArray[np.generic]], rows: NDArray[np.int64], total: int
) -> Tensors:
    """Goals and labels of a part of the transitions for one mixture."""
    goals, rewards = [], []
    for goal, reward, _ in columns:
        pursued = rows + total if reward == reward_column("original") else rows
        goals.append(pursued if goal is None else numbers[goal])
        rewards.append(numbers[reward])
    kind = np.int32 if 2 * total < INT32_ROWS else np.int64
    return {
        "goals": torch.from_numpy(np.stack(goals, 1).astype(kind)),
        "rewards": torch.from_numpy(np.stack(rewards, 1)),
    }


def _without_held_out(part: Tensors, purposes: list[str], held_out: Tensor) -> Tensors:
    """Take held-out goals from a part, and transitions that are left without a goal for any purpose."""
    left = torch.ones(len(part["row"]), dtype=torch.bool)
    for purpose in purposes:
        other, usable = without_held_out(part[f"{purpose}-goals"], held_out)
        for kind in ("goals", "rewards"):
            part[f"{purpose}-{kind}"] = part[f"{purpose}-{kind}"].gather(1, other)
        left &= usable
    return {name: values[left] for name, values in part.items()}


class _TransitionIndex:
    """Where transitions are in the steps, given their numbers in the hindsight table."""

    def __init__(self, index: EpisodeIndex, chosen: Chosen) -> None:
        table, tasks = index.table, index.schema["tasks"]
        self.length = table["length"].to_numpy().astype(np.int64)
        self.end = self.length.cumsum()
        self.first_row = table["first_row"].to_numpy()
        self.task = np.array([tasks.index(task) for task in table["task"]], dtype=np.int64)
        self.is_chosen = (table["split"] == chosen.split).to_numpy()
        if chosen.task is not None:
            self.is_chosen &= (table["task"] == chosen.task).to_numpy()

    def between(self, first: int, stop: int) -> tuple[NDArray[np.bool_], Tensors]:
        """Which transitions from ``first`` to ``stop`` are chosen, (stop - first,); and the positions of these."""
        number = np.arange(first, stop)
        episode = np.searchsorted(self.end, number, side="right")
        is_chosen = self.is_chosen[episode]
        number, episode = number[is_chosen], episode[is_chosen]
        start, length = self.first_row[episode], self.length[episode]
        positions = {
            "row": start + number - (self.end[episode] - length),
            "first_row": start,
            "last_row": start + length,
            "task": self.task[episode],
        }
        return is_chosen, {name: torch.from_numpy(values) for name, values in positions.items()}


def _cumulative(columns: Columns) -> Tensor:
    shares = np.array([share for _, _, share in columns])
    return torch.tensor(np.cumsum(shares / shares.sum())[:-1], dtype=torch.float32)


def _columns(path: Path, mixture: Mixture) -> Columns:
    """The columns of a mixture.

    Raises:
        DataError: the table lacks a strategy.
    """
    known = pq.read_schema(path).names
    columns: Columns = []
    for strategy, share in mixture.items():
        count = sum(name.startswith(f"{strategy}_reward_") for name in known)
        if count == 0:
            raise DataError(
                f"{path} has no goals of strategy '{strategy}'; "
                "add it to relabel.strategies in params.yaml and run `dvc repro`"
            )
        for draw in range(count):
            goal = goal_column(strategy, draw)
            reward = reward_column(strategy, draw)
            columns.append((goal if goal in known else None, reward, share / count))
    return columns
