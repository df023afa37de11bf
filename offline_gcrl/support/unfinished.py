"""Work in parts that are kept if the stage is killed, so that it continues with the missing ones.

Parts are files or folders that appear at once, when they are complete. They are functions of inputs and code, whose
digest is the name of their folder: parts of other inputs are never used.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from offline_gcrl.support import cluster
from offline_gcrl.support.files import code_in, digest, remove_tree
from offline_gcrl.support.processes import ordered_map

Item = TypeVar("Item")
Result = TypeVar("Result")
PACKAGE = Path(__file__).parents[1]
FOLDER = Path("datasets/unfinished")
"""Where the stages of a project keep finished parts, in a folder for each stage and dataset."""


@dataclass(frozen=True)
class Unfinished:
    """Where the finished parts of a stage are kept until all are finished, and how many processes make them."""

    folder: Path
    workers: int = 1
    """With 1, parts are made one after another in this process, unless a cluster was chosen."""

    def parts(self, words: Iterable[object], code: Sequence[str]) -> Path:
        """The folder of the parts; those of other inputs or of other code are deleted.

        Args:
            words: everything that the parts depend on besides the code, such as digests of inputs.
            code: folders of the package that the parts depend on.
        """
        files = [path for name in code for path in code_in(PACKAGE / name)]
        content = "\n".join([*map(str, words), digest(files)])
        own = self.folder / hashlib.sha256(content.encode()).hexdigest()[:16]
        for other in self.folder.glob("*"):
            if other != own:
                remove_tree(other)
        own.mkdir(parents=True, exist_ok=True)
        return own

    def remove(self) -> None:
        """Delete all parts, because the stage has written its output."""
        remove_tree(self.folder)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Results of ``function`` in the order of ``items``; it and the items must be picklable."""
        if not items:
            return iter(())
        if cluster.is_chosen() or min(self.workers, len(items)) > 1:
            return ordered_map(function, items, min(self.workers, len(items)))
        return map(function, items)


def link(source: Path, target: Path) -> None:
    """Give a finished part a second name in the output, or copy it where the file system has no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
