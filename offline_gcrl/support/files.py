"""Atomic writing: a killed process leaves either the complete output or none."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that replaces ``target`` if the block succeeds.

    If the block fails or the process is killed, ``target`` remains as it was before. The next call removes the
    remains of killed processes. Processes that write the same target have different temporary folders.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    replaced = target.with_name(f".{target.name}.{os.getpid()}.old.partial")
    _finish_replacing(target)
    for leftover in target.parent.glob(f".{target.name}.*partial"):
        if leftover.is_symlink() or not is_locked(leftover):
            remove_tree(leftover)
    partial.mkdir(parents=True)
    with _locked(partial):
        try:
            yield partial
        except BaseException:
            remove_tree(partial)
            raise
        if os.path.lexists(target):
            target.rename(replaced)
        partial.rename(target)
        remove_tree(replaced)


def _finish_replacing(target: Path) -> None:
    """Rename the new folder of a process that was killed after it had renamed the earlier one, and before the new one."""
    for replaced in target.parent.glob(f".{target.name}.*.old.partial"):
        new = replaced.with_name(f"{replaced.name.removesuffix('.old.partial')}.partial")
        if not os.path.lexists(target) and new.is_dir() and not is_locked(new):
            new.rename(target)


@contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """``atomic_directory`` that keeps what else is in ``target``, such as the ``.gitignore`` of DVC."""
    with atomic_directory(target) as folder:
        yield folder
        for path in target.iterdir() if target.exists() else ():
            kept = folder / path.name
            if path.is_dir() and not kept.exists():
                shutil.copytree(path, kept, symlinks=True)
            elif not kept.exists():
                shutil.copy2(path, kept, follow_symlinks=False)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder; the system releases the lock when this process ends, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_locked(folder: Path) -> bool:
    """Whether a process that is alive has locked a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def remove_tree(folder: Path) -> None:
    """Remove a folder if it exists, even if its files and folders are read-only; of a link only the link."""
    if folder.is_symlink():
        folder.unlink()
    if not folder.exists():
        return
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o700)
    shutil.rmtree(folder)


def copy_contents(source: Path, target: Path) -> None:
    """Copy the files of a folder without their modes and owners, as the source can be read-only."""
    for path in (source, *sorted(source.rglob("*"))):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            shutil.copyfile(path, place)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which the block writes and which replaces ``target`` if the block succeeds.

    A file of a killed process may be there; the next one that writes the same target overwrites it.
    """
    partial = target.with_name(f".{target.name}.partial")
    yield partial
    os.replace(partial, target)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that readers see either the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        # Otherwise a crash of the machine can leave an empty file under the new name.
        os.fsync(file.fileno())


def write_text(path: Path, content: str) -> None:
    """Write text in UTF-8 with ``write_bytes``."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, which is readable and suitable for ``diff``."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def code_in(folder: Path) -> list[Path]:
    """All files of Python code in a folder and in those below, without hidden ones such as the locks of editors."""
    found = sorted(folder.rglob("*.py"))
    return [path for path in found if not path.name.startswith(".")]


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the contents of files, in the given order."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def sqlite_uri(path: Path) -> str:
    """The address of a SQLite file; only characters of its path that have a meaning in an address are escaped."""
    escaped = str(path).replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    return f"sqlite:///{escaped}"
