"""Whether other processes have ended. Tests whose functions run in workers import this and not conftest."""

from pathlib import Path


def has_ended(pid: int) -> bool:
    """Whether a process has ended; its parent may not have noticed, as the first process of some containers never does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
