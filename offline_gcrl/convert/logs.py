"""Logs of one row per step in CSV or Parquet, with a column of episodes.

Columns are recognised by their names: ``episode``; ``step``, by which the rows of an episode must increase;
``observation_0``, ``observation_1``, ... or any others that begin with ``observation`` or ``obs``; likewise ``action``;
``reward``; ``terminated`` or ``done``. In Parquet, ``observation`` and ``action`` may be columns of lists. All other
columns of numbers become infos.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config import nearest
from offline_gcrl.convert.columns import ArrayColumn, Column, Columns
from offline_gcrl.support.errors import DataError

EPISODE = ("episode", "episode_id", "episode_index", "episode_number", "trajectory", "traj_id")
STEP = ("step", "timestep", "frame_index", "t")
REWARD = ("reward", "rewards", "next.reward")
TERMINAL = ("terminated", "terminal", "terminals", "done", "dones", "next.done")
VECTORS = {"observations": ("observation", "obs"), "actions": ("action", "act")}


@contextmanager
def log_columns(path: Path) -> Iterator[Columns]:
    """The columns of a log with the names of D4RL's files.

    Raises:
        DataError: the file cannot be read, a column is missing, or rows are not in the order of episodes and steps.
    """
    yield columns_of(_read(path), path)


def columns_of(table: pl.DataFrame, path: Path) -> Columns:
    """The columns of a table of steps with the names of D4RL's files; ``path`` is for errors."""
    episode, step = _named(table, EPISODE), _named(table, STEP)
    if episode is None:
        raise DataError(
            f"{path}: has no column of episodes ({', '.join(EPISODE)}) but {', '.join(table.columns[:8])}"
        )
    starts = _starts(table[episode], path, episode)
    if step is not None:
        _check_order(table[step], starts, path, step)
    names = {name: _vector(table, prefixes, path) for name, prefixes in VECTORS.items()}
    found: dict[str, Column] = {
        name: ArrayColumn(_matrix(table, own, path)) for name, own in names.items()
    }
    scalars = {"rewards": _named(table, REWARD), "terminals": _named(table, TERMINAL)}
    for name, column in scalars.items():
        if column is not None:
            found[name] = ArrayColumn(_matrix(table, [column], path)[:, 0])
    ends = np.zeros(len(table), dtype=np.int8)
    ends[np.append(starts[1:], len(table)) - 1] = 1
    found["timeouts"] = ArrayColumn(ends)
    used = {episode, step, *scalars.values(), *(each for own in names.values() for each in own)}
    others = [name for name in table.columns if name not in used and _is_number(table[name])]
    return found | {f"infos/{name}": ArrayColumn(_matrix(table, [name], path)) for name in others}


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".csv":
            return pl.read_csv(path, infer_schema_length=None)
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read; is the file complete? ({reason})") from error


def _named(table: pl.DataFrame, names: Sequence[str]) -> str | None:
    by_name = {name.lower(): name for name in table.columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _vector(table: pl.DataFrame, prefixes: Sequence[str], path: Path) -> list[str]:
    """Columns of a vector: those that begin with a prefix, in the order of their numbers or of the file.

    Raises:
        DataError: there is none.
    """
    for prefix in prefixes:
        pattern = re.compile(rf"{prefix}s?(?:[._\[/-].*)?", re.IGNORECASE)
        found = [name for name in table.columns if pattern.fullmatch(name)]
        if found:
            numbers = [re.findall(r"\d+", name) for name in found]
            if all(len(each) == 1 for each in numbers):
                return sorted(found, key=lambda name: int(re.findall(r"\d+", name)[0]))
            return found
    raise DataError(
        f"{path}: no column begins with {' or '.join(map(repr, prefixes))}; {nearest(prefixes[0], table.columns)}"
    )


def _matrix(table: pl.DataFrame, names: Sequence[str], path: Path) -> NDArray[Any]:
    """Columns of numbers or of lists of numbers as one matrix, (rows, size)."""
    parts = []
    for name in names:
        column = table[name]
        if column.null_count():
            row = int(column.is_null().arg_max() or 0)
            raise DataError(f"{path}: '{name}' is empty in row {row}; fill it, or delete the row")
        if isinstance(column.dtype, pl.List):
            lengths = column.list.len().unique()
            if len(lengths) != 1:
                raise DataError(f"{path}: '{name}' has lists of {len(lengths)} different lengths")
            column = column.list.to_array(int(lengths[0]))
        elif not _is_number(column):
            raise DataError(f"{path}: '{name}' has values of type {column.dtype}, expected numbers")
        values = column.cast(pl.Int8) if column.dtype == pl.Boolean else column
        parts.append(values.to_numpy().reshape(len(table), -1))
    return np.concatenate(parts, 1)


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
    increases = np.append(True, np.diff(step.to_numpy()) > 0)
    increases[starts] = True
    if not increases.all():
        raise DataError(
            f"{path}: '{name}' does not increase in row {int(increases.argmin())}; sort the rows of each episode by it"
        )
