"""The arrays of a file, read in order from the first row to the last, so that memory does not grow with the file."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from offline_gcrl.support.errors import DataError

UNREADABLE = (OSError, EOFError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""Exceptions of the readers of HDF5 and zip for files that are damaged, truncated, or of another format."""


class Column(Protocol):
    """One array of N rows, read in order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, rows: int) -> NDArray[Any]:
        """The next ``rows`` rows."""


Columns = Mapping[str, Column]


class HDF5Column:
    """A dataset of an HDF5 file."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset, self.row = dataset, 0
        self.shape, self.dtype = dataset.shape, dataset.dtype

    def read(self, rows: int) -> NDArray[Any]:
        """The next ``rows`` rows."""
        values = self.dataset[self.row : self.row + rows]
        self.row += rows
        return np.asarray(values)


class NpzColumn:
    """An array in an .npz archive, unpacked while it is read (``np.load`` would unpack all of it)."""

    def __init__(self, stream: Any) -> None:
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        self.stream = stream
        self.shape, by_columns, self.dtype = header[npy.read_magic(stream)](stream)
        if self.dtype.hasobject or (by_columns and len(self.shape) > 1):
            raise ValueError("it contains Python objects, or is stored in column order")

    def read(self, rows: int) -> NDArray[Any]:
        """The next ``rows`` rows."""
        shape = (rows, *self.shape[1:])
        size = int(np.prod(shape)) * self.dtype.itemsize
        content = self.stream.read(size)
        if len(content) < size:
            raise EOFError("the file ends too early")
        return np.frombuffer(content, self.dtype).reshape(shape)


class ArrayColumn:
    """An array in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.row = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def read(self, rows: int) -> NDArray[Any]:
        """The next ``rows`` rows."""
        values = self.values[self.row : self.row + rows]
        self.row += rows
        return values


class JoinedColumn:
    """Columns of equal numbers of rows, side by side as one vector."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        size = sum(int(np.prod(column.shape[1:])) for column in columns)
        self.shape: tuple[int, ...] = (columns[0].shape[0], size)
        self.dtype = np.result_type(*(column.dtype for column in columns))

    def read(self, rows: int) -> NDArray[Any]:
        """The next ``rows`` rows."""
        parts = [column.read(rows) for column in self.columns]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], 1)


class ChainedColumn:
    """Datasets of an HDF5 file one after another, one per episode."""

    def __init__(self, datasets: Sequence[h5py.Dataset]) -> None:
        self.datasets, self.number, self.row = datasets, 0, 0
        self.shape = (sum(len(each) for each in datasets), *datasets[0].shape[1:])
        self.dtype = np.result_type(*(each.dtype for each in datasets))

    def read(self, rows: int) -> NDArray[Any]:
        """The next ``rows`` rows."""
        parts: list[NDArray[Any]] = []
        while rows > 0 and self.number < len(self.datasets):
            values = self.datasets[self.number][self.row : self.row + rows]
            self.row += len(values)
            rows -= len(values)
            parts.append(np.asarray(values))
            if self.row >= len(self.datasets[self.number]):
                self.number, self.row = self.number + 1, 0
        return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)


@contextmanager
def hdf5_columns(path: Path) -> Iterator[Columns]:
    """The datasets of an HDF5 file by their complete names, such as ``infos/goal``.

    Raises:
        DataError: the file is missing, or not an HDF5 file.
    """
    found: dict[str, Column] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            found[name] = HDF5Column(item)

    with readable(path):
        file = h5py.File(_existing(path), "r")
        file.visititems(visit)
    with file:
        yield found


@contextmanager
def npz_columns(path: Path) -> Iterator[Columns]:
    """The arrays of an .npz archive by name.

    Raises:
        DataError: the file is missing, or not an .npz file.
    """
    with readable(path):
        archive = zipfile.ZipFile(_existing(path))
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        found = {name.removesuffix(".npy"): NpzColumn(archive.open(name)) for name in names}
    with archive:
        yield found


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return path


@contextmanager
def readable(path: Path, name: str = "") -> Iterator[None]:
    """Turn exceptions of a reader within the block into an error that names the file and the array.

    Raises:
        DataError: the file or the array cannot be read.
    """
    try:
        yield
    except UNREADABLE as error:
        what = f"{path}: '{name}'" if name else str(path)
        reason = str(error).strip() or type(error).__name__
        raise DataError(f"{what} cannot be read; is the file complete? ({reason})") from error
