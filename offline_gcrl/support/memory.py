"""How much memory is free, and what to say where it was not enough."""

import errno
import re
import resource
from pathlib import Path

from offline_gcrl.support.errors import OfflineGCRLError

GIB = 2**30
PREFIXES = "kmgtpe"
NEEDED = re.compile(
    r"(?:allocate|allocation of|size) ([\d.]+) ?(bytes|([kmgtpe])(i?)b)?(?!\w)", re.IGNORECASE
)
"""The size in messages such as "Unable to allocate 7.45 GiB", "malloc of size 99 failed", "tried to allocate 9 bytes"."""
FREE_ON_GPU = re.compile(r"of which ([\d.]+ [KMG]iB) is free")
CGROUP = Path("/sys/fs/cgroup")
WORKER_BYTES = 150 * 2**20
"""Memory of a worker process that it does not share with others: 120 to 130 MiB were measured in evaluation."""
REMEDY = "use fewer episodes, fewer seeds at a time, or a machine with more memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, by the error of Python, NumPy, Arrow, torch or the system."""
    if isinstance(error, OfflineGCRLError):
        return False
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    named = type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    return isinstance(error, MemoryError) or named or "not enough memory" in str(error)


def memory_sentence(error: BaseException) -> str:
    """How much memory was needed, as far as the error says, and how much is free."""
    text = str(error)
    found, gpu = NEEDED.search(text), FREE_ON_GPU.search(text)
    needed = f": {_size_of(found)} more were needed" if found else ""
    where = " of the GPU" if "CUDA" in text else ""
    free = gpu.group(1) if gpu else in_gib(free_memory())
    return f"there is not enough memory{where}{needed}, {free} are free; {REMEDY}"


def require_memory(needed: int, purpose: str) -> None:
    """Check that memory is enough, before the system ends the process for want of it.

    Args:
        needed: bytes.
        purpose: what the memory is for, the start of the sentence.

    Raises:
        OfflineGCRLError: less is free.
    """
    free = free_memory()
    if needed > free:
        raise OfflineGCRLError(
            f"{purpose} needs {in_gib(needed)} of memory, and {in_gib(free)} are free; {REMEDY}"
        )


def workers_remark(workers: int) -> str:
    """A sentence if memory may not be enough for a number of worker processes; empty if it is."""
    needed, free = workers * WORKER_BYTES, free_memory()
    if needed <= free:
        return ""
    return (
        f"{workers} worker processes take about {in_gib(needed)} of memory, and {in_gib(free)} are free; if one of them is "
        "killed, use a machine with more memory, or fewer cores (taskset), or evaluate.workers"
    )


def free_memory() -> int:
    """Bytes that this process can still use: those of the machine, its container and its own limit."""
    import psutil

    limits = [
        psutil.virtual_memory().available,
        *_left_in_process(),
        *_left_in_container(),
    ]
    return max(0, int(min(limits)))


def in_gib(size: int) -> str:
    """A number of bytes as text."""
    return f"{size / GIB:,.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:,.1f} MiB"


def _size_of(found: re.Match[str]) -> str:
    number, _, prefix, binary = found.groups()
    power = 1 + PREFIXES.index(prefix.lower()) if prefix else 0
    return in_gib(int(float(number) * (1024 if binary else 1000) ** power))


def _left_in_process() -> list[int]:
    """What ``ulimit -v`` leaves."""
    import psutil

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used: int = psutil.Process().memory_info().vms
    return [] if limit == resource.RLIM_INFINITY else [limit - used]


def _left_in_container(folder: Path = CGROUP) -> list[int]:
    """What the limit of a container leaves, without the cache of files, which the system gives up."""
    try:
        limit, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        cached = re.search(r"^inactive_file (\d+)", (folder / "memory.stat").read_text(), re.M)
        return [int(limit) - int(used) + (int(cached.group(1)) if cached else 0)]
    except (OSError, ValueError):  # No such limit: there are no such files, or the limit is "max".
        return []
