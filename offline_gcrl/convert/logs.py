"""Logs of one row per step in CSV or Parquet, with a column of episodes.

Columns are recognised by their names: ``episode``; ``step``, by which the rows of an episode must increase;
``observation_0``, ``observation_1``, ... or any others that begin with ``observation`` or ``obs``; likewise ``action``
and the goals ``achieved_goal``, ``desired_goal`` and ``goal``; ``reward``; ``terminated`` or ``done``. In Parquet, vectors
may be columns of lists. All other columns of numbers become infos.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config import nearest
from offline_gcrl.convert.columns import ArrayColumn, Column, Columns
from offline_gcrl.convert.log_files import read_log
from offline_gcrl.support.errors import DataError

EPISODE = ("episode", "episode_id", "episode_index", "episode_number", "trajectory", "traj_id")
STEP = ("step", "timestep", "frame_index", "t")
REWARD = ("reward", "rewards", "next.reward")
TERMINAL = ("terminated", "terminal", "terminals", "done", "dones", "next.done")
VECTORS = {"observations": ("observation", "obs"), "actions": ("action", "act")}
GOALS = ("achieved_goal", "desired_goal", "goal")
ANY, NUMBER = r"s?(?:\d.*|[._\[/-](?!next).*)?", r"(?:[._\[/-]?\d+\]?)?"
"""What may follow the prefix of a column of observations or actions (not ``obs_next_0``), and that of a goal (not
``goal_reached``)."""


@contextmanager
def log_columns(path: Path) -> Iterator[Columns]:
    """The columns of a log with the names of D4RL's files.

    Raises:
        DataError: the file cannot be read, a column is missing, or rows are not in the order of episodes and steps.
    """
    yield columns_of(read_log(path)[0], path)


def columns_of(table: pl.DataFrame, path: Path) -> Columns:
    """The columns of a table of steps with the names of D4RL's files; ``path`` is for errors."""
    episode, step = _named(table, EPISODE), _named(table, STEP)
    if episode is None:
        raise DataError(
            f"{path}: has no column of episodes ({', '.join(EPISODE)}) but {', '.join(table.columns[:8])}"
        )
    ids = table[episode]
    _check_filled(ids.fill_nan(None) if ids.dtype.is_float() else ids, path)
    starts = _starts(table[episode], path, episode)
    if step is not None:
        _check_order(table[step], starts, path, step)
    lasts = np.append(starts[1:], len(table)) - 1
    names = {name: _vector(table.columns, prefixes) for name, prefixes in VECTORS.items()}
    names |= {f"infos/{goal}": _vector(table.columns, [goal], NUMBER) for goal in GOALS}
    for name, prefixes in VECTORS.items():
        if not names[name]:
            raise DataError(
                f"{path}: no column begins with {' or '.join(map(repr, prefixes))}; {nearest(prefixes[0], table.columns)}"
            )
    scalars = {"rewards": _named(table, REWARD), "terminals": _named(table, TERMINAL)}
    after = [*names["actions"], *([scalars["rewards"]] if scalars["rewards"] else [])]
    table = _without_outcome(table, after, lasts)
    found: dict[str, Column] = {
        name: ArrayColumn(_matrix(table, own, path)) for name, own in names.items() if own
    }
    for name, column in scalars.items():
        if column is not None:
            found[name] = ArrayColumn(_matrix(table, [column], path)[:, 0])
    if scalars["terminals"] is not None:
        _check_terminals(found["terminals"], lasts, path, scalars["terminals"])
    ends = np.zeros(len(table), dtype=np.int8)
    ends[lasts] = 1
    found["timeouts"] = ArrayColumn(ends)
    used = {episode, step, *scalars.values(), *(each for own in names.values() for each in own)}
    others = [name for name in table.columns if name not in used and _is_number(table[name])]
    _check_names(others, path)
    # An empty number of an info is as good as nan, because nothing is learned from it.
    gaps = [name for name in others if table[name].null_count() and table[name].dtype.is_numeric()]
    table = table.with_columns(pl.col(gaps).cast(pl.Float64).fill_null(float("nan")))
    return found | {f"infos/{name}": ArrayColumn(_matrix(table, [name], path)) for name in others}


def _named(table: pl.DataFrame, names: Sequence[str]) -> str | None:
    by_name = {name.lower(): name for name in table.columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _vector(columns: Sequence[str], prefixes: Sequence[str], then: str = ANY) -> list[str]:
    """Columns of a vector: those that begin with a prefix, after which comes what ``then`` says.

    Names that differ in one number only are in the order of that number, and their groups in the order of the file.
    """
    pattern = re.compile(rf"(?:{'|'.join(prefixes)}){then}", re.IGNORECASE)
    groups: dict[str, list[str]] = {}
    for name in columns:
        if pattern.fullmatch(name):
            groups.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return [name for stem, group in groups.items() for name in _by_number(stem, group)]


def _by_number(stem: str, names: list[str]) -> list[str]:
    if stem.count("#") != 1:
        return names
    return sorted(names, key=lambda name: int("".join(re.findall(r"\d", name))))


def _without_outcome(
    table: pl.DataFrame, names: Sequence[str], lasts: NDArray[np.int64]
) -> pl.DataFrame:
    """Fill missing actions and rewards in the last rows of episodes, which are left out because no state follows them.

    The numbers of the row before are used, because bounds of actions can come from the data.
    """
    is_last = pl.Series(np.isin(np.arange(len(table)), lasts))
    filled = []
    for name in names:
        column = table[name].fill_nan(None) if table[name].dtype.is_float() else table[name]
        missing = is_last & column.is_null()
        near = column.fill_null(strategy="forward").fill_null(strategy="backward")
        filled.append(near.zip_with(missing, table[name]).alias(name))
    return table.with_columns(filled)


def _check_terminals(terminals: Column, lasts: NDArray[np.int64], path: Path, name: str) -> None:
    marked = np.flatnonzero(terminals.values)  # type: ignore[attr-defined]
    early = np.setdiff1d(marked, lasts)
    if len(early):
        raise DataError(
            f"{path}: '{name}' marks row {early[0]} as the end of an episode, and rows of the same episode follow; correct the "
            "column of episodes, or rename or delete this one"
        )


def _matrix(table: pl.DataFrame, names: Sequence[str], path: Path) -> NDArray[Any]:
    """Columns of numbers or of lists of numbers as one matrix, (rows, size)."""
    parts = []
    for name in names:
        column = table[name]
        _check_filled(column, path)
        if isinstance(column.dtype, pl.List):
            lengths = column.list.len().unique()
            if len(lengths) != 1:
                raise DataError(f"{path}: '{name}' has lists of {len(lengths)} different lengths")
            column = column.list.to_array(int(lengths[0]))
        elif column.dtype == pl.String:
            raise DataError(f"{path}: {_no_number(column)}; correct it, or rename the column")
        elif not _is_number(column):
            raise DataError(f"{path}: '{name}' has values of type {column.dtype}, expected numbers")
        values = column.cast(pl.Int8) if column.dtype == pl.Boolean else column
        parts.append(values.to_numpy().reshape(len(table), -1))
    return np.concatenate(parts, 1)


def _check_filled(column: pl.Series, path: Path) -> None:
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise DataError(
            f"{path}: '{column.name}' is empty in row {row}; fill it, or delete the row"
        )


def _no_number(column: pl.Series) -> str:
    """The first text of a column that is not a number, in words."""
    row = int(column.cast(pl.Float64, strict=False).is_null().arg_max() or 0)
    return f"'{column.name}' is '{column[row]}' in row {row}, expected a number"


def _check_names(names: Sequence[str], path: Path) -> None:
    """Check the names of infos, which become those of groups in HDF5 between slashes."""
    for name in names:
        if {"", "."} & set(name.split("/")):
            raise DataError(
                f"{path}: the name of column '{name}' has an empty part or '.' between slashes; rename it"
            )


def _is_number(column: pl.Series) -> bool:
    kind = column.dtype
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
    return bool(inner == pl.Boolean or inner.is_numeric())


def _starts(episode: pl.Series, path: Path, name: str) -> NDArray[np.int64]:
    """First row of each episode; the rows of an episode must be together."""
    changed = (episode != episode.shift(1)).fill_null(True).to_numpy()
    starts = np.flatnonzero(changed)
    if len(starts) != episode.n_unique():
        values = episode.to_numpy()[starts]
        seen = next(value for place, value in enumerate(values) if value in values[:place])
        raise DataError(
            f"{path}: the rows of episode {seen} are not together; sort them by '{name}' and step"
        )
    return starts


def _check_order(step: pl.Series, starts: NDArray[np.int64], path: Path, name: str) -> None:
    """Check that steps, numbers or times, increase within each episode."""
    if not (step.dtype.is_temporal() or step.dtype.is_numeric()):
        raise DataError(
            f"{path}: '{name}' has values of type {step.dtype}, expected numbers or times; convert it, or rename it"
        )
    # Differences of unsigned integers would not be negative.
    values = step.to_physical()
    signed = values.cast(pl.Int64 if values.dtype.is_integer() else pl.Float64)
    rises = signed.diff().fill_null(1).to_numpy() > 0
    rises[starts] = True
    if not rises.all():
        raise DataError(
            f"{path}: '{name}' does not increase in row {int(rises.argmin())}; sort the rows of each episode by it"
        )


def log_remarks(path: Path) -> list[str]:
    """Which columns are the observation and the action, and where whole steps are missing."""
    table, remarks = read_log(path)
    lines = [*remarks] + [
        f"{what}: {numbered([(name, _size(table[name])) for name in _vector(table.columns, prefixes)])}"
        for what, prefixes in (
            ("observation", VECTORS["observations"]),
            ("action", VECTORS["actions"]),
        )
    ]
    step, episode = _named(table, STEP), _named(table, EPISODE)
    if step is None or episode is None or not table[step].dtype.is_integer():
        return lines
    rises = table[step].cast(pl.Int64).diff().to_numpy()
    same = (table[episode] == table[episode].shift(1)).fill_null(False).to_numpy()
    values, counts = np.unique(rises[same], return_counts=True)
    if len(values) > 1:
        gaps = np.flatnonzero(same & (rises != values[counts.argmax()]))
        lines.append(
            f"'{step}' jumps in {len(gaps):,} rows, first in row {gaps[0]}: there the transition is longer than one step"
        )
    return lines


def numbered(parts: Sequence[tuple[str, int]]) -> str:
    """Names of the parts of a vector with their columns, such as ``0 to 2 position, 3 angle``.

    Parts whose names differ in their numbers only are given as the first and the last one.
    """
    words, first = [], 0
    for _, group in groupby(parts, key=lambda part: re.sub(r"\d+", "#", part[0])):
        names, sizes = zip(*group, strict=True)
        stop = first + sum(sizes)
        columns = f"{first}" if stop == first + 1 else f"{first} to {stop - 1}"
        words.append(f"{columns} {' ... '.join(dict.fromkeys((names[0], names[-1])))}")
        first = stop
    return ", ".join(words)


def _size(column: pl.Series) -> int:
    """Numbers per row of a column."""
    return int(column.list.len().max()) if isinstance(column.dtype, pl.List) else 1  # type: ignore[arg-type]
