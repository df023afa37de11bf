"""The number of a stage among those of ``dvc repro``, which runs them in the order of ``dvc.yaml``."""

import os
import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml

REFERENCE = re.compile(r"\$\{([\w.-]+)\}")
"""A value of ``params.yaml`` in ``dvc.yaml``."""


def place_of_stage(folder: Path = Path()) -> str:
    """The place of the stage that DVC runs in this process, such as ``stage 10 of 18``; empty outside of DVC.

    Stages that have not changed are counted, too, and DVC passes over them.
    """
    name = os.environ.get("DVC_STAGE")
    if name is None:
        return ""
    try:
        contents = ((folder / file).read_text("utf-8") for file in ("dvc.yaml", "params.yaml"))
        # libyaml is ten times as fast; this is a part of the start of every stage.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        stages, params = (yaml.load(text, loader) for text in contents)  # noqa: S506 - safe
        names = list(stage_names(stages["stages"], params))
        return f"stage {names.index(name) + 1} of {len(names)}"
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError):
        return ""  # The stage itself names what is wrong with its settings.


def stage_names(stages: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[str]:
    """The names of all stages, with those of a matrix as DVC names them.

    Args:
        stages: the section ``stages`` of ``dvc.yaml``.
        params: the content of ``params.yaml``.
    """
    for name, stage in stages.items():
        matrix = stage.get("matrix")
        if matrix is None:
            yield name
            continue
        for values in product(*(_values(axis, params) for axis in matrix.values())):
            yield f"{name}@{'-'.join(map(str, values))}"


def _values(axis: Any, params: Mapping[str, Any]) -> list[Any]:
    """The values of an axis of a matrix, which may be a reference to a list."""
    found = REFERENCE.fullmatch(axis) if isinstance(axis, str) else None
    value: Any = params if found else axis
    for part in found[1].split(".") if found else ():
        value = value[part]
    return list(value)
