"""Many episodes at a time: read past Minari's objects where they are as one expects, else one by one with it.

What is slow in reading an episode is opening its dozen of HDF5 datasets, so only those that are needed are opened,
with h5py's low-level calls; infos that no goal is taken from are not. Each is read to where it stays. Checks are of a
whole block. Where anything is out of the ordinary the block is read again by ``reading``, which says what is wrong with
which episode.
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
    episode_facts,
    read_episodes,
    validation_episodes,
)
from offline_gcrl.episodes.sources import DATA, taken_episodes
from offline_gcrl.goals.success import reaches

ROWS_PER_BLOCK = 2**16
Facts = dict[str, Any]
Leaves = dict[tuple[str, ...], NDArray[Any]]
"""Rows of several episodes by their path: that of the tree in which goals are selected, or ``actions``, ..."""
TRANSITION_KEYS = ("actions", *SCALARS)
"""What has a row for each transition; all else has one more, for the last state."""
METADATA_BYTES = 2**16
"""Of an HDF5 file that the library keeps: nothing is read twice, and looking after more takes longer than reading it."""


class UnexpectedLayoutError(Exception):
    """Something in the file is not as expected, and needs a closer look."""


@dataclass(frozen=True)
class Block:
    """Checked episodes one after another: E of them, with R rows, one more than transitions in each."""

    vectors: dict[str, NDArray[np.float32]]
    """By column, (R, size); an episode's last action is zero."""
    reward: NDArray[np.float32]
    """(R,); zero in the last row of an episode."""
    lengths: NDArray[np.int64]
    """(E,): transitions of each."""
    terminated: list[bool]
    success: list[bool | None]
    facts: list[Facts]
    """Of each episode: the rest of its row in ``episodes.parquet``."""

    @property
    def ends(self) -> NDArray[np.int64]:
        """(E,): the row after each episode."""
        ends: NDArray[np.int64] = np.cumsum(self.lengths + 1)
        return ends

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers a step, by column."""
        return {name: array.shape[1] for name, array in self.vectors.items()}

    def part(self, first: int, stop: int) -> "Block":
        """Some of its episodes."""
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
    """The checked episodes of source ``number``, in blocks of about ``ROWS_PER_BLOCK`` rows.

    Raises:
        DataError: naming dataset and episode, for what is broken.
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
        # Whatever it is, h5py's or ours: the other way of reading says it, or reads it all the same.
        except Exception:
            block = _joined(list(read_episodes(recipe, source, data, number, span, sizes)))
        sizes = block.sizes
        yield block


def _joined(episodes: list[tuple[Episode, Facts]]) -> Block:
    """Episodes that were read one by one."""
    every = [episode for episode, _ in episodes]
    names = every[0].vectors
    padding = {name: ((0, int(name == "action")), (0, 0)) for name in names}
    return Block(
        {
            name: np.concatenate([np.pad(each.vectors[name], padding[name]) for each in every])
            for name in names
        },
        np.concatenate([np.append(each.reward, np.float32(0.0)) for each in every]),
        np.array([len(each) for each in every]),
        [each.terminated for each in every],
        [each.success for each in every],
        [facts for _, facts in episodes],
    )


def _read_fast(
    recipe: Recipe,
    source: Source,
    data: minari.MinariDataset,
    span: range,
    validation: set[int],
) -> Block:
    """Read and check a span of episodes at once; whatever it raises means that there is more to look at."""
    seeds, lengths, whole = raw_arrays(data, span, needed_keys(recipe.goal))
    raw = {key: whole[key,] for key in TRANSITION_KEYS}
    rows, where = int((lengths + 1).sum()), f"dataset '{source.dataset}'"
    vectors, scalars = checked_columns(
        _tree(whole), raw, recipe.goal, data.action_space, rows, where
    )
    last = np.cumsum(lengths) - 1
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
    """Seeds, numbers of transitions, and the needed arrays of a span of episodes, as floating-point numbers.

    Raises:
        UnexpectedLayoutError: they are no numbers or do not fit together, or an episode has no transitions.
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
    """An HDF5 file to be read once, from its first episode to its last."""
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
    """Whether observations are arrays of numbers in one HDF5 file, and no pictures, texts or tuples."""
    space = data.observation_space
    each = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return data.storage.FORMAT == "hdf5" and all(
        isinstance(part, spaces.Dict)  # Nested: its leaves are looked at when they are read.
        or (isinstance(part, spaces.Box) and not is_image_space(part))
        for part in each
    )


def _places(
    episode: h5py.Group, space: spaces.Space[Any], keys: set[str]
) -> dict[tuple[str, ...], str]:
    """Where in an episode's group each needed array stands, by its path in the tree of selections."""
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
    """Reads what stands at one place in every episode into one array, an episode after the other.

    Args:
        sample: that of the first episode; the others have rows of its shape.
        place: within an episode.
        episodes: that will be read; room for them grows if they are longer than the first.
    """

    def __init__(self, sample: h5py.Dataset, place: str, episodes: int) -> None:
        if sample.dtype.kind not in "biuf" or not sample.shape:
            raise UnexpectedLayoutError
        # Wide enough for what other episodes may have there instead: HDF5 would cut off what does not fit.
        dtype = np.result_type(sample.dtype, np.float32)
        self.place, self.memory = place.encode(), h5py.h5t.py_create(dtype)
        rows = max(sample.shape[0], min(episodes * sample.shape[0], 2 * ROWS_PER_BLOCK))
        self.array = np.empty((rows, *sample.shape[1:]), dtype)
        self.stop = 0

    @property
    def rows(self) -> NDArray[Any]:
        """What was read until now."""
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


def _tree(whole: Mapping[tuple[str, ...], NDArray[Any]]) -> dict[str, Any]:
    """Arrays by path as a tree of dictionaries."""
    tree: dict[str, Any] = {}
    for path, array in whole.items():
        if path[0] in TRANSITION_KEYS:
            continue
        place = tree
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = array
    return tree


def _with_last_rows(values: NDArray[np.float32], last: NDArray[np.int64]) -> NDArray[np.float32]:
    """Zeros after the last transition of each episode."""
    filled: NDArray[np.float32] = np.insert(values, last + 1, np.float32(0.0), axis=0)
    return filled


def _successes(
    vectors: Mapping[str, NDArray[np.float32]], lengths: NDArray[np.int64], goal: Goal
) -> list[bool | None]:
    """Whether some transition of each episode reached the goal pursued in it, where that is known."""
    if not has_original_goals(goal):
        return [None] * len(lengths)
    achieved = vectors.get("achieved_goal", vectors["observation"])
    reached = np.append(reaches(achieved[1:], vectors["desired_goal"][:-1], goal.success), False)
    ends = np.cumsum(lengths + 1)
    reached[ends - 1] = False  # From one episode to the next.
    found: list[bool | None] = np.logical_or.reduceat(reached, ends - lengths - 1).tolist()
    return found
