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


class RenderingError(OfflineGCRLError):
    """Images cannot be rendered on this machine."""


class DivergedError(OfflineGCRLError):
    """A loss or a weight became NaN or infinite in training."""


REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run again; finished stages are kept",
    errno.EDQUOT: "the disk quota is used up; free some space and run again; finished stages are kept",
    errno.EFBIG: "the file is larger than the limit of this system; raise the limit with `ulimit -f unlimited`",
    errno.EACCES: "permission denied; change the owner or the mode",
    errno.EPERM: "not permitted; change the owner or the mode",
    errno.EROFS: "the file system is read-only; use a writable folder",
    errno.ENOENT: "there is no such file or folder; `dvc repro` creates missing outputs",
    errno.EMFILE: "too many open files; raise the limit with `ulimit -n`",
    errno.EISDIR: "is a folder, and a file is expected; move the folder away",
    errno.ENOTDIR: "is a file, and a folder is expected; move the file away",
    errno.ELOOP: "is a link that leads to itself; replace it",
    errno.ENAMETOOLONG: "the name is too long for this file system; use shorter names of folders, datasets or agents",
    errno.EBUSY: "is in use by another process; end that process and run again",
    errno.ESTALE: "the file server has another version of this file; run again",
    errno.EIO: "the disk reports an input or output error; copy the data to another disk",
}
DAMAGED = {
    "ArrowInvalid", "ArrowIOError", "ArrowTypeError", "ComputeError", "SchemaError", "ColumnNotFoundError",
    "JSONDecodeError", "UnicodeDecodeError", "BadZipFile", "UnpicklingError",
}  # fmt: skip
"""Names of the errors of file readers; by name, because importing their packages takes seconds."""
STORE = {"MlflowException", "RestException"}


def message_of(error: BaseException) -> str | None:
    """The message of an error that a user can fix; None for a bug, whose traceback is shown."""
    kind = type(error).__name__
    if isinstance(error, OfflineGCRLError):
        return str(error)
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{REMEDIES[error.errno]}"
    if kind in STORE:
        return (
            f"the MLflow store does not take the results ({_first_line(error)}); check the server or the disk, and run "
            "again: what is finished is kept, and training resumes"
        )
    if kind in DAMAGED:
        return (
            f"a file cannot be read ({kind}: {_first_line(error)}); it is damaged or was edited; delete the "
            "output of the stage and run `dvc repro`, which writes it again"
        )
    return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
