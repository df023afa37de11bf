"""Terminal output of a stage: a heading, progress, a closing line, and errors as sentences without traceback."""

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from offline_gcrl.support.imports import pause_collection, resume_collection
from offline_gcrl.support.memory import WITHOUT_EPISODES, explanation, stage_remark
from offline_gcrl.support.numbers import duration
from offline_gcrl.support.silence import silence
from offline_gcrl.support.stages import end_of_stage, place_of_stage
from offline_gcrl.support.times import State

SECONDS_BETWEEN_LINES = 10.0
"""Interval of lines of progress if the output is not a terminal."""
MIN_SECONDS_OF_RATE = 1.0
"""Shortest interval over which a rate is computed; two items that end at the same time give no rate."""
console = Console(highlight=False, soft_wrap=True, emoji=False)
_began: list[float] = []
"""When the stage of this process has read its arguments, before it imports what it needs; empty outside a stage."""


def stage_arguments(description: str | None, *names: str) -> list[str]:
    """Parse the command line of a stage: one positional argument per name, and ``--help``.

    Until the stage begins, the script imports what it needs, so garbage collection is paused.
    """
    parser = argparse.ArgumentParser(description=description)
    for name in names:
        parser.add_argument(name)
    parsed = parser.parse_args()
    _began[:] = [time.monotonic()]
    pause_collection()
    return [getattr(parsed, name) for name in names]


@contextmanager
def stage(title: str, subject: str, again: str = "dvc repro") -> Iterator[None]:
    """Print the heading of a stage; an error that a user can fix ends the process with a sentence and no traceback.

    Such errors are those of the package, those of the system (a full disk, missing permissions, too little memory) and
    damaged files. An interruption by Ctrl-C or SIGTERM ends the process with one line. A stage that has nothing to
    show for long says that it is at work, and on what.

    Args:
        title: name of the stage or command.
        subject: what it works on.
        again: the command that continues after an interruption.
    """
    resume_collection()
    if not _began:
        _began.append(time.monotonic())
    place = place_of_stage()
    _print(f"[bold]{title}[/bold] {escape(subject)}" + (f" [dim]({place})[/dim]" if place else ""))
    if title in WITHOUT_EPISODES:
        note_memory(title)
    signal.signal(signal.SIGTERM, _interrupt)
    state: State = "failed"
    try:
        with silence.watched(lambda line: console.print(Text(f"  {line}", style="dim"))):
            yield
        state = "done"
    except KeyboardInterrupt:
        state = "stopped"
        _print(f"  [yellow]stopped[/yellow]; `{escape(again)}` continues from here")
        sys.exit(130)
    except Exception as error:
        message = explanation(error)
        if message is None:
            raise
        Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(
            Text("error: ", style="bold red").append(message, style="not bold default")
        )
        sys.exit(1)
    finally:
        if line := end_of_stage(time.monotonic() - _began[0], state):
            console.print(Text(f"  {line}", style="dim"))
        _began.clear()


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def close(line: str) -> None:
    """Print the closing line of a stage, with the time that the stage took."""
    took = f" ({duration(time.monotonic() - _began[0])})" if _began else ""
    _print(f"  [green]done[/green] {escape(line + took)}")


def note(line: str | Text) -> None:
    """Print an indented line; brackets in a string are text, not markup, and a ``Text`` keeps its styles."""
    _print(Text("  ").append(line))


def note_memory(title: str, episodes: int = 0) -> None:
    """Print a line if memory may not be enough for a stage; see ``stage_remark``."""
    if remark := stage_remark(title, episodes):
        note(remark)


def warn(line: str) -> None:
    """Print a warning."""
    _print(f"  [yellow]warning[/yellow] {escape(line)}")


def _print(line: str | Text) -> None:
    silence.broken()
    console.print(line)


class Bars:
    """One progress bar per name, on a terminal; otherwise a line of progress every few seconds.

    Args:
        names: names of the bars.
        total: amount of work of every bar, or of each bar by its name.
        unit: unit of the work, in the plural.
    """

    def __init__(self, names: list[str], total: int | Mapping[str, int], unit: str) -> None:
        self.unit = unit
        self.totals = dict.fromkeys(names, total) if isinstance(total, int) else dict(total)
        self.done = dict.fromkeys(names, 0)
        self.printed = dict.fromkeys(names, time.monotonic())
        self.since: dict[str, tuple[float, int]] = {}
        """Time of the last line, or of the first update, and the work done by then; rates are computed from it."""
        self.live: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self.live = Progress(
                TextColumn("  {task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                _Rate(unit),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self.tasks = {name: self.live.add_task(name, total=self.totals[name]) for name in names}

    def __enter__(self) -> Self:
        """Start drawing."""
        silence.doing.append(self._state)
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the bars."""
        silence.doing.remove(self._state)
        if self.live is not None:
            self.live.stop()

    def _state(self) -> str:
        """The work done, in words."""
        parts = (
            f"{name}, {done:,} of {self.totals[name]:,} {self.unit}"
            for name, done in self.done.items()
            if done < self.totals[name]
        )
        return "; ".join(parts) or "ending"

    def advance(self, name: str, amount: int) -> None:
        """Add to the work done."""
        self.update(name, self.done[name] + amount)

    def update(self, name: str, done: int) -> None:
        """Set the work done."""
        self.done[name] = done
        if self.live is not None:
            silence.broken()
            self.live.update(self.tasks[name], completed=done)
            return
        now = time.monotonic()
        if name not in self.since:  # Start-up ends with the first update; rates exclude it.
            self.since[name] = (now, done)
        elif self._is_due(name, now) and done < self.totals[name]:
            self._print_progress(name, done, now)

    def _is_due(self, name: str, now: float) -> bool:
        """Whether the last line is old enough, and the interval is long enough for a rate."""
        interval = now - self.since[name][0]
        return now - self.printed[name] > SECONDS_BETWEEN_LINES and interval >= MIN_SECONDS_OF_RATE

    def _print_progress(self, name: str, done: int, now: float) -> None:
        """Print a line of progress, with the rate since the last line."""
        then, before = self.since[name]
        self.printed[name], self.since[name] = now, (now, done)
        rate = (done - before) / (now - then)
        total = self.totals[name]
        left = f", {duration((total - done) / rate)} left" if rate else ""
        _print(f"  {name}: {done:,} of {total:,} {self.unit}, {_rate(rate)}/s{left}")


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        # At most the average, because two items that end at the same time would give an infinite rate.
        average = task.completed / task.elapsed if task.elapsed else 0.0
        speed = min(task.finished_speed or task.speed or 0.0, average)
        return Text(f"{_rate(speed)} {self.unit}/s", style="progress.data.speed")
