"""Errors of the system as errors of this package, for programs that catch only these."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.memory import explanation


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Within the block, errors that a user can fix have the sentences of the stages.

    Args:
        where: the function that the sentence names.

    Raises:
        OfflineGCRLError: such an error occurred; others remain as they are.
    """
    try:
        yield
    except OfflineGCRLError:
        raise
    except Exception as error:
        message = explanation(error)
        if message is None:
            raise
        raise OfflineGCRLError(f"{where}: {message}") from error
