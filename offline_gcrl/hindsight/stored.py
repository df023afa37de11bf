"""Goals of all steps within reach, whether they fit in memory or not: read from a mapped file, and let go again."""

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

REGION_BYTES = 2**24
"""Of a mapped file that is in memory at once."""
ROWS_PER_READ = 2**16

Columns = list[NDArray[np.float32]]
"""Goals, a column for each dimension: quicker to look up and to compare than rows of a few numbers."""


@dataclass(frozen=True)
class StoredGoals:
    """The goals of R steps, of which any can be looked up by row."""

    values: NDArray[np.float32]
    """(R, goal)"""
    mapping: mmap.mmap | None = None
    """The file that they lie in, if they do."""

    def between(self, first: int, stop: int) -> Columns:
        """Goals of consecutive rows: columns (stop - first,)."""
        columns = _columns(self.values[first:stop])
        self._release()
        return columns

    def at(self, rows: NDArray[np.uint32]) -> Columns:
        """Goals of any rows: columns (rows,)."""
        region = (rows // np.uint32(self._rows_per_region)).astype(np.uint16)
        stops = np.bincount(region).cumsum()
        order = np.argsort(
            region, kind="stable"
        )  # By counting: it takes no longer for many regions.
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
        # Neither none, nor more regions than a uint16 counts.
        rows: int = max(1, REGION_BYTES // self.values[0].nbytes, len(self.values) >> 15)
        return rows

    def _release(self) -> None:
        """Unmap what was read: it stays in the system's cache of files, and counts no more as ours."""
        if self.mapping is not None:
            self.mapping.madvise(mmap.MADV_DONTNEED)


@contextmanager
def goals_on_disk(steps: Path, column: str, folder: Path) -> Iterator[StoredGoals]:
    """The goals in a column of a Parquet file, through a nameless file in ``folder`` that ends with the block."""
    with tempfile.TemporaryFile(dir=folder) as file:
        size = _spool(steps, column, file)
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        yield StoredGoals(np.frombuffer(mapping, np.float32).reshape(-1, size), mapping)


def _spool(steps: Path, column: str, file: IO[bytes]) -> int:
    """Write a column of arrays as plain float32, row by row. Returns the numbers of each."""
    size = 0
    stored = pq.ParquetFile(
        steps, pre_buffer=False
    )  # Ahead of its use it would read the whole column.
    for batch in stored.iter_batches(ROWS_PER_READ, columns=[column]):
        values = batch.column(0).flatten().to_numpy()
        size = len(values) // len(batch)
        file.write(values.data)
    file.flush()
    return size


def _columns(values: NDArray[np.float32]) -> Columns:
    return list(np.ascontiguousarray(values.T))
