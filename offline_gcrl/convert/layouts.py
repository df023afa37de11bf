"""The layouts of files: meaning of their rows, checks, and reading of one episode at a time.

All layouts have one row per step. Minari needs one observation more than there are actions, the state after the last
action. If a file has no ``next_observations``, the last row of an episode provides this state, and the action of that
row is left out because its outcome is unknown. In OGBench's files the last action is a filler anyway; in D4RL's files
one transition per episode is lost.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer
from numpy.typing import NDArray

from offline_gcrl.config import nearest
from offline_gcrl.convert.arrays import Layout
from offline_gcrl.convert.columns import Column, Columns, readable
from offline_gcrl.convert.kinds import check_kind
from offline_gcrl.convert.lerobot import LAST_STATE
from offline_gcrl.support.errors import DataError

ROWS_PER_READ = 2**16
Ends = Literal["either", "terminals", "timeouts"]


GOALS = ("achieved_goal", "desired_goal")
ORIGINAL = ("goal", "desired_goal")
KNOWN = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


@dataclass(frozen=True)
class InspectedFile:
    """The result of ``inspect_file``: the episodes of a file, and the sizes of its vectors."""

    path: Path
    layout: Layout
    rows: int
    sizes: dict[str, int]
    """Size of a row, by the name of the array."""
    dtype: np.dtype[Any]
    """Type of the observations in the Minari dataset."""
    spans: tuple[tuple[int, int], ...]
    """First row, and the row after the last, of each episode that has a transition."""
    too_short: int
    """Number of episodes without a transition, which are left out."""
    marked: bool
    """Whether the file marks the end of any episode."""
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]]
    """Smallest and largest value in each dimension of the actions, (action,) each."""
    has_whole_actions: bool
    """Whether the actions have a type of whole numbers, as labels of discrete actions have."""
    image_size: tuple[int, int] | None = None
    """Height and width of the images, if the layout has any."""

    @property
    def has_next(self) -> bool:
        """Whether the file has the state after each row."""
        return "next_observations" in self.sizes

    @property
    def transitions(self) -> int:
        """Number of transitions of all episodes."""
        return sum(stop - start - (not self.has_next) for start, stop in self.spans)

    @property
    def has_last_states(self) -> bool:
        """Whether the last row of each episode is its last state, whose action is a filler."""
        return self.layout.name == "ogbench" or f"infos/{LAST_STATE}" in self.sizes

    @property
    def infos(self) -> dict[str, str]:
        """Arrays that become infos, with their names there."""
        prefix = self.layout.infos
        names = (name for name in self.sizes if name.startswith(prefix) and name not in KNOWN)
        return {name: name.removeprefix(prefix) for name in names}

    @property
    def goal_keys(self) -> dict[str, int]:
        """Sizes of achieved and original goals in a file that has both, by their names among the infos."""
        own = {key: self.sizes[name] for name, key in self.infos.items()}
        return {key: own[key] for key in GOALS if key in own}

    @property
    def goal(self) -> str | None:
        """Name of the array of original goals; None if there is none."""
        return next((name for name, key in self.infos.items() if key in ORIGINAL), None)


def inspect_file(path: Path, layout: Layout, ends: Ends = "either") -> InspectedFile:
    """Read a file once and check it, before anything is written.

    Args:
        path: the file.
        layout: its layout.
        ends: which arrays mark ends of episodes.

    Raises:
        DataError: naming file, array and remedy.
    """
    check_kind(path, layout.name)
    with layout.columns(path) as columns:
        rows, sizes = _sizes(path, layout, columns)
        flags = _flags(path, layout, columns, rows, ends)
        bounds = _extremes(path, columns, rows)
        dtype = columns["observations"].dtype
        has_whole_actions = columns["actions"].dtype.kind in "biu"
        height, width = columns[layout.image].shape[1:3] if layout.image else (0, 0)
    last = np.flatnonzero(flags) + 1
    if layout.must_end and (not len(last) or last[-1] != rows):
        raise DataError(
            f"{path}: the last row does not end an episode; the file is incomplete, so copy or download it again"
        )
    stops = np.unique(np.append(last, rows)).tolist()
    starts = [0, *stops[:-1]]
    needed = 1 if "next_observations" in sizes else 2
    spans = [(a, b) for a, b in zip(starts, stops, strict=True) if b - a >= needed]
    if not spans:
        raise DataError(
            f"{path}: no episode has a transition; check which array marks ends of episodes (--ends)"
        )
    return InspectedFile(
        path=path,
        layout=layout,
        rows=rows,
        sizes=sizes,
        dtype=_floating(dtype),
        spans=tuple(spans),
        too_short=len(stops) - len(spans),
        marked=bool(len(last)),
        bounds=bounds,
        has_whole_actions=has_whole_actions,
        image_size=(height, width) if layout.image else None,
    )


def _floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of observations in the Minari dataset: float32, or float64 where float32 would lose digits."""
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32, "safe") else np.float64)


def read_episodes(file: InspectedFile, action_dtype: Any) -> Iterator[EpisodeBuffer]:
    """The episodes of a file, in order.

    Raises:
        DataError: naming file, array, episode and row.
    """
    with file.layout.columns(file.path) as columns:
        row = 0
        for episode, (start, stop) in enumerate(file.spans):
            where = f"{file.path}: episode {episode}"
            read = {name: _read(file.path, name, columns, stop - row) for name in file.sizes}
            # Rows before the start belong to episodes that are left out.
            values = {name: array[start - row :] for name, array in read.items()}
            row = stop
            for name in ("observations", "actions", "rewards", "next_observations"):
                if name in values:
                    _check_finite(values[name], f"{where}: {name}", start)
            values["observations"] = values["observations"].astype(file.dtype)
            values["actions"] = values["actions"].astype(action_dtype)
            yield _buffer(file, values, where, start)


def continued_episodes(file: InspectedFile) -> int:
    """Number of episodes whose last state, by ``next_observations``, is the first state of the next episode.

    So it is in data without resets. In data with resets, such a ``next_observations`` was made by a shift of rows.
    """
    count, row, last = 0, 0, None
    with file.layout.columns(file.path) as columns:
        for start, stop in file.spans:
            first, following = (
                _read(file.path, name, columns, stop - row)[start - row :]
                for name in ("observations", "next_observations")
            )
            row = stop
            count += last is not None and bool(np.allclose(last, first[0]))
            last = following[-1]
    return count


def _buffer(
    file: InspectedFile, values: dict[str, NDArray[Any]], where: str, start: int
) -> EpisodeBuffer:
    """One episode in the format of Minari."""
    observations, actions = values["observations"], values["actions"]
    if file.has_next:
        following = values["next_observations"].astype(observations.dtype)
        _check_continuous(observations, following, where, start)
        observations = np.concatenate([observations, following[-1:]])
    length = len(observations) - 1
    terminations = np.zeros(length, dtype=bool)
    # Without next observations, a terminal transition is the one that is left out.
    terminations[-1] = file.has_next and bool(values.get("terminals", [0])[-1])
    truncations = np.zeros(length, dtype=bool)
    truncations[-1] = not terminations[-1]
    rewards = values.get("rewards", np.zeros(length)).reshape(-1)[:length]
    return EpisodeBuffer(
        observations=observations,
        actions=actions[:length],
        rewards=rewards.astype(np.float64),
        terminations=terminations,
        truncations=truncations,
        infos=_nested(file, values, length) or None,
    )


def _nested(file: InspectedFile, values: dict[str, NDArray[Any]], length: int) -> dict[str, Any]:
    """The infos of an episode as nested dicts.

    A file with next observations has no row for the last state, so the goal of the row before is repeated for it. Other
    infos are then one row short, and a recipe that selects one of them ends in an error.
    """
    infos: dict[str, Any] = {}
    for name, key in file.infos.items():
        array = values[name]
        if key in ORIGINAL and len(array) == length:
            array = np.concatenate([array, array[-1:]])
        *above, leaf = key.split("/")
        place = infos
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise DataError(
                    f"{file.path}: '{name}' is an array below the array '{part}'; rename one of them"
                )
        if leaf in place:
            raise DataError(f"{file.path}: '{name}' is an array with arrays below it; rename it")
        place[leaf] = array
    return infos


def _sizes(path: Path, layout: Layout, columns: Columns) -> tuple[int, dict[str, int]]:
    """Number of rows of the file, and size of a row of each array that is used."""
    for name in layout.required:
        if name not in columns:
            raise DataError(f"{path}: no array '{name}'; {nearest(name, columns)}")
    rows = columns["observations"].shape[0]
    if not rows:
        raise DataError(f"{path}: 'observations' has no rows")
    sizes = {}
    for name, column in columns.items():
        if name in KNOWN:
            _check_shape(path, name, column, rows)
        elif not name.startswith(layout.infos) or not _is_info(column, rows):
            continue
        sizes[name] = int(np.prod(column.shape[1:]))
    if sizes.get("next_observations", sizes["observations"]) != sizes["observations"]:
        raise DataError(f"{path}: 'next_observations' differ from 'observations' in size")
    return rows, sizes


def _check_shape(path: Path, name: str, column: Column, rows: int) -> None:
    is_vector = name in ("observations", "actions", "next_observations")
    if len(column.shape) > 2 or (is_vector and (len(column.shape) != 2 or not column.shape[1])):
        raise DataError(
            f"{path}: '{name}' has the shape {column.shape}; agents need vectors, (rows, size), not images or "
            "discrete actions"
        )
    if column.shape[0] != rows:
        raise DataError(f"{path}: '{name}' has {column.shape[0]} rows, and 'observations' {rows}")
    if not is_vector and int(np.prod(column.shape[1:])) != 1:
        raise DataError(
            f"{path}: '{name}' has rows of shape {column.shape[1:]}, expected one number per row"
        )
    if column.dtype.kind not in "biuf":
        raise DataError(f"{path}: '{name}' has values of type {column.dtype}, expected numbers")


def _is_info(column: Column, rows: int) -> bool:
    return column.shape[:1] == (rows,) and column.dtype.kind in "biuf"


def _flags(
    path: Path, layout: Layout, columns: Columns, rows: int, ends: Ends
) -> NDArray[np.bool_]:
    """Whether each row is the last row of its episode, (rows,)."""
    names = layout.flags if ends == "either" else (ends,)
    if ends != "either" and ends not in columns:
        raise DataError(f"{path}: no array '{ends}'; {nearest(ends, columns)}")
    flags = np.zeros(rows, dtype=bool)
    for name in names:
        if name in columns:
            values = _read(path, name, columns, rows)
            _check_finite(values, f"{path}: {name}", 0)
            flags |= values.reshape(-1) != 0
    return flags


def _extremes(
    path: Path, columns: Columns, rows: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smallest and largest value in each dimension of the actions, (action,) each."""
    low, high = np.array([[np.inf], [-np.inf]]) * np.ones(columns["actions"].shape[1:])
    for start in range(0, rows, ROWS_PER_READ):
        values = _read(path, "actions", columns, min(ROWS_PER_READ, rows - start))
        _check_finite(values, f"{path}: actions", start)
        low, high = np.minimum(low, values.min(0)), np.maximum(high, values.max(0))
    return low.astype(np.float32), high.astype(np.float32)


def _read(path: Path, name: str, columns: Columns, rows: int) -> NDArray[Any]:
    """The next rows of an array."""
    with readable(path, name):
        return columns[name].read(rows)


def _check_finite(values: NDArray[Any], what: str, start: int) -> None:
    finite = np.isfinite(values.reshape(len(values), -1)).all(1)
    if not finite.all():
        raise DataError(
            f"{what} are not finite in row {start + int(finite.argmin())}; correct the file"
        )


def _check_continuous(
    observations: NDArray[Any], following: NDArray[Any], where: str, start: int
) -> None:
    """Check that each next observation is the observation of the next row, as an episode is stored contiguously."""
    same = np.isclose(following[:-1], observations[1:], rtol=1e-4, atol=1e-5).all(1)
    if not same.all():
        row = start + int(same.argmin())
        raise DataError(
            f"{where}: 'next_observations' of row {row} are not the 'observations' of row {row + 1}: rows are "
            "not in the order of steps, or the flags do not mark the ends of episodes (--ends)"
        )
