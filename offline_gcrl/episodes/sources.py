"""Opening a source's Minari dataset, and checking what holds for the whole of it before its episodes are read."""

import json
from pathlib import Path
from typing import Any

import h5py
import minari
from gymnasium import spaces

from offline_gcrl.config import Recipe, Source
from offline_gcrl.support.errors import DataError

EPISODES, STEPS, DATA = "total_episodes", "total_steps", "main_data.hdf5"


def open_source(source: Source, root: Path) -> minari.MinariDataset:
    """Open one source's Minari dataset.

    Raises:
        DataError: it is missing, empty, cut off, or no Minari dataset.
    """
    path, where = root / source.dataset / "data", f"dataset '{source.dataset}'"
    try:
        metadata = _metadata(path)
        if metadata.get("data_format", "hdf5") == "hdf5":
            _check_groups(path / DATA, metadata[EPISODES])
        if metadata[EPISODES] == 0:
            raise DataError(f"{where} in {path} has no episodes; was it written to the end?")
        return minari.MinariDataset(path)
    except DataError:
        raise
    except Exception as error:  # Minari raises whatever its reader met; each means: unreadable.
        raise DataError(
            f"{where} in {path} cannot be read as Minari data: {reason_of(error)}; if it came broken, "
            "copy or download it again"
        ) from error


def check_source(recipe: Recipe, source: Source, data: minari.MinariDataset, root: Path) -> None:
    """Check what holds for a whole source: bounded actions, spaces of the recipe, enough episodes.

    Raises:
        DataError: naming the dataset and the remedy.
    """
    where, space = f"dataset '{source.dataset}'", data.action_space
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        raise DataError(f"{where}: its actions are {space}; agents need a Box with finite bounds")
    if not (space.low < space.high).all():
        raise DataError(f"{where}: its actions are {space}, which leaves some of them no room")
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
            f"{where} has {data.total_episodes} episodes, and its recipe asks for {source.episodes}"
        )


def taken_episodes(source: Source, data: minari.MinariDataset) -> int:
    """How many episodes are taken: all of what is made here, which may have been cut into more."""
    every = int(data.total_episodes)
    return every if source.collect else source.episodes or every


def reason_of(error: Exception) -> str:
    """What a reader said: a KeyError quotes its text, some errors have none."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    return str(said).strip() or type(error).__name__


def _metadata(path: Path) -> dict[str, Any]:
    """What stands beside the data, with sound counts.

    Raises:
        ValueError: it does not, or they are not.
        OSError: there is none.
    """
    if not path.is_dir():
        raise ValueError("there is no such folder")
    metadata = json.loads((path / "metadata.json").read_text())
    if not isinstance(metadata, dict):
        raise ValueError("metadata.json holds no keys")
    for key in (EPISODES, STEPS):
        count = metadata.get(key)
        if type(count) is not int or count < 0:
            raise ValueError(f"metadata.json: {key}: expected a whole number, not {count!r}")
    return metadata


def _check_groups(file: Path, episodes: int) -> None:
    """That the HDF5 file holds the episodes that the metadata counts; Minari notes the count at the end.

    Raises:
        ValueError: it holds others.
    """
    if episodes == 0 and file.stat().st_size == 0:
        return  # As Minari begins one.
    with h5py.File(file, "r") as content:
        if "episode_0" not in content:
            found = ", ".join(sorted(content)[:6]) or "nothing"
            own = {"observations", "actions"} <= set(content)
            remedy = (
                "; `python -m offline_gcrl.convert d4rl` makes Minari data of it" if own else ""
            )
            raise ValueError(f"{file.name} has no group episode_0 but {found}{remedy}")
        if f"episode_{episodes - 1}" not in content or f"episode_{episodes}" in content:
            raise ValueError(
                f"metadata.json counts {episodes} episodes and {file.name} holds {len(content)}; it was not "
                "written to the end: make, copy or download it again"
            )
