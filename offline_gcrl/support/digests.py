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

State = tuple[int, ...]
"""Size, times and number of a file, which change when it is written."""


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
    """Check that a file, or every file in a folder, has the content that was written.

    Args:
        path: the file or the folder; if no folder above it has digests, it is not checked.

    Returns:
        The path.

    Raises:
        DataError: the content has changed since it was written, the file was added later, or another file that was
            written with it is missing.
        OSError: the file cannot be read.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                intact(file)
        return path
    for folder in path.parents:
        sealed = folder / DIGESTS
        if sealed.is_file():
            _check(path, sealed)
            break
    return path


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, which is not read again within a process if its size and times are the same."""
    return _digest_of(path, _state(path))


def read_json(path: Path) -> Any:
    """The content of a JSON file that another stage has written.

    Raises:
        DataError: as for ``intact``, or the file is not JSON.
        OSError: the file cannot be read.
    """
    try:
        return json.loads(intact(path).read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: is not valid JSON ({error}); {_remedy(path.parent)}") from None


def _state(path: Path) -> State:
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def _check(path: Path, sealed: Path) -> None:
    """Compare a file with the digests of its folder."""
    state = _state(path)
    digests = _digests_of(sealed, _state(sealed))
    name = path.relative_to(sealed.parent).as_posix()
    if name not in digests:
        raise DataError(
            f"{path}: is not among the files that were written together, which {sealed} lists; "
            f"{_remedy(sealed.parent)}"
        )
    missing = [other for other in digests if not (sealed.parent / other).exists()]
    if missing:
        raise DataError(
            f"{sealed.parent / missing[0]}: is missing, although {sealed} lists it; {_remedy(sealed.parent)}"
        )
    if _digest_of(path, state) != digests[name]:
        raise DataError(
            f"{path}: is damaged or was edited: its content does not have the digest in {sealed}; "
            f"{_remedy(sealed.parent)}"
        )


@lru_cache(maxsize=64)
def _digests_of(sealed: Path, _state_of_file: State) -> dict[str, Any]:
    try:
        digests = json.loads(sealed.read_text("utf-8"))
    except ValueError:
        digests = None
    if not isinstance(digests, dict):
        raise DataError(f"{sealed}: is damaged; {_remedy(sealed.parent)}")
    return digests


@lru_cache(maxsize=4096)
def _digest_of(path: Path, _state_of_file: State) -> str:
    """The digest of a file; one with the same size and times is not read again within a process."""
    return digest([path])


def _remedy(folder: Path) -> str:
    return f"delete {folder} and run `dvc repro`, which writes it again"
