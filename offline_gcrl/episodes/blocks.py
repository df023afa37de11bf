"""Fast reading of episodes in blocks, directly from HDF5.

Opening the HDF5 datasets of an episode is the slowest part of reading it. This module therefore opens only the datasets
that are needed, with h5py's low-level calls, reads each one directly into its final array, and checks complete blocks. If
a block has an unexpected layout or fails a check, ``reading`` reads it again episode by episode with Minari, and either
succeeds or reports what is wrong with which episode.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
from gymnasium import spaces
from minari.dataset.minari_storage import is_image_space
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Recipe, Source, has_original_goals
from offline_gcrl.environments.selection import INFOS
from offline_gcrl.episodes.reading import (
    SCALARS,
    Episode,
    checked_columns,
    end_flags,
    episode_facts,
    read_episodes,
    validation_episodes,
)
from offline_gcrl.episodes.sources import DATA, taken_episodes
from offline_gcrl.goals.success import reaches

ROWS_PER_BLOCK = 2**16
Facts = dict[str, Any]
Leaves = dict[tuple[str, ...], NDArray[Any]]
"""Rows of several episodes by path: a path in the tree from which goals are selected, or a transition key."""
TRANSITION_KEYS = ("actions", *SCALARS)
"""Arrays with one row per transition; all others have one more row, for the last state."""
METADATA_BYTES = 2**16
"""Size of the HDF5 library's metadata cache. It is small because every part of the file is read only once."""


class UnexpectedLayoutError(Exception):
    """The file does not have the layout that fast reading requires."""


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
    recipe: Recipe, source: Source, data: minari.MinariDataset, number: int
) -> Iterator[Block]:
    """Read and check the episodes of a source, in blocks of about ``ROWS_PER_BLOCK`` rows.

    Args:
        recipe: the recipe with the goal spec.
        source: the source; it determines how many episodes are taken.
        data: the source's opened Minari dataset.
        number: the number of the source, from which the validation episodes are drawn.

    Raises:
        DataError: an episode is broken; the message names dataset and episode.
    """
    count = taken_episodes(source, data)
    validation = validation_episodes(count, recipe.validation_share, number)
    per_episode = max(1, ROWS_PER_BLOCK // max(1, data.total_steps // max(1, data.total_episodes)))
    sizes = None
    for first in range(0, count, per_episode):
        span = range(first, min(first + per_episode, count))
        try:
            block = _read_fast(recipe, source, data, span, validation)
            if sizes is not None and block.sizes != sizes:
                raise UnexpectedLayoutError
        # Any error of h5py or of a check: the slow path reads the same episodes, or reports what is wrong.
        except Exception:
            block = _joined(list(read_episodes(recipe, source, data, number, span, sizes)))
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


def raw_arrays(
    data: minari.MinariDataset, span: range, keys: set[str]
) -> tuple[list[int | None], NDArray[np.int64], Leaves]:
    """Read the needed arrays of a span of episodes.

    Returns:
        The seed of each episode, the number of transitions of each, and the arrays by path, as floating-point numbers.

    Raises:
        UnexpectedLayoutError: arrays are not numeric or do not fit together, or an episode has no transitions.
    """
    if not _is_plain(data):
        raise UnexpectedLayoutError
    seeds, lengths = [], []
    with _opened(Path(data.storage.data_path) / DATA) as file:
        first = file[f"episode_{span[0]}"]
        places = _places(first, data.observation_space, keys)
        readers = {path: _Reader(first[place], place, len(span)) for path, place in places.items()}
        for index in span:
            episode = h5py.h5g.open(file.id, b"episode_%d" % index)
            seeds.append(_seed(episode))
            rows = {path: reader.read(episode) for path, reader in readers.items()}
            lengths.append(_checked_length(rows))
    return seeds, np.array(lengths), {path: reader.rows for path, reader in readers.items()}


def _checked_length(rows: Mapping[tuple[str, ...], int]) -> int:
    """The number of transitions of an episode, from the rows of its arrays."""
    length = rows["actions",]
    expected = {path: length if path[0] in TRANSITION_KEYS else length + 1 for path in rows}
    if length == 0 or rows != expected:
        raise UnexpectedLayoutError
    return length


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file with a small metadata cache, for reading it once from the first episode to the last."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    cache = access.get_mdc_config()
    cache.set_initial_size = True
    cache.initial_size = cache.min_size = cache.max_size = METADATA_BYTES
    cache.incr_mode = cache.flash_incr_mode = cache.decr_mode = 0
    access.set_mdc_config(cache)
    with h5py.File(h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY, access)) as file:
        yield file


def _is_plain(data: minari.MinariDataset) -> bool:
    """Whether observations are numeric arrays in one HDF5 file, and not images, text or tuples."""
    space = data.observation_space
    each = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return data.storage.FORMAT == "hdf5" and all(
        isinstance(part, spaces.Dict)  # The arrays of nested spaces are checked when they are read.
        or (isinstance(part, spaces.Box) and not is_image_space(part))
        for part in each
    )


def _places(
    episode: h5py.Group, space: spaces.Space[Any], keys: set[str]
) -> dict[tuple[str, ...], str]:
    """The HDF5 path of each needed array within an episode's group, by its path in the tree of selections."""
    places: dict[tuple[str, ...], str] = {(name,): name for name in TRANSITION_KEYS}
    for key in keys:
        names = key.split(".")
        if names[0] == INFOS:
            above = "infos"
            names = names[1:]
            path = (INFOS, *names)
        else:
            above = "observations"
            path = tuple(names)
            names = names if isinstance(space, spaces.Dict) else names[1:]
        for leaf in _leaves(episode["/".join([above, *names])]):
            places[(*path, *leaf)] = "/".join([above, *names, *leaf])
    return places


def _leaves(item: h5py.Group | h5py.Dataset) -> Iterator[tuple[str, ...]]:
    """Paths to the arrays at and below an item."""
    if isinstance(item, h5py.Dataset):
        yield ()
    else:
        for name in item:
            yield from ((name, *path) for path in _leaves(item[name]))


class _Reader:
    """Reads one HDF5 dataset of every episode into a common array, one episode after another.

    Args:
        sample: the dataset of the first episode; rows of the others must have the same shape.
        place: the path of the dataset within an episode's group.
        episodes: the expected number of episodes; the array grows if they are longer than the first one.
    """

    def __init__(self, sample: h5py.Dataset, place: str, episodes: int) -> None:
        if sample.dtype.kind not in "biuf" or not sample.shape:
            raise UnexpectedLayoutError
        # Other episodes may have a wider type. HDF5 would cut off values that do not fit.
        dtype = np.result_type(sample.dtype, np.float32)
        self.place, self.memory = place.encode(), h5py.h5t.py_create(dtype)
        rows = max(sample.shape[0], min(episodes * sample.shape[0], 2 * ROWS_PER_BLOCK))
        self.array = np.empty((rows, *sample.shape[1:]), dtype)
        self.stop = 0

    @property
    def rows(self) -> NDArray[Any]:
        """The rows that have been read so far."""
        return self.array[: self.stop]

    def read(self, episode: Any) -> int:
        """Read the next episode; returns its number of rows."""
        dataset = h5py.h5d.open(episode, self.place)
        count, *each = dataset.shape
        if tuple(each) != self.array.shape[1:]:
            raise UnexpectedLayoutError
        if self.stop + count > len(self.array):
            self._grow(self.stop + count)
        into = self.array[self.stop : self.stop + count]
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, into, self.memory)
        self.stop += count
        return int(count)

    def _grow(self, rows: int) -> None:
        larger = np.empty((max(rows, 2 * len(self.array)), *self.array.shape[1:]), self.array.dtype)
        larger[: self.stop] = self.rows
        self.array = larger


def _seed(episode: Any) -> int | None:
    if not h5py.h5a.exists(episode, b"seed"):
        return None
    attribute = h5py.h5a.open(episode, b"seed")
    value = np.empty(attribute.shape, attribute.dtype)
    if value.dtype.kind not in "iu" or value.shape != ():
        raise UnexpectedLayoutError
    attribute.read(value)
    if not 0 <= value < 2**63:
        raise UnexpectedLayoutError
    return int(value)


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
