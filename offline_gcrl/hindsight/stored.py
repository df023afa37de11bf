"""Lookup of the goals of all steps, from memory or from a memory-mapped file.

Pages of the file are released after each lookup, so memory does not grow with the dataset.
"""

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.files import atomic_file
from offline_gcrl.support.tables import iterate_batches

REGION_BYTES = 2**24
"""Size of the part of a mapped file that is in memory at the same time."""
ROWS_PER_READ = 2**16

Columns = list[NDArray[np.float32]]
"""Goals as one array per dimension, which is faster to look up and to compare than rows of a few numbers."""


@dataclass(frozen=True)
class StoredGoals:
    """The goals of R steps, which can be looked up by row."""

    values: NDArray[np.float32]
    """(R, goal)"""
    mapping: mmap.mmap | None = None
    """The file that ``values`` is mapped from, if it is."""

    def between(self, first: int, stop: int) -> Columns:
        """Goals of consecutive rows, as columns (stop - first,)."""
        columns = _columns(self.values[first:stop])
        self._release()
        return columns

    def at(self, rows: NDArray[np.uint32]) -> Columns:
        """Goals of any rows, as columns (rows,)."""
        region = (rows // np.uint32(self._rows_per_region)).astype(np.uint16)
        stops = np.bincount(region).cumsum()
        # A stable sort of uint16 is a radix sort, whose time does not depend on the number of regions.
        order = np.argsort(region, kind="stable")
        places = rows.take(order)
        taken = np.empty((len(rows), self.values.shape[1]), np.float32)
        for first, stop in pairwise([0, *stops.tolist()]):
            taken[first:stop] = self.values.take(places[first:stop], axis=0)
            self._release()
        columns = np.empty(taken.shape[::-1], np.float32)
        columns[:, order] = taken.T
        return list(columns)

    @property
    def _rows_per_region(self) -> int:
        # At least one row, and at most as many regions as a uint16 can count.
        rows: int = max(1, REGION_BYTES // self.values[0].nbytes, len(self.values) >> 15)
        return rows

    def _release(self) -> None:
        """Release the pages that were read; they stay in the system's file cache but not in this process."""
        if self.mapping is not None:
            self.mapping.madvise(mmap.MADV_DONTNEED)


@contextmanager
def goals_on_disk(steps: Path, column: str, folder: Path) -> Iterator[StoredGoals]:
    """The goals in a column of a Parquet file, mapped from a temporary file in ``folder``.

    The temporary file has no name, and is deleted at the end of the block.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        size = _spool(steps, column, file)
        yield _mapped(file, size)


def spool_once(steps: Path, column: str, path: Path) -> None:
    """Write the goals in a column of a table to a file that ``mapped_goals`` opens, unless it exists."""
    if path.exists():
        return
    with atomic_file(path) as partial, partial.open("wb") as file:
        _spool(steps, column, file)


@contextmanager
def mapped_goals(path: Path, size: int) -> Iterator[StoredGoals]:
    """Goals of ``size`` numbers, mapped from a file of ``spool_once``."""
    with path.open("rb") as file:
        yield _mapped(file, size)


def _mapped(file: IO[bytes], size: int) -> StoredGoals:
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return StoredGoals(np.frombuffer(mapping, np.float32).reshape(-1, size), mapping)


def _spool(steps: Path, column: str, file: IO[bytes]) -> int:
    """Write a column of arrays as float32, row by row, and return the size of the arrays."""
    size = 0
    for batch in iterate_batches(steps, ROWS_PER_READ, [column]):
        values = batch.column(0).flatten().to_numpy()
        size = len(values) // len(batch)
        file.write(values.data)
    file.flush()
    return size


def _columns(values: NDArray[np.float32]) -> Columns:
    return list(np.ascontiguousarray(values.T))
