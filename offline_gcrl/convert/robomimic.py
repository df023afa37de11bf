"""robomimic's HDF5 files: one group per demonstration, ``data/demo_0/obs/<key>``, ``data/demo_0/actions`` and others.

The keys of the observation are vectors, and become one vector in the order of their names. Images among them are left
out, and become a remark.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from offline_gcrl.convert.columns import (
    ArrayColumn,
    ChainedColumn,
    Column,
    Columns,
    JoinedColumn,
    readable,
)
from offline_gcrl.convert.logs import numbered
from offline_gcrl.support.errors import DataError

PREFIX = "demo_"
ARRAYS = {
    "actions": "actions",
    "rewards": "rewards",
    "terminals": "dones",
    "infos/states": "states",
}
"""Arrays of a demonstration by their names in D4RL's files."""


@contextmanager
def robomimic_columns(path: Path) -> Iterator[Columns]:
    """The arrays of all demonstrations one after another, with the names of D4RL's files.

    Raises:
        DataError: the file is missing, is not an HDF5 file, or its demonstrations differ in their arrays.
    """
    with readable(path):
        file = h5py.File(path, "r")
    with file:
        yield _columns(path, file)


def _columns(path: Path, file: h5py.File) -> Columns:
    data = file.get("data")
    names = [name for name in data or () if name.startswith(PREFIX)]
    if not names:
        raise DataError(f"{path}: has no groups data/{PREFIX}0, data/{PREFIX}1, ...")
    demos = [data[name] for name in sorted(names, key=_number)]
    found: dict[str, Column] = {
        name: _chained(path, demos, array) for name, array in ARRAYS.items() if array in demos[0]
    }
    for name, group in (("observations", "obs"), ("next_observations", "next_obs")):
        if group in demos[0]:
            found[name] = _observations(path, demos, group)
    if "observations" not in found or "actions" not in found:
        raise DataError(f"{path}: data/{names[0]} has no 'obs' or no 'actions'")
    ends = np.zeros(found["actions"].shape[0], dtype=np.int8)
    ends[np.cumsum([len(demo["actions"]) for demo in demos]) - 1] = 1
    found["timeouts"] = ArrayColumn(ends)
    return found


def _observations(path: Path, demos: list[Any], group: str) -> JoinedColumn:
    """The vectors of an observation, side by side."""
    keys = vector_keys(demos[0][group])
    if not keys:
        raise DataError(f"{path}: '{group}' has images only; agents need vectors")
    return JoinedColumn([_chained(path, demos, f"{group}/{key}") for key in keys])


def vector_keys(observation: Any) -> list[str]:
    """Keys of an observation that are vectors or numbers, by name."""
    return sorted(
        key
        for key, values in observation.items()
        if values.ndim <= 2 and values.dtype.kind in "biuf"
    )


def robomimic_remarks(path: Path) -> list[str]:
    """The keys of which the observation is made, and those that are left out."""
    with readable(path), h5py.File(path, "r") as file:
        data = file["data"]
        observation = data[next(name for name in data if name.startswith(PREFIX))]["obs"]
        used = vector_keys(observation)
        sizes = [int(np.prod(observation[key].shape[1:])) for key in used]
        left = sorted(set(observation) - set(used))
    return [
        f"observation: {numbered([*zip(used, sizes, strict=True)])}",
        *(f"'{key}' is left out: agents read vectors" for key in left),
    ]


def _chained(path: Path, demos: list[Any], name: str) -> ChainedColumn:
    missing = next((demo.name for demo in demos if name not in demo), None)
    if missing:
        raise DataError(f"{path}: {missing} has no '{name}', and the first demonstration has")
    shapes = {demo[name].shape[1:] for demo in demos}
    if len(shapes) > 1:
        raise DataError(f"{path}: '{name}' has rows of different shapes: {sorted(shapes)}")
    for demo in demos:
        rows, actions = len(demo[name]), len(demo.get("actions", demo[name]))
        if rows != actions:
            raise DataError(
                f"{path}: {demo.name}: '{name}' has {rows} rows, and 'actions' {actions}"
            )
    return ChainedColumn([demo[name] for demo in demos])


def _number(name: str) -> int:
    digits = name.removeprefix(PREFIX)
    return int(digits) if digits.isdigit() else -1
