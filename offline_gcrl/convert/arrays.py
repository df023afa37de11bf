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
    """The names of the arrays of a kind of file; the defaults are those of readers that mark the ends of episodes themselves."""

    name: str
    columns: Callable[[Path], AbstractContextManager[Columns]]
    required: tuple[str, ...] = ("observations", "actions")
    infos: str = "infos/"
    """Arrays whose names start with this become infos; "" means all other arrays."""
    flags: tuple[str, ...] = ("timeouts",)
    """Arrays that are 1 in the last row of an episode."""
    must_end: bool = True
    """Whether the last row of a complete file must end an episode."""
    image: str | None = None
    """The array of images, (rows, height, width, 3) bytes, that the recipe names; None if it names none."""

    @property
    def is_visual(self) -> bool:
        """Whether it is that of OGBench's visual files."""
        return self.name == "ogbench" and self.image is not None


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "d4rl",
            hdf5_columns,
            required=("observations", "actions", "rewards"),
            flags=("terminals", "timeouts"),
            must_end=False,
        ),
        Layout(
            "ogbench",
            npz_columns,
            required=("observations", "actions", "terminals"),
            infos="",
            flags=("terminals",),
        ),
        Layout("robomimic", robomimic_columns),
        Layout("lerobot", lerobot_columns),
        Layout("log", log_columns),
    )
}
