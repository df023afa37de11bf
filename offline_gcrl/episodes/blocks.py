"""Fast reading of episodes in blocks, directly from HDF5.

Opening the HDF5 datasets of an episode is the slowest part of reading it. This module therefore opens only the datasets
that are needed, with h5py's low-level calls, reads each one directly into its final array, and checks complete blocks. If
a block has an unexpected layout or fails a check, ``reading`` reads it again episode by episode with Minari, and either
succeeds or reports what is wrong with which episode.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import minari
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Recipe, Source, has_original_goals
from offline_gcrl.episodes.hdf5 import (
    NUMBERS_PER_BLOCK,
    ROWS_PER_BLOCK,
    TRANSITION_KEYS,
    UnexpectedLayoutError,
    raw_arrays,
)
from offline_gcrl.episodes.reading import (
    Episode,
    checked_columns,
    end_flags,
    episode_facts,
    read_episodes,
    validation_episodes,
)
from offline_gcrl.episodes.sources import taken_episodes
from offline_gcrl.goals.success import reaches

Facts = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """E checked episodes one after another, with R rows; an episode of T transitions has T + 1 rows."""

    vectors: dict[str, NDArray[np.float32]]
    """Arrays (R, size) by column; the action in the last row of an episode is zero."""
    reward: NDArray[np.float32]
    """(R,); zero in the last row of an episode."""
    lengths: NDArray[np.int64]
    """(E,); number of transitions of each episode."""
    terminated: list[bool]
    success: list[bool | None]
    facts: list[Facts]
    """The other columns of ``episodes.parquet`` for each episode."""

    @property
    def ends(self) -> NDArray[np.int64]:
        """The row after the last row of each episode, (E,)."""
        ends: NDArray[np.int64] = np.cumsum(self.lengths + 1)
        return ends

    @property
    def sizes(self) -> dict[str, int]:
        """The number of values per step, by column."""
        return {name: array.shape[1] for name, array in self.vectors.items()}

    def part(self, first: int, stop: int) -> "Block":
        """The episodes from ``first`` to before ``stop``."""
        ends = np.append(0, self.ends)
        rows = slice(int(ends[first]), int(ends[stop]))
        return Block(
            {name: array[rows] for name, array in self.vectors.items()},
            self.reward[rows],
            self.lengths[first:stop],
            self.terminated[first:stop],
            self.success[first:stop],
            self.facts[first:stop],
        )


def read_blocks(
    recipe: Recipe,
    source: Source,
    data: minari.MinariDataset,
    number: int,
    width: int = 1,
    span: range | None = None,
    sizes: dict[str, int] | None = None,
) -> Iterator[Block]:
    """Read and check the episodes of a source, in blocks of about ``ROWS_PER_BLOCK`` rows, fewer if they are wide.

    Args:
        recipe: the recipe with the goal spec.
        source: the source; it determines how many episodes are taken.
        data: the source's opened Minari dataset.
        number: the number of the source, from which the validation episodes are drawn.
        width: how many numbers a row has.
        span: the episodes to read; all by default.
        sizes: the vector sizes that the episodes must have; by default those of the first one.

    Raises:
        DataError: an episode is broken; the message names dataset and episode.
    """
    count = taken_episodes(source, data)
    validation = validation_episodes(count, recipe.validation_share, number)
    rows = min(ROWS_PER_BLOCK, NUMBERS_PER_BLOCK // width)
    per_episode = max(1, rows // max(1, data.total_steps // max(1, data.total_episodes)))
    chosen = range(count) if span is None else span
    for first in range(0, len(chosen), per_episode):
        part = chosen[first : first + per_episode]
        try:
            block = _read_fast(recipe, source, data, part, validation)
            if sizes is not None and block.sizes != sizes:
                raise UnexpectedLayoutError
        except MemoryError:
            raise
        # Any error of h5py or of a check: the slow path reads the same episodes, or reports what is wrong.
        except Exception:
            block = _joined(list(read_episodes(recipe, source, data, number, part, sizes)))
        sizes = block.sizes
        yield block


def _joined(episodes: list[tuple[Episode, Facts]]) -> Block:
    """A block of episodes that were read one by one."""
    read = [episode for episode, _ in episodes]
    names = read[0].vectors
    padding = {name: ((0, int(name == "action")), (0, 0)) for name in names}
    return Block(
        {
            name: np.concatenate([np.pad(each.vectors[name], padding[name]) for each in read])
            for name in names
        },
        np.concatenate([np.append(each.reward, np.float32(0.0)) for each in read]),
        np.array([len(each) for each in read]),
        [each.terminated for each in read],
        [each.success for each in read],
        [facts for _, facts in episodes],
    )


def _read_fast(
    recipe: Recipe,
    source: Source,
    data: minari.MinariDataset,
    span: range,
    validation: set[int],
) -> Block:
    """Read and check a span of episodes together. After any exception, the span must be read one by one."""
    seeds, lengths, arrays = raw_arrays(data, span, needed_keys(recipe.goal))
    raw = {key: arrays[key,] for key in TRANSITION_KEYS}
    rows, where = int((lengths + 1).sum()), f"dataset '{source.dataset}'"
    vectors, scalars = checked_columns(
        _tree(arrays), raw, recipe.goal, data.action_space, rows, where
    )
    last = np.cumsum(lengths) - 1
    if np.delete(end_flags(scalars), last).any():
        raise UnexpectedLayoutError
    return Block(
        {**vectors, "action": _with_last_rows(vectors["action"], last)},
        _with_last_rows(scalars["rewards"], last),
        lengths,
        scalars["terminations"][last].astype(bool).tolist(),
        _successes(vectors, lengths, recipe.goal),
        [
            episode_facts(recipe, source, seed, index in validation)
            for seed, index in zip(seeds, span, strict=True)
        ],
    )


def needed_keys(goal: Goal) -> set[str]:
    """The dotted keys that a goal spec selects from."""
    parts = [*goal.observation, *goal.achieved, *(goal.desired or ())]
    return {part.key for part in parts if part.key is not None}


def _tree(arrays: Mapping[tuple[str, ...], NDArray[Any]]) -> dict[str, Any]:
    """Arrays by path as a tree of dictionaries."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        if path[0] in TRANSITION_KEYS:
            continue
        place = tree
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = array
    return tree


def _with_last_rows(values: NDArray[np.float32], last: NDArray[np.int64]) -> NDArray[np.float32]:
    """Insert a row of zeros after the last transition of each episode."""
    filled: NDArray[np.float32] = np.insert(values, last + 1, np.float32(0.0), axis=0)
    return filled


def _successes(
    vectors: Mapping[str, NDArray[np.float32]], lengths: NDArray[np.int64], goal: Goal
) -> list[bool | None]:
    """Whether any transition of each episode reached its original goal; None if the data has no original goals."""
    if not has_original_goals(goal):
        return [None] * len(lengths)
    achieved = vectors.get("achieved_goal", vectors["observation"])
    reached = np.append(reaches(achieved[1:], vectors["desired_goal"][:-1], goal.success), False)
    ends = np.cumsum(lengths + 1)
    reached[ends - 1] = False  # The last row of an episode is no transition.
    found: list[bool | None] = np.logical_or.reduceat(reached, ends - lengths - 1).tolist()
    return found
