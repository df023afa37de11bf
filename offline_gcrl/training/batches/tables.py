"""The transitions that a sampler draws from, with the goals of each: columns of the hindsight table.

They are read in parts of consecutive transitions, so that reading takes no more memory than the result.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Mixture
from offline_gcrl.config.outputs import TABLE
from offline_gcrl.episodes.dataset import EpisodeIndex
from offline_gcrl.goals.held_out import NONE_LEFT, usable_columns
from offline_gcrl.goals.instructions import NONE
from offline_gcrl.hindsight.captions import instruction_column, instruction_reward_column
from offline_gcrl.hindsight.table import goal_column, reward_column
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.tables import columns_of, iterate_batches, rows_of
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.storage import Tensors

TRANSITIONS_PER_PART = 2**18
INT32_ROWS = 2**31
Instructions = Literal["none", "with_goals", "only"]
"""Whether sentences are read: ``none``; ``with_goals``, where there are any; ``only``, and goals without a sentence are not
used."""
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
    instructions: Tensor | None = None
    """(N, columns) int32: numbers of sentences, -1 for none; None if they are not read."""
    instruction_rewards: Tensor | None = None
    """(N, columns): the labels of the sentences."""


class NoneLeftError(DataError):
    """No transition of a split has a goal that may be used."""


@dataclass(frozen=True)
class Chosen:
    """The transitions of one split, or of one task of it, and the mixtures that their goals are drawn from."""

    split: str
    task: str | None
    by_purpose: Mapping[str, Mixture]
    """By purpose; those of purposes without goals are missing."""
    instructions: Instructions = "none"

    @property
    def name(self) -> str:
        """A name for the files of these transitions."""
        mixtures = sorted((k, dict(v)) for k, v in self.by_purpose.items())
        words = repr((self.split, self.task, mixtures, self.instructions))
        return f"{self.split}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def read_transitions(
    hindsight: Path, data: DeviceData, chosen: Chosen
) -> tuple[Tensors, dict[str, GoalTable]]:
    """Read the chosen transitions and the columns of their mixtures.

    Returns:
        ``row``, ``first_row``, ``last_row`` and ``task``, (N,) each, as in ``draw.Transitions``; and the goals by purpose.

    Raises:
        DataError: the table belongs to another dataset, or lacks a strategy of a mixture.
        NoneLeftError: all goals are held out, or none has a sentence.
    """
    path = intact(hindsight / TABLE)
    columns = {purpose: _columns(path, mixture) for purpose, mixture in chosen.by_purpose.items()}
    index = data.episodes
    if rows_of(path) != index.table["length"].sum():
        raise DataError(f"{hindsight} is not the table of this dataset; run `dvc repro`")
    stored = data.storage.tensors(
        chosen.name,
        int(index.table["length"].sum()),
        lambda: _parts(path, data, chosen, columns),
    )
    if not stored:
        raise NoneLeftError(NONE_LEFT)
    tables = {
        purpose: GoalTable(
            stored.pop(f"{purpose}-goals"),
            stored.pop(f"{purpose}-rewards"),
            _cumulative(own).to(data.device),
            stored.pop(f"{purpose}-instructions", None),
            stored.pop(f"{purpose}-instruction_rewards", None),
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
    if chosen.instructions != "none":
        names |= {name for own in columns.values() for pair in own for name in _spoken(pair[1])}
    per_transition = _TransitionIndex(index, chosen)
    first = 0
    for read in iterate_batches(path, TRANSITIONS_PER_PART, sorted(names)):
        is_chosen, part = per_transition.between(first, first + len(read))
        first += len(read)
        numbers = {n: read[n].to_numpy(zero_copy_only=False)[is_chosen] for n in names}
        for purpose, own in columns.items():
            found = _goals(own, numbers, part["row"].numpy(), len(data))
            if chosen.instructions != "none":
                found |= _instructions(own, numbers, len(part["row"]))
            part |= {f"{purpose}-{kind}": values for kind, values in found.items()}
        needs = chosen.instructions == "only"
        if needs or held_out is not None:
            part = _usable(part, list(columns), held_out, needs_instructions=needs)
        yield part


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


def _spoken(reward: str) -> tuple[str, ...]:
    """The columns of sentences and their rewards next to a column of rewards; none for ``current``, which has none."""
    strategy, draw = reward.rsplit("_reward_", 1)
    if strategy == "current":
        return ()
    return instruction_column(strategy, int(draw)), instruction_reward_column(strategy, int(draw))


def _instructions(columns: Columns, numbers: dict[str, NDArray[np.generic]], count: int) -> Tensors:
    """Sentences, -1 for none, and their labels, of a part of the transitions for one mixture."""
    said, rewards = [], []
    for _, reward, _ in columns:
        names = _spoken(reward)
        own = numbers[names[0]].astype(np.int32) if names else np.full(count, NONE, np.int32)
        said.append(np.where(own == NONE, np.int32(-1), own))
        rewards.append(numbers[names[1]] if names else np.full(count, -1, np.int8))
    return {
        "instructions": torch.from_numpy(np.stack(said, 1)),
        "instruction_rewards": torch.from_numpy(np.stack(rewards, 1)),
    }


def _usable(
    part: Tensors, purposes: list[str], held_out: Tensor | None, *, needs_instructions: bool
) -> Tensors:
    """Take from a part goals that must not be used, and transitions that are left without a goal for any purpose.

    Args:
        part: columns of transitions.
        purposes: purposes of goals.
        held_out: which of all goals are held out, (goals,); None if none is.
        needs_instructions: whether goals without a sentence must not be used.
    """
    left = torch.ones(len(part["row"]), dtype=torch.bool)
    for purpose in purposes:
        goals = part[f"{purpose}-goals"]
        allowed = torch.ones_like(goals, dtype=torch.bool)
        if held_out is not None:
            allowed &= ~held_out[goals.long()]
        if needs_instructions:
            allowed &= part[f"{purpose}-instructions"] >= 0
        other, usable = usable_columns(allowed)
        for name in part:
            if name.startswith(f"{purpose}-"):
                part[name] = part[name].gather(1, other)
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
    known = columns_of(path).names
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
