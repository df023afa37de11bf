"""Opens the Minari datasets of sources, and checks them before their episodes are read."""

import json
from pathlib import Path
from typing import Any

import h5py
import minari

from offline_gcrl.config import Recipe, Source
from offline_gcrl.environments.actions import NEEDED, is_scalable
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import DataError

EPISODES, STEPS, DATA = "total_episodes", "total_steps", "main_data.hdf5"


def open_source(source: Source, root: Path) -> minari.MinariDataset:
    """Open the Minari dataset of a source.

    Raises:
        DataError: the dataset is missing, empty, incomplete, or not in Minari's format.
    """
    path, where = root / source.dataset / "data", f"dataset '{source.dataset}'"
    try:
        metadata = _metadata(path)
        if metadata.get("data_format", "hdf5") == "hdf5":
            _check_groups(path / DATA, metadata[EPISODES])
        if metadata[EPISODES] == 0:
            raise DataError(f"{where} in {path} has no episodes; was it written to the end?")
        return minari.MinariDataset(path)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Minari passes on any exception of its reader.
        raise DataError(
            f"{where} in {path} cannot be read as Minari data: {reason_of(error)}; if the files are broken, "
            "copy or download them again"
        ) from error


def check_source(recipe: Recipe, source: Source, data: minari.MinariDataset, root: Path) -> None:
    """Check that a source has bounded actions, the spaces of the recipe's other sources, and enough episodes.

    Raises:
        DataError: a check failed; the message names the dataset and the remedy.
    """
    where, space = f"dataset '{source.dataset}'", data.action_space
    if not is_scalable(space):
        raise DataError(f"{where}: its actions are {space}; {NEEDED}")
    if not (space.low < space.high).all():
        raise DataError(
            f"{where}: its actions are {space}; every lower bound must be below its upper bound"
        )
    reference = open_source(recipe.sources[0], root)
    for kind in ("observation_space", "action_space"):
        mine, theirs = getattr(data, kind), getattr(reference, kind)
        if mine != theirs:
            raise DataError(
                f"{where}: its {kind} {mine} is not that of '{recipe.sources[0].dataset}', {theirs}; "
                "sources of one recipe must share their spaces"
            )
    if taken_episodes(source, data) > data.total_episodes:
        raise DataError(
            f"{where} has {data.total_episodes} episodes, but its recipe asks for {source.episodes}, or collect.episodes "
            "of params.yaml does"
        )


def taken_episodes(source: Source, data: minari.MinariDataset) -> int:
    """The number of episodes that are taken from a source.

    All episodes of data that is collected here are taken, because collection may have cut them into more episodes.
    """
    total = int(data.total_episodes)
    return total if source.collect else source.episodes or total


def reason_of(error: Exception) -> str:
    """The message of an exception, without the quotes of a KeyError; the type's name if there is no message."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return str(message).strip() or type(error).__name__


def _metadata(path: Path) -> dict[str, Any]:
    """The content of ``metadata.json``, with valid counts.

    Raises:
        ValueError: the folder does not exist, or the content is invalid.
        OSError: the file cannot be read.
        DataError: a file has changed since it was collected.
    """
    if not path.is_dir():
        raise ValueError("there is no such folder")
    for file in sorted(path.rglob("*")):
        if file.is_file():
            intact(file)
    metadata = json.loads((path / "metadata.json").read_text("utf-8"))
    if not isinstance(metadata, dict):
        raise ValueError("metadata.json is not a JSON object")
    for key in (EPISODES, STEPS):
        count = metadata.get(key)
        if type(count) is not int or count < 0:
            raise ValueError(f"metadata.json: {key}: expected a whole number, not {count!r}")
    return metadata


def _check_groups(file: Path, episodes: int) -> None:
    """Check that the HDF5 file contains the episodes that the metadata counts; Minari writes the count last.

    Raises:
        ValueError: the file contains other episodes.
    """
    if episodes == 0 and file.stat().st_size == 0:
        return  # This is how Minari creates a new dataset.
    with h5py.File(file, "r") as content:
        if "episode_0" not in content:
            found = ", ".join(sorted(content)[:6]) or "nothing"
            is_d4rl = {"observations", "actions"} <= set(content)
            remedy = "; convert it with `python -m offline_gcrl.convert d4rl`" if is_d4rl else ""
            raise ValueError(f"{file.name} has no group episode_0 but {found}{remedy}")
        if f"episode_{episodes - 1}" not in content or f"episode_{episodes}" in content:
            raise ValueError(
                f"metadata.json counts {episodes} episodes, but {file.name} contains {len(content)}; the dataset is "
                "incomplete: make, copy or download it again"
            )
