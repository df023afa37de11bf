"""Errors that a user can fix. Any other exception is a bug and shows its traceback."""

import errno


class OfflineGCRLError(Exception):
    """Base class of the errors of this package; the message names the problem and the remedy."""


class SettingsError(OfflineGCRLError):
    """A setting in ``params.yaml`` or in a recipe is wrong."""


class DataError(OfflineGCRLError):
    """A dataset is missing, damaged, or does not fit its recipe."""


class PolicyError(OfflineGCRLError):
    """A policy file is missing or damaged, or the policy does not support a request."""


REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run again, what is finished is kept",
    errno.EDQUOT: "the disk quota is used up; free some space and run again, what is finished is kept",
    errno.EACCES: "permission denied; change its owner or its mode",
    errno.EPERM: "not permitted; change its owner or its mode",
    errno.EROFS: "the file system is read-only; use a folder that can be written",
    errno.ENOENT: "there is no such file or folder; `dvc repro` makes what is missing",
    errno.EMFILE: "too many open files; raise the limit with `ulimit -n`",
    errno.EIO: "the disk reports an input or output error; copy the data to another disk",
}
DAMAGED = {
    "ArrowInvalid", "ArrowIOError", "ArrowTypeError", "ComputeError", "SchemaError", "ColumnNotFoundError",
    "JSONDecodeError", "UnicodeDecodeError", "BadZipFile", "UnpicklingError",
}  # fmt: skip
"""Errors of readers of files, by name: their packages are heavy to import."""
OUT_OF_MEMORY = {"MemoryError", "ArrowMemoryError", "OutOfMemoryError"}


def sentence_of(error: BaseException) -> str | None:
    """What to tell a user who can fix an error; None if it is a bug, whose traceback helps."""
    kind = type(error).__name__
    if isinstance(error, OfflineGCRLError):
        return str(error)
    if kind in OUT_OF_MEMORY or "not enough memory" in str(error):
        return f"there is not enough memory ({_first_line(error)}); use fewer episodes, or a machine with more memory"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{REMEDIES[error.errno]}"
    if kind in DAMAGED:
        return (
            f"a file cannot be read ({kind}: {_first_line(error)}); it is damaged or was changed by hand: delete the "
            "stage's output and run `dvc repro`, which makes it again"
        )
    return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
