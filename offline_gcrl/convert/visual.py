"""OGBench's visual files: images as observations, and the state of the simulator in other arrays.

A file has ``observations`` of bytes, (rows, height, width, 3), and ``qpos``, ``qvel`` and, for scenes and puzzles,
``button_states``. The state becomes the observation of the Minari dataset, and the images become an info.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from offline_gcrl.config import Environment
from offline_gcrl.config.images import CHANNELS
from offline_gcrl.convert.columns import Columns, JoinedColumn, npz_columns
from offline_gcrl.environments.arms import GOAL_STATE
from offline_gcrl.environments.making import shared_environment
from offline_gcrl.environments.selection import as_tree
from offline_gcrl.support.errors import DataError

IMAGE = "image"
"""The info that the images become."""
STATE = ("qpos", "qvel")
"""Arrays that every visual file has."""
FURTHER = ("button_states",)
"""Arrays that belong to the state where a file has them."""
MODULE, PREFIX = "ogbench:", "visual-"
AXES = 4
"""Rows, height, width and channels."""


def is_visual(path: Path) -> bool:
    """Whether the observations of an .npz file are images.

    Raises:
        DataError: they are, and the file does not have the layout of OGBench's visual files.
    """
    with npz_columns(path) as columns:
        images = columns.get("observations")
        if images is None or len(images.shape) != AXES:
            return False
        if images.dtype != np.uint8 or images.shape[-1] != CHANNELS:
            raise DataError(
                f"{path}: 'observations' are {images.dtype} of shape {images.shape}, expected vectors, (rows, size), or images "
                f"of bytes, (rows, height, width, {CHANNELS}); files of Powderworld cannot be converted"
            )
        missing = [name for name in STATE if name not in columns]
        if missing:
            raise DataError(
                f"{path}: 'observations' are images, and the file has no {' and no '.join(missing)}, the state of the simulator, "
                "by which success is measured; OGBench's published visual files have it"
            )
    return True


@contextmanager
def visual_columns(path: Path) -> Iterator[Columns]:
    """The arrays of a visual file, with the state as observations and the images as ``image``.

    Raises:
        DataError: the file is missing, or not an .npz file.
    """
    with npz_columns(path) as columns, npz_columns(path) as again:
        state = JoinedColumn([again[name] for name in state_of(columns)])
        yield {**columns, "observations": state, IMAGE: columns["observations"]}


def state_of(names: Any) -> list[str]:
    """The arrays that make up the state, of those that a file has."""
    return [*STATE, *(name for name in FURTHER if name in names)]


def with_states(environment: Environment) -> Environment:
    """The environment of OGBench with the same states whose observations are vectors."""
    return replace_id(environment, environment.id.replace(MODULE + PREFIX, MODULE))


def with_images(environment: Environment) -> Environment | None:
    """The visual environment of OGBench with the same states; None if the environment is none of OGBench."""
    if not environment.id.startswith(MODULE):
        return None
    name = environment.id.removeprefix(MODULE).removeprefix(PREFIX)
    return replace_id(environment, MODULE + PREFIX + name)


def shown_goals(settings: Environment, size: int, names: list[str]) -> dict[str, Any] | None:
    """How a recipe selects the state and its goals in an environment, and shows goals; None if the environment has no such states.

    Args:
        settings: the environment whose observations are vectors.
        size: of the state in the file.
        names: the arrays of the state.

    Returns:
        ``observation``, ``desired`` and ``goal`` of a recipe, the last one for its images.
    """
    made = shared_environment(settings)
    inner: Any = made.unwrapped
    tree = as_tree(*made.reset(seed=0, options={"task_id": 1}))
    if getattr(tree["observation"], "size", None) == size:
        positions = list(range(inner.model.nq))
        return {"observation": "observation", "desired": "infos.goal", "goal": {"qpos": positions}}
    if GOAL_STATE in tree["infos"]:
        return {
            "observation": [f"infos.{name}" for name in names],
            "desired": [f"infos.{GOAL_STATE}.{name}" for name in names],
            "goal": {"reset": True},
        }
    return None


def replace_id(environment: Environment, identity: str) -> Environment:
    """An environment with the same arguments and another id."""
    return environment.model_copy(update={"id": identity})
