"""Blocks of whole episodes: consecutive transitions of a sampler that are read from its files together.

A goal in another episode, such as one of the strategy ``random``, is in another part of the files. The files of blocks
contain a copy of each of these goals, in the order of the transitions. So a block is read without any search for goals.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from offline_gcrl.training.batches.draw import Transitions
from offline_gcrl.training.batches.storage import ROWS_PER_PART, Mapped, TensorFile, Tensors

TRANSITIONS_PER_BLOCK = 2**16
"""A block has the episodes that begin within so many transitions, and so about this number of transitions."""
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """B blocks of the transitions of a sampler."""

    first: Rows
    """(B + 1,): the first transition of each block, then the number of transitions."""
    rows: Rows
    """(B,): number of states in the episodes of each block."""
    far: dict[str, Rows]
    """(B + 1,) by purpose: the first of the goals in other episodes of each block, then the number of these goals."""
    files: dict[str, TensorFile]
    """Positions and goals of the transitions, by field."""
    far_goals: dict[str, TensorFile]
    """The goals in other episodes, by purpose; purposes without any are missing."""


def read_blocks(transitions: Transitions, storage: Mapped) -> Blocks:
    """The blocks of the transitions of a sampler; the files with goals in other episodes are written once.

    Args:
        transitions: in mapped files.
        storage: of these files.
    """
    files = storage.files(transitions.name)
    name = f"{transitions.name}-blocks-{TRANSITIONS_PER_BLOCK}"
    first = _cuts(files["first_row"])
    stored = storage.tensors(name, len(first) - 1, partial(_measured, transitions, files, first))
    far = {
        purpose: np.append(0, stored[purpose].numpy().cumsum()) for purpose in transitions.tables
    }
    far_goals = {}
    for purpose, ends in far.items():
        if ends[-1]:
            own = f"{transitions.name}-far-{purpose}"
            parts = partial(_far_goals, transitions, files, first, purpose)
            storage.tensors(own, int(ends[-1]), parts)
            far_goals[purpose] = storage.files(own)["raw"]
    return Blocks(first, stored["rows"].numpy(), far, files, far_goals)


def in_other_episodes(
    goals: NDArray[np.integer], first_row: Rows, last_row: Rows, total: int
) -> NDArray[np.bool_]:
    """Which goals are neither achieved nor desired in the episode of their transition, (n, columns).

    Args:
        goals: (n, columns), rows of all goals.
        first_row: (n,), row of the first state of the episode.
        last_row: (n,), row of its last state.
        total: number of rows of the dataset.
    """
    row = np.where(goals >= total, goals - total, goals)
    outside: NDArray[np.bool_] = (row < first_row[:, None]) | (row > last_row[:, None])
    return outside


def starts_of(first_row: Rows, before: int = -1) -> Rows:
    """Positions in (n,) first rows where another episode begins, if the first one follows an episode at ``before``."""
    return np.flatnonzero(np.diff(first_row, prepend=before))


def _cuts(file: TensorFile) -> Rows:
    """The first transition of each block, then the number of transitions; they depend on the transitions alone."""
    starts, before = [], -1
    for first in range(0, file.rows, ROWS_PER_PART):
        values = file.read(first, min(first + ROWS_PER_PART, file.rows))
        starts.append(first + starts_of(values, before))
        before = int(values[-1])
    every = np.concatenate(starts)
    _, of_blocks = np.unique(every // TRANSITIONS_PER_BLOCK, return_index=True)
    return np.append(every[of_blocks], file.rows)


def _measured(
    transitions: Transitions, files: dict[str, TensorFile], first: Rows
) -> Iterator[Tensors]:
    """Numbers of states and of goals in other episodes, block by block."""
    for start, stop in pairwise(first):
        first_row, last_row = (files[name].read(start, stop) for name in ("first_row", "last_row"))
        begin = starts_of(first_row)
        measured = {"rows": int((last_row - first_row + 1)[begin].sum())}
        for purpose in transitions.tables:
            goals = files[f"{purpose}-goals"].read(start, stop)
            far = in_other_episodes(goals, first_row, last_row, len(transitions.data))
            measured[purpose] = int(far.sum())
        yield {name: torch.tensor([value]) for name, value in measured.items()}


def _far_goals(
    transitions: Transitions, files: dict[str, TensorFile], first: Rows, purpose: str
) -> Iterator[Tensors]:
    """Goals in other episodes, block by block, looked up in the order of their rows."""
    for start, stop in pairwise(first):
        goals, first_row, last_row = (
            files[name].read(start, stop) for name in (f"{purpose}-goals", "first_row", "last_row")
        )
        far = goals[in_other_episodes(goals, first_row, last_row, len(transitions.data))]
        rows, place = np.unique(far, return_inverse=True)
        if len(rows):
            found = transitions.data.raw_goals[torch.from_numpy(rows.astype(np.int64))]
            yield {"raw": found[torch.from_numpy(place)]}
