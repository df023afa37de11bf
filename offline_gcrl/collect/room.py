"""Episodes on their way to Minari, which end in an error before the disk is full.

If a write of HDF5 fails, its objects fail again when they are freed, and the process ends with a segmentation fault.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

RESERVE = 16 * 2**20
"""Bytes that remain free, for what HDF5 holds back until the file is closed."""
COPIES = 4
"""Times the size of an episode that must be free: its chunks in the file are larger than its arrays."""


def with_room(episodes: Iterable[EpisodeBuffer], root: Path) -> Iterator[EpisodeBuffer]:
    """Pass episodes on while the disk of a Minari root, which may not exist yet, has room for them.

    Raises:
        OSError: ``ENOSPC``, at once or instead of an episode.
    """
    _check_room(root, 0)
    return _checked(episodes, root)


def _checked(episodes: Iterable[EpisodeBuffer], root: Path) -> Iterator[EpisodeBuffer]:
    for episode in episodes:
        parts = (episode.observations, episode.actions, episode.rewards, episode.infos)
        _check_room(root, sum(map(_bytes, parts)))
        yield episode


def _check_room(root: Path, needed: int) -> None:
    full = root.resolve()
    there = next(folder for folder in (full, *full.parents) if folder.exists())
    if shutil.disk_usage(there).free < RESERVE + COPIES * needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))


def _bytes(values: Any) -> int:
    """Size of an array, or of all arrays of a dict."""
    if isinstance(values, dict):
        return sum(map(_bytes, values.values()))
    return np.asarray(values).nbytes
