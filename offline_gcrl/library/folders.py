"""Temporary folders that exist as long as the object that reads them."""

import os
import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp


class TemporaryFolder:
    """A folder that is deleted with this object, at the latest when the program ends.

    ``tempfile.TemporaryDirectory`` would warn where it is not closed explicitly.
    """

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="offline-gcrl-"))
        self._end = weakref.finalize(self, _delete, self.path, os.getpid())


def _delete(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # Not a fork of the program.
        shutil.rmtree(folder, ignore_errors=True)
