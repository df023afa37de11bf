"""A line now and then while a stage shows nothing else, so that a long wait can be told from a hang."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOGGING = "logging to the MLflow store"
"""What several stages do while the store takes long to answer."""
SECONDS_OF_SILENCE = 30.0
"""Time without a line after which a stage says what it does; then after twice the time, and so on."""


class Silence:
    """The time since the last line of a stage, and what the stage does meanwhile."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.doing: list[Callable[[], str]] = []

    def broken(self) -> None:
        """Note that a line was printed."""
        self.since = time.monotonic()

    @contextmanager
    def during(self, what: Callable[[], str]) -> Iterator[None]:
        """Within the block, ``what`` tells what the stage does."""
        self.doing.append(what)
        try:
            yield
        finally:
            self.doing.remove(what)

    @contextmanager
    def watched(self, say: Callable[[str], None]) -> Iterator[None]:
        """Within the block, call ``say`` with a line whenever nothing was printed for long."""
        ended = threading.Event()
        self.broken()
        threading.Thread(target=self._watch, args=(say, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _watch(self, say: Callable[[str], None], ended: threading.Event) -> None:
        due = SECONDS_OF_SILENCE
        while not ended.wait(min(1.0, SECONDS_OF_SILENCE / 4)):
            length = time.monotonic() - self.since
            if length < SECONDS_OF_SILENCE:
                due = SECONDS_OF_SILENCE
            elif length >= due:
                due *= 2
                say(f"still at work{self._what()}; nothing new for {length:.0f} s")

    def _what(self) -> str:
        return f": {self.doing[-1]()}" if self.doing else ""


silence = Silence()
"""The silence of the stage that this process runs."""


@contextmanager
def working_on(what: str) -> Iterator[None]:
    """Say ``what`` this is if the block lasts long."""
    with silence.during(lambda: what):
        yield
