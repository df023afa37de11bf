"""Where the tensors that batches are read from are stored: in memory, or in files that are mapped into memory.

Mapped files are written once, and the system keeps in memory what is used of them. Processes share that memory, so
several seeds need no more of it than one. The values are the same in both cases, and so are batches.
"""

import json
import math
import mmap
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.support.errors import DataError, OfflineGCRLError
from offline_gcrl.support.files import atomic_directory, write_json
from offline_gcrl.support.memory import free_memory, in_gib

LAYOUT = "layout.json"
"""The names, types and shapes of the tensors in a folder; written last."""
ROWS_PER_PART = 2**20
"""Rows of a part that is made in memory before it is written."""
TYPES = {str(kind).removeprefix("torch."): kind for kind in (torch.float32, torch.int64, torch.int32, torch.int8, torch.uint8)}  # fmt: skip

Tensors = dict[str, Tensor]
Parts = Callable[[], Iterable[Tensors]]
"""Consecutive parts of tensors with the same number of rows, (part, ...) each, on the CPU."""


class Storage(Protocol):
    """Stores tensors that are made part by part."""

    device: torch.device
    """The device of the tensors."""

    def tensors(self, name: str, most: int, parts: Parts) -> Tensors:
        """The tensors that consist of ``parts``, (rows, ...) each; none if there are no rows.

        Args:
            name: determines the values; what has been stored under this name is not made again.
            most: upper bound on the number of rows.
            parts: makes the parts.
        """


class InMemory:
    """Stores tensors in the memory of the processor or of a GPU."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def tensors(self, name: str, most: int, parts: Parts) -> Tensors:
        """The tensors on the device."""
        stored: Tensors = {}
        rows = 0
        for part in parts():
            count = len(next(iter(part.values())))
            for field, values in part.items():
                if field not in stored:
                    shape = (most, *values.shape[1:])
                    stored[field] = torch.empty(shape, dtype=values.dtype, device=self.device)
                stored[field][rows : rows + count] = values
            rows += count
        fields = list(stored) if rows else []
        return {field: self._filled(stored.pop(field), rows) for field in fields}

    def _filled(self, values: Tensor, rows: int) -> Tensor:
        """The filled rows of a tensor; on a GPU, unlike in virtual memory, the others would take up memory."""
        filled = values[:rows]
        return filled if self.device.type == "cpu" or rows == len(values) else filled.clone()


class Mapped:
    """Stores tensors in files that are mapped into memory.

    Args:
        folder: has one folder for each name, with one file for each tensor.
    """

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tensors(self, name: str, most: int, parts: Parts) -> Tensors:
        """The tensors, mapped. The first process writes the files while others wait for it.

        Raises:
            OfflineGCRLError: the disk is too small.
            DataError: a file was cut or deleted since it was written.
        """
        target = self.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f".{name}.lock"):
            if not (target / LAYOUT).exists():
                with atomic_directory(target) as folder:
                    _write(folder, most, parts())
        return _opened(target)

    def files(self, name: str) -> dict[str, "TensorFile"]:
        """The files of the tensors that have been stored under a name."""
        return _files(self.folder / name)


@dataclass(frozen=True)
class TensorFile:
    """A stored tensor, which is mapped into memory, or of which consecutive rows are read."""

    path: Path
    rows: int
    kind: str
    """The type of its numbers."""
    shape: tuple[int, ...]
    """The shape of a row."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return np.dtype(self.kind).itemsize * math.prod(self.shape)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """The rows from ``first`` to ``stop``, (stop - first, ...).

        Raises:
            DataError: the file was cut since it was written.
        """
        count = (stop - first) * math.prod(self.shape)
        values = np.fromfile(self.path, self.kind, count, offset=first * self.row_bytes)
        if len(values) != count:
            raise self._cut()
        return values.reshape(stop - first, *self.shape)

    def mapped(self, advice: int) -> Tensor:
        """The file as a tensor; what is written to the tensor does not change the file.

        Raises:
            DataError: the file was cut or deleted since it was written.
        """
        if not self.path.exists() or self.path.stat().st_size != self.rows * self.row_bytes:
            raise self._cut()
        with self.path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        content.madvise(advice)
        return torch.frombuffer(content, dtype=TYPES[self.kind]).view(self.rows, *self.shape)

    def _cut(self) -> DataError:
        expected = self.rows * self.row_bytes
        return DataError(
            f"{self.path}: does not have {expected:,} bytes; delete the folder {self.path.parent} and run again"
        )


def _write(folder: Path, most: int, parts: Iterable[Tensors]) -> None:
    files: dict[str, IO[bytes]] = {}
    layout: dict[str, Any] = {}
    rows = 0
    try:
        for part in parts:
            if not layout:
                layout = {name: _described(values) for name, values in part.items()}
                _require_disk(folder, most * sum(map(_bytes_per_row, part.values())))
                files = {name: (folder / name).open("wb") for name in part}
            for name, values in part.items():
                files[name].write(values.contiguous().numpy().data)
            rows += len(next(iter(part.values())))
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files.values():
            file.close()
    write_json(folder / LAYOUT, {"rows": rows, "tensors": layout})


def _files(folder: Path) -> dict[str, TensorFile]:
    layout = json.loads((folder / LAYOUT).read_text("utf-8"))
    return {
        name: TensorFile(folder / name, layout["rows"], kind["type"], tuple(kind["shape"]))
        for name, kind in layout["tensors"].items()
    }


def _opened(folder: Path) -> Tensors:
    files = {name: file for name, file in _files(folder).items() if file.rows > 0}
    size = sum(file.rows * file.row_bytes for file in files.values())
    # Where not all of it fits, reading ahead would displace what is in use.
    advice = mmap.MADV_RANDOM if size > free_memory() else mmap.MADV_NORMAL
    return {name: file.mapped(advice) for name, file in files.items()}


def _described(values: Tensor) -> dict[str, Any]:
    return {"type": str(values.dtype).removeprefix("torch."), "shape": list(values.shape[1:])}


def _bytes_per_row(values: Tensor) -> int:
    return values.element_size() * math.prod(values.shape[1:])


def _require_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OfflineGCRLError(
            f"{folder.parent}: memory-mapped data needs {in_gib(needed)}, and {in_gib(free)} of the disk are free; free some "
            "space, or set train.data: memory in params.yaml"
        )
