"""Writing the episodes of a file as a Minari dataset into the local Minari root, atomically."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import minari
import numpy as np
from gymnasium import spaces
from minari.storage import get_dataset_path
from numpy.typing import NDArray

from offline_gcrl.collect.local import placed_atomically
from offline_gcrl.collect.room import with_room
from offline_gcrl.config import Environment
from offline_gcrl.convert.layouts import InspectedFile, read_episodes
from offline_gcrl.environments.actions import is_scalable
from offline_gcrl.environments.making import make_environment
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.support.processes import with_callback

SLACK = 1e-5  # As in ingest: actions are stored as float32, and bounds can be float64.


def write_dataset(
    dataset: str,
    file: InspectedFile,
    actions: spaces.Box,
    environment: Environment | None = None,
    replace: bool = False,
    on_transitions: Callable[[int], None] = lambda count: None,
) -> Path:
    """Write the episodes of a file as ``dataset`` into the local Minari root.

    Args:
        dataset: Minari id of the new dataset.
        file: the inspected file.
        actions: action space of the dataset.
        environment: environment of the data, which is stored with it.
        replace: whether to overwrite an existing dataset.
        on_transitions: called with the number of transitions of each written episode.

    Returns:
        The folder of the dataset.

    Raises:
        DataError: the file is damaged, or the dataset exists and ``replace`` is not set.
        OSError: the disk is full.
    """
    home: Path = get_dataset_path(dataset)
    if home.exists() and not replace:
        raise DataError(f"dataset '{dataset}' exists already, in {home}; --replace overwrites it")
    size, dtype = file.sizes["observations"], file.dtype.type
    episodes = with_room(read_episodes(file, actions.dtype), home.parent)
    spec = make_environment(environment).spec if environment else None
    with placed_atomically(dataset), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "env_spec is None|`eval_env` is set to None")
        minari.create_dataset_from_buffers(
            dataset,
            with_callback(episodes, lambda episode: on_transitions(len(episode.rewards))),
            env=spec,
            observation_space=spaces.Box(-np.inf, np.inf, (size,), dtype),
            action_space=actions,
            algorithm_name="unknown",
            author="unknown",
            author_email="unknown",
            code_permalink="unknown",
            description=f"made from {file.path.name}",
            data_format="hdf5",
        )
    return home


def bounded_actions(
    file: InspectedFile,
    environment: Environment | None = None,
    low: Sequence[float] = (),
    high: Sequence[float] = (),
) -> tuple[spaces.Box, str]:
    """The action space of a file, and the source of its bounds: the environment, the user, or the data.

    Bounds from the data are the smallest and largest values in it; policies do not exceed them.

    Args:
        file: the inspected file.
        environment: environment of the data.
        low: lower bounds by the user, one for all dimensions or one per dimension.
        high: upper bounds by the user.

    Raises:
        SettingsError: the bounds do not fit the file.
    """
    if environment is not None:
        space, source = _space_of(environment, file), f"those of {environment.id}"
    elif low or high:
        bounds = [_per_dimension(values, file.sizes["actions"]) for values in (low, high)]
        space, source = _box(*bounds), "as given"
    else:
        space = _box(*file.bounds)
        source = f"the extremes of the data, {space.low.min():.3g} to {space.high.max():.3g}"
    outside = (file.bounds[0] < space.low - SLACK) | (file.bounds[1] > space.high + SLACK)
    if outside.any():
        number = int(outside.argmax())
        seen, allowed = ([bound[number] for bound in both] for both in (file.bounds, _ends(space)))
        raise SettingsError(
            f"{file.path}: dimension {number} of actions ranges from {seen[0]:g} to {seen[1]:g}, outside the "
            f"bounds {allowed[0]:g} to {allowed[1]:g}, {source}; set wider bounds with --action-low and "
            "--action-high, without --environment"
        )
    return space, source


def _ends(space: spaces.Box) -> tuple[NDArray[Any], NDArray[Any]]:
    return space.low, space.high


def _space_of(environment: Environment, file: InspectedFile) -> spaces.Box:
    made = make_environment(environment)
    space = made.action_space
    made.close()
    if not is_scalable(space) or space.shape != (file.sizes["actions"],):
        raise SettingsError(
            f"the action space of {environment.id} is {space}, and actions of {file.path} have "
            f"{file.sizes['actions']} dimensions; leave --environment out, or name that of this data"
        )
    return space


def _per_dimension(values: Sequence[float], size: int) -> NDArray[np.float32]:
    """One bound per dimension of the actions, (size,), from one for all or one per dimension."""
    if len(values) not in (1, size):
        raise SettingsError(
            f"--action-low and --action-high: expected 1 or {size} numbers, as actions have {size} dimensions, "
            f"not {len(values)}"
        )
    return np.broadcast_to(np.asarray(values, dtype=np.float32), (size,))


def _box(low: NDArray[np.float32], high: NDArray[np.float32]) -> spaces.Box:
    """The action space with these bounds; an empty range is an error, as policies scale their actions to it."""
    empty = ~(low < high)
    if empty.any():
        number = int(empty.argmax())
        raise SettingsError(
            f"dimension {number} of actions would have the bounds {low[number]:g} and {high[number]:g}; set its "
            "true bounds with --action-low and --action-high"
        )
    return spaces.Box(low, high, dtype=np.float32)
