"""The stages of ``dvc repro``, which runs them in the order of ``dvc.yaml``: the number of one, and what is left after it."""

import re
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from offline_gcrl.support.numbers import duration
from offline_gcrl.support.times import (
    SHORTEST,
    Items,
    StageTime,
    State,
    add_time,
    by_kind,
    by_stage,
    left,
    read_times,
    stage_in_dvc,
)

REFERENCE = re.compile(r"\$\{([\w.-]+)\}")
"""A value of ``params.yaml`` in ``dvc.yaml``."""


def place_of_stage(folder: Path = Path()) -> str:
    """The place of the stage that DVC runs in this process, such as ``stage 10 of 18``; empty outside of DVC.

    Stages that have not changed are counted, too, and DVC passes over them.
    """
    name = stage_in_dvc()
    found = stages_of(folder) if name else None
    if name is None or found is None or name not in found[1]:
        return ""
    return f"stage {list(found[1]).index(name) + 1} of {len(found[1])}"


def stages_of(folder: Path = Path()) -> tuple[str, Items] | None:
    """The name of the experiment and all stages; None if the files of the project do not give them."""
    try:
        stages, params = (read_dvc_file(folder / file) for file in ("dvc.yaml", "params.yaml"))
        experiment = str(params["experiment"].get("name", ""))
        return experiment, stage_items(stages["stages"], params)
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError):
        return None  # The stage itself names what is wrong with its settings.


def read_dvc_file(path: Path) -> Any:
    """The content of a YAML file that DVC writes or has read.

    Raises:
        OSError: the file cannot be read.
        yaml.YAMLError: it is not YAML.
    """
    # libyaml is ten times as fast; this is a part of the start of every stage.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text("utf-8"), loader)  # noqa: S506 - safe


def stage_items(stages: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """All stages by their names, with those of a matrix as DVC names them: the kind, and the values of the matrix.

    Args:
        stages: the section ``stages`` of ``dvc.yaml``.
        params: the content of ``params.yaml``.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, stage in stages.items():
        matrix = stage.get("matrix")
        if matrix is None:
            found[name] = (name,)
            continue
        for values in product(*(_values(axis, params) for axis in matrix.values())):
            found[f"{name}@{'-'.join(map(str, values))}"] = (name, *map(str, values))
    return found


def end_of_stage(seconds: float, state: State, folder: Path = Path()) -> str:
    """Record the time of the stage that DVC runs in this process, and say what is left if the run is a long one.

    Returns:
        A sentence, or an empty string outside of DVC, in short runs, after the last stage and after a failure.
    """
    name = stage_in_dvc()
    found = stages_of(folder) if name else None
    if name is None or found is None:
        return ""
    experiment, items = found
    add_time(StageTime(experiment, name, round(seconds, 1), state, round(time.time())))
    if state != "done" or name not in items:
        return ""
    times = read_times(experiment)
    rest, spent = left(name, items, by_stage(times)), by_kind(times)
    if not rest.stages or sum(spent.values()) + rest.seconds < SHORTEST:
        return ""
    return time_left(len(items) - rest.stages, len(items), spent, rest.seconds, rest.unmeasured)


def time_left(
    done: int, total: int, spent: Mapping[str, float], seconds: float, unmeasured: tuple[str, ...]
) -> str:
    """A sentence about a run: stages done, time per kind of stage, and the time that is expected for the others."""
    kinds = ", ".join(f"{kind} {duration(own)}" for kind, own in spent.items())
    without = f", without {' and '.join(unmeasured)}" if unmeasured else ""
    return (
        f"{done} of {total} stages; so far {duration(sum(spent.values()))} ({kinds}); "
        f"at most about {duration(seconds)} left{without}"
    )


def _values(axis: Any, params: Mapping[str, Any]) -> list[Any]:
    """The values of an axis of a matrix, which may be a reference to a list."""
    found = REFERENCE.fullmatch(axis) if isinstance(axis, str) else None
    value: Any = params if found else axis
    for part in found[1].split(".") if found else ():
        value = value[part]
    return list(value)
