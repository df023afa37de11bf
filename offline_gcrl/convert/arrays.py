"""The layouts that can be converted: the reader of each, and the names of its arrays."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from offline_gcrl.convert.columns import Columns, hdf5_columns, npz_columns
from offline_gcrl.convert.lerobot import lerobot_columns
from offline_gcrl.convert.logs import log_columns
from offline_gcrl.convert.robomimic import robomimic_columns


@dataclass(frozen=True)
class Layout:
    """The names of the arrays of a kind of file."""

    name: str
    columns: Callable[[Path], AbstractContextManager[Columns]]
    required: tuple[str, ...]
    infos: str
    """Arrays whose names start with this become infos; "" means all other arrays."""
    flags: tuple[str, ...]
    """Arrays that are 1 in the last row of an episode."""
    must_end: bool
    """Whether the last row of a complete file must end an episode."""


LAYOUTS = {
    "d4rl": Layout(
        name="d4rl",
        columns=hdf5_columns,
        required=("observations", "actions", "rewards"),
        infos="infos/",
        flags=("terminals", "timeouts"),
        must_end=False,
    ),
    "ogbench": Layout(
        name="ogbench",
        columns=npz_columns,
        required=("observations", "actions", "terminals"),
        infos="",
        flags=("terminals",),
        must_end=True,
    ),
    "robomimic": Layout(
        name="robomimic",
        columns=robomimic_columns,
        required=("observations", "actions"),
        infos="infos/",
        flags=("timeouts",),
        must_end=True,
    ),
    "lerobot": Layout(
        name="lerobot",
        columns=lerobot_columns,
        required=("observations", "actions"),
        infos="infos/",
        flags=("timeouts",),
        must_end=True,
    ),
    "log": Layout(
        name="log",
        columns=log_columns,
        required=("observations", "actions"),
        infos="infos/",
        flags=("timeouts",),
        must_end=True,
    ),
}
