"""Events of trainings: from the worker processes to the stage, through a file per worker.

A file and not a queue: a worker never waits for the stage to read what it wrote, however long the message,
and a worker that is killed within a message leaves half a line, for which nobody waits.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

Point = dict[str, float]
"""One row of the training curve: ``update`` and the diagnostics then."""


@dataclass(frozen=True)
class Event:
    """Progress of a seed in training: updates done so far, and points of its curve.

    The last event of a training has the complete curve, also what a killed process did not report.
    """

    seed: int
    updates: int
    points: tuple[Point, ...] = ()
    process: int = field(default_factory=os.getpid)
    """The process that trains the seed."""
    task: str | None = None
    """The task of a specialist."""


Listener = Callable[[Event], None]


class EventWriter:
    """Appends events to a file, a line each; a listener.

    The file may end with half a line of a process that died, whose task is repeated on another node.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if self._file.tell():
            self._file.write(b"\n")

    def __call__(self, event: Event) -> None:
        """Write one event."""
        self._file.write(json.dumps(asdict(event)).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class EventReader:
    """Reads what has been added to files of events since it last looked.

    Files of an earlier run are deleted first.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._files: dict[Path, BinaryIO] = {}
        for path in self._paths:
            path.unlink(missing_ok=True)

    def read(self) -> Iterator[Event]:
        """The events whose lines are complete and have not been read yet."""
        for path in self._paths:
            if path not in self._files and path.exists():
                self._files[path] = path.open("rb")
            if path in self._files:
                yield from _complete(self._files[path])

    def close(self) -> None:
        """Delete the files: all that they said has been read."""
        for path, file in self._files.items():
            file.close()
            path.unlink(missing_ok=True)


def _complete(file: BinaryIO) -> Iterator[Event]:
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        try:
            fields = json.loads(line)
        except ValueError:  # Half a line of a process that died, or an empty one after it.
            continue
        yield Event(**{**fields, "points": tuple(fields["points"])})
