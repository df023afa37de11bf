"""Writing a file's episodes as a Minari dataset into the local root, whole or not at all."""

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
from offline_gcrl.config import Environment
from offline_gcrl.convert.layouts import InspectedFile, read_episodes
from offline_gcrl.environments.making import make_environment
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.support.processes import with_callback

SLACK = 1e-5  # As at ingest: actions are stored as float32, bounds may not be.


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
        dataset: a Minari id.
        file: the file.
        actions: the space of its actions.
        environment: where the data comes from; noted with it.
        replace: write over a dataset that is there already.
        on_transitions: hears of progress.

    Returns:
        The folder of the dataset.

    Raises:
        DataError: the file is broken, or the dataset is there and ``replace`` is not set.
    """
    home: Path = get_dataset_path(dataset)
    if home.exists() and not replace:
        raise DataError(
            f"dataset '{dataset}' is there already, in {home}; --replace writes it anew"
        )
    size, dtype = file.sizes["observations"], file.dtype.type
    episodes = read_episodes(file, actions.dtype)
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
    """The space of the actions, and whose bounds these are: the environment's, given ones, or the data's.

    The data's own extremes are the widest range that it shows to be possible; policies keep within it.

    Raises:
        SettingsError: the bounds do not fit the file.
    """
    if environment is not None:
        space, source = _space_of(environment, file), f"those of {environment.id}"
    elif low or high:
        bounds = [_one_each(values, file.sizes["actions"]) for values in (low, high)]
        space, source = _box(*bounds), "as given"
    else:
        space = _box(*file.bounds)
        source = f"the data's own extremes, {space.low.min():.3g} to {space.high.max():.3g}"
    outside = (file.bounds[0] < space.low - SLACK) | (file.bounds[1] > space.high + SLACK)
    if outside.any():
        number = int(outside.argmax())
        seen, allowed = ([bound[number] for bound in both] for both in (file.bounds, _ends(space)))
        raise SettingsError(
            f"{file.path}: action {number} reaches from {seen[0]:g} to {seen[1]:g}, outside its bounds "
            f"{allowed[0]:g} to {allowed[1]:g}, {source}; give wider ones with --action-low and "
            "--action-high, without --environment"
        )
    return space, source


def _ends(space: spaces.Box) -> tuple[NDArray[Any], NDArray[Any]]:
    return space.low, space.high


def _space_of(environment: Environment, file: InspectedFile) -> spaces.Box:
    made = make_environment(environment)
    space = made.action_space
    made.close()
    if not isinstance(space, spaces.Box) or space.shape != (file.sizes["actions"],):
        raise SettingsError(
            f"{environment.id} takes actions {space}, and those of {file.path} have "
            f"{file.sizes['actions']} numbers; leave --environment out, or name the one of this data"
        )
    return space


def _one_each(values: Sequence[float], size: int) -> NDArray[np.float32]:
    """One bound for each action; a single one holds for all."""
    if len(values) not in (1, size):
        raise SettingsError(
            f"--action-low and --action-high: {len(values)} numbers given; the actions have {size}, and one "
            "number holds for all"
        )
    return np.broadcast_to(np.asarray(values, dtype=np.float32), (size,))


def _box(low: NDArray[np.float32], high: NDArray[np.float32]) -> spaces.Box:
    """Bounds with some room between them: policies scale their actions to it."""
    empty = ~(low < high)
    if empty.any():
        number = int(empty.argmax())
        raise SettingsError(
            f"action {number} would be bounded by {low[number]:g} and {high[number]:g}; give its true bounds "
            "with --action-low and --action-high"
        )
    return spaces.Box(low, high, dtype=np.float32)
