"""Locks between processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.silence import working_on


@contextmanager
def only_process(path: Path, seconds: float, held: str) -> Iterator[None]:
    """Hold the lock of a file within the block.

    Args:
        path: the file, which is created.
        seconds: how long to wait for another process.
        held: the error if another process holds the lock for longer.

    Raises:
        OfflineGCRLError: with the text ``held``.
    """
    lock = FileLock(path, timeout=seconds)
    try:
        with working_on(f"waiting for another process that holds {path}"):
            lock.acquire()
    except Timeout:
        raise OfflineGCRLError(held) from None
    try:
        yield
    finally:
        lock.release()
