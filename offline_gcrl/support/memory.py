"""How much memory is free, and what to say where it was not enough."""

import errno
import re
import resource
from pathlib import Path

from offline_gcrl.support.errors import OfflineGCRLError, message_of

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
STAGE_BYTES = {
    "collect": 150 * 2**20,
    "ingest": 200 * 2**20,
    "describe": 320 * 2**20,
    "relabel": 200 * 2**20,
    "evaluate": 450 * 2**20,
    "report": 400 * 2**20,
}
"""Memory of the process of a stage, without workers: measured and rounded up. It does not grow with transitions."""
EPISODE_BYTES = {"ingest": 1200, "describe": 300, "relabel": 200}
"""Memory per episode, for the stages that read the table of all episodes."""
WITHOUT_EPISODES = frozenset(STAGE_BYTES) - frozenset(EPISODE_BYTES)
"""Stages whose memory is known as soon as they start."""
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


def explanation(error: BaseException) -> str | None:
    """The sentence of an error that a user can fix, missing memory included; None for a bug, whose traceback is shown."""
    return memory_sentence(error) if is_out_of_memory(error) else message_of(error)


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


def stage_remark(stage: str, episodes: int = 0) -> str:
    """A sentence if memory may not be enough for the process of a stage other than training; empty if it is.

    Worker processes have a remark of their own when they start (``workers_remark``).

    Args:
        stage: name of the stage; there is no remark for other names.
        episodes: number of episodes of the dataset, where the stage reads the table of all of them.
    """
    needed = STAGE_BYTES.get(stage, 0) + episodes * EPISODE_BYTES.get(stage, 0)
    if needed == 0 or needed <= (free := free_memory()):
        return ""
    return (
        f"the stage takes about {in_gib(needed)} of memory, and {in_gib(free)} are free; if it is killed, use "
        "fewer episodes, or a machine with more memory"
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
