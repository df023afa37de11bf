"""Writing so that a killed process leaves either the whole output or none of it."""

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
    """Yield an empty folder beside ``target`` that takes its place when the block succeeds.

    A block that fails, or a process that is killed, leaves ``target`` as it was, or absent: never half
    of it. Leftovers are cleared by the next attempt.
    """
    partial = target.with_name(f".{target.name}.partial")
    replaced = target.with_name(f".{target.name}.old.partial")
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if target.exists():
        target.rename(replaced)
    partial.rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file through a temporary name, so that readers see the old or the new one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for text, in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person can read and ``diff``."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
