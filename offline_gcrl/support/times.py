"""How long the stages of an experiment took, and how long those that are left may take.

Each stage that DVC runs adds a line to a file when it ends, also when it is interrupted or fails; only a process that
is killed adds none. A stage that has not run yet is expected to take as long as stages of its kind took so far: those
of the same agent, or else all of them.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

TIMES = Path("checkpoints/times.jsonl")
"""One line per stage that has ended, in the order of their ends; kept between runs, and no output of the pipeline."""
SHORTEST = 600.0
"""Seconds of work, done and expected, from which a run is long enough for lines about the time left."""
State = Literal["done", "stopped", "failed"]
Items = Mapping[str, Sequence[str]]
"""By name of a stage: its kind, and the dataset and the agent that it has, if any."""


@dataclass(frozen=True)
class StageTime:
    """The run of a stage."""

    experiment: str
    stage: str
    seconds: float
    state: State
    ended: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Left:
    """What is left of a run."""

    stages: int
    seconds: float
    """Expected time of the stages whose kind has been measured."""
    unmeasured: tuple[str, ...]
    """Kinds of stages of which none has ended yet."""


def add_time(entry: StageTime, path: Path = TIMES) -> None:
    """Add a line to the file of times; a line that does not fit on the disk is left out."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:  # One write per line, which appends at once.
            file.write(json.dumps(asdict(entry)).encode() + b"\n")
    except OSError:
        return  # A stage that has its output does not fail because of its time.


def read_times(experiment: str, path: Path = TIMES) -> list[StageTime]:
    """The runs of the stages of an experiment; lines that are damaged are left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            entry = StageTime(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if entry.experiment == experiment:
            found.append(entry)
    return found


def by_stage(times: Iterable[StageTime]) -> dict[str, float]:
    """Seconds of each stage that is done, with its interrupted runs since it was last done."""
    done: dict[str, float] = {}
    interrupted: dict[str, float] = {}
    for entry in times:
        if entry.state == "done":
            done[entry.stage] = interrupted.pop(entry.stage, 0.0) + entry.seconds
        elif entry.state == "stopped":
            interrupted[entry.stage] = interrupted.get(entry.stage, 0.0) + entry.seconds
    return done


def by_kind(times: Iterable[StageTime]) -> dict[str, float]:
    """Seconds of all runs of each kind of stage."""
    kinds: dict[str, float] = {}
    for entry in times:
        kind = kind_of(entry.stage)
        kinds[kind] = kinds.get(kind, 0.0) + entry.seconds
    return kinds


def kind_of(stage: str) -> str:
    """The kind of a stage, such as ``train``."""
    return stage.partition("@")[0]


def left(stage: str, items: Items, done: Mapping[str, float]) -> Left:
    """What is left after a stage, if all later ones must run.

    Args:
        stage: the name of the stage that has ended.
        items: all stages in the order in which they run.
        done: seconds of the stages that are done.
    """
    names = list(items)
    later = names[names.index(stage) + 1 :]
    expected = {name: _expected(items[name], items, done) for name in later}
    unmeasured = dict.fromkeys(kind_of(n) for n, seconds in expected.items() if seconds is None)
    known = sum(seconds for seconds in expected.values() if seconds is not None)
    return Left(len(later), known, tuple(unmeasured))


def _expected(item: Sequence[str], items: Items, done: Mapping[str, float]) -> float | None:
    """Mean seconds of the stages of the same kind and agent, or else of the same kind; None if there are none."""
    same = {name: items[name] for name in done if name in items and items[name][0] == item[0]}
    alike = [name for name, other in same.items() if len(item) > 2 and other[-1] == item[-1]]
    chosen = alike or list(same)
    return sum(done[name] for name in chosen) / len(chosen) if chosen else None


def stage_in_dvc() -> str | None:
    """The name of the stage that DVC runs in this process."""
    return os.environ.get("DVC_STAGE")
