"""Digests of the files that a stage writes, which later stages compare when they read them.

A flipped bit in a table or in JSON can be read as another number. ``digests.json`` in the folder of a stage has the
SHA-256 of every other file in it. Hashing takes about a second per gigabyte.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import atomic_directory, digest, write_json

DIGESTS = "digests.json"


@contextmanager
def sealed_directory(target: Path) -> Iterator[Path]:
    """``atomic_directory`` for the output of a stage, with the digests of all files that the block has written."""
    with atomic_directory(target) as folder:
        yield folder
        seal(folder)


def seal(folder: Path) -> None:
    """Write the digests of all files in a folder and in the folders below."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): digest([path]) for path in files}
    write_json(folder / DIGESTS, digests)


def intact(path: Path) -> Path:
    """Check that a file has the content that was written.

    Args:
        path: the file; if no folder above it has digests, it is not checked.

    Returns:
        The path.

    Raises:
        DataError: the content has changed since it was written, or the file was added later.
        OSError: the file cannot be read.
    """
    for folder in path.parents:
        sealed = folder / DIGESTS
        if sealed.is_file():
            # A file with the same size and time is not read again within a process.
            _check(path, sealed, *(_state(each) for each in (path, sealed)))
            break
    return path


def read_json(path: Path) -> Any:
    """The content of a JSON file that another stage has written.

    Raises:
        DataError: as for ``intact``, or the file is not JSON.
        OSError: the file cannot be read.
    """
    try:
        return json.loads(intact(path).read_text())
    except ValueError as error:
        raise DataError(f"{path}: is not valid JSON ({error}); {_remedy(path.parent)}") from None


def _state(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino


@lru_cache(maxsize=4096)
def _check(path: Path, sealed: Path, *_states: tuple[int, int, int]) -> None:
    """Compare a file with its digest, once for each of its states."""
    try:
        digests = json.loads(sealed.read_text())
        expected = digests.get(path.relative_to(sealed.parent).as_posix())
    except (ValueError, AttributeError):
        raise DataError(f"{sealed}: is damaged; {_remedy(sealed.parent)}") from None
    if expected is None:
        raise DataError(
            f"{path}: is not among the files that were written together, which {sealed} lists; "
            f"{_remedy(sealed.parent)}"
        )
    if digest([path]) != expected:
        raise DataError(
            f"{path}: is damaged or was edited: its content does not have the digest in {sealed}; "
            f"{_remedy(sealed.parent)}"
        )


def _remedy(folder: Path) -> str:
    return f"delete {folder} and run `dvc repro`, which writes it again"
