"""Low-level reading of the arrays of many episodes from a Minari HDF5 file.

Opening the HDF5 datasets of an episode takes most of the time, so only those that are needed are opened, by h5py's
low-level calls. Anything unusual raises ``UnexpectedLayoutError``; the caller then reads with Minari.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
from gymnasium import spaces
from minari.dataset.minari_storage import is_image_space
from numpy.typing import NDArray

from offline_gcrl.environments.selection import INFOS
from offline_gcrl.episodes.reading import (
    SCALARS,
)
from offline_gcrl.episodes.sources import DATA, reason_of
from offline_gcrl.support.errors import DataError

Leaves = dict[tuple[str, ...], NDArray[Any]]
"""Rows of several episodes by path: a path in the tree from which goals are selected, or a transition key."""
ROWS_PER_BLOCK, NUMBERS_PER_BLOCK = 2**16, 2**22
"""Largest size of a block that is read at once, in rows and in numbers."""
TRANSITION_KEYS = ("actions", *SCALARS)
"""Arrays with one row per transition; all others have one more row, for the last state."""
METADATA_BYTES = 2**16
"""Size of the HDF5 library's metadata cache. It is small because every part of the file is read only once."""


class UnexpectedLayoutError(Exception):
    """The file does not have the layout that fast reading requires."""


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


def episode_lengths(data: minari.MinariDataset, count: int) -> NDArray[np.int64]:
    """Numbers of transitions of the first episodes of a source, (count,), without reading them.

    Raises:
        DataError: the metadata of an episode cannot be read.
    """
    try:
        with _opened(Path(data.storage.data_path) / DATA) as file:
            lengths = [
                h5py.h5d.open(file.id, b"episode_%d/actions" % index).shape[0]
                for index in range(count)
            ]
    except (OSError, KeyError, TypeError, ValueError):  # Of another format, or actions in a group.
        try:
            found = data.storage.get_episode_metadata(range(count))
            lengths = [int(each["total_steps"]) for each in found]
        except Exception as error:  # Minari passes on any exception of its reader.
            raise DataError(
                f"{data.storage.data_path}: the lengths of episodes cannot be read: {reason_of(error)}; copy or "
                "download the dataset again"
            ) from error
    return np.array(lengths, dtype=np.int64)


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
    return (
        data.storage.FORMAT == "hdf5"
        and not _has_misleading_key(space)
        and all(
            # The arrays of nested spaces are checked when they are read.
            isinstance(part, spaces.Dict)
            or (isinstance(part, spaces.Box) and not is_image_space(part))
            for part in each
        )
    )


def _has_misleading_key(space: spaces.Space[Any]) -> bool:
    """Whether a key of an observation could be taken for a nested key, for infos, or for a transition key."""
    if not isinstance(space, spaces.Dict):
        return False
    reserved = {INFOS, *TRANSITION_KEYS}
    return any(
        "." in name or name in reserved or _has_misleading_key(part)
        for name, part in space.spaces.items()
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
