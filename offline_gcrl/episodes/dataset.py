"""Opening an ingested dataset as arrays, or as parts of them that are read one after another."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Images, Region
from offline_gcrl.config.outputs import EPISODES, FRAMES, SCHEMA, STEPS
from offline_gcrl.episodes.schema import FORMAT, VECTORS, achieved_column
from offline_gcrl.support.digests import intact, read_json
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.memory import require_memory
from offline_gcrl.support.tables import iterate_batches, rows_of

BYTES_PER_READ = 2**20
"""Size of the parts in which steps are read."""
ROWS_PER_PART = 2**16
"""Rows in a part of arrays in memory."""


@dataclass(frozen=True)
class EpisodeIndex:
    """The schema and the episode table of a dataset with E episodes and R steps, without the arrays of steps."""

    schema: dict[str, Any]
    table: pl.DataFrame
    """E rows with the columns of ``EPISODES_SCHEMA``."""
    frames: Path | None = field(default=None, kw_only=True)
    """File of the images of the steps; None in a dataset without images."""

    @property
    def index(self) -> "EpisodeIndex":
        """The schema and the episode table alone."""
        return EpisodeIndex(self.schema, self.table, frames=self.frames)

    @property
    def images(self) -> Images | None:
        """Size and origin of the images of states; None in a dataset without images."""
        found = self.schema.get("images")
        return None if found is None else Images.model_validate_json(json.dumps(found))

    @property
    def goal(self) -> Goal:
        """The goal spec of the recipe that the data was ingested with."""
        return Goal.model_validate_json(json.dumps(self.schema["goal"]))

    @property
    def held_out(self) -> dict[str, Region]:
        """The region of goals that are held out from training, by task; tasks without one are missing."""
        regions = self.schema.get("held_out", {})
        return {
            task: Region.model_validate_json(json.dumps(region)) for task, region in regions.items()
        }

    @property
    def rows(self) -> int:
        """Number of steps, R."""
        return int(self.table["length"].cast(pl.Int64).sum()) + len(self.table)

    def transition_rows(
        self, split: str | None = None, task: str | None = None
    ) -> NDArray[np.int64]:
        """Rows that have a next state, in order; only those of one split or one task if these are given."""
        chosen = self._of(split, task)
        first, length = chosen["first_row"].to_numpy(), chosen["length"].to_numpy().astype(np.int64)
        start_of_each = np.repeat(first - np.append(0, length.cumsum()[:-1]), length)
        return start_of_each + np.arange(length.sum())

    def has_transitions(self, split: str | None = None, task: str | None = None) -> bool:
        """Whether there are transitions of one split and one task."""
        return self._of(split, task)["length"].sum() > 0

    def _of(self, split: str | None, task: str | None) -> pl.DataFrame:
        """The episodes of one split and one task, if these are given."""
        named = {"split": split, "task": task}
        return self.table.filter(
            pl.lit(True), *(pl.col(name) == value for name, value in named.items() if value)
        )

    def per_row(self, column: str) -> NDArray[Any]:
        """A column of the episode table, repeated for each step, (R,)."""
        return np.repeat(self.table[column].to_numpy(), self.table["length"].to_numpy() + 1)


@dataclass(frozen=True)
class Episodes(EpisodeIndex):
    """All steps of a dataset as float32 arrays with R rows, with the table of its E episodes."""

    observation: NDArray[np.float32]
    """(R, observation)"""
    achieved_goal: NDArray[np.float32]
    """(R, goal); the observations if goals are full states."""
    desired_goal: NDArray[np.float32] | None
    """(R, goal); None if the data has no desired goals."""
    action: NDArray[np.float32]
    """(R, action); zero in the last row of an episode, which has no action."""

    def parts(self, *columns: str) -> Iterator[list[NDArray[np.float32]]]:
        """Consecutive parts of arrays, (part, size) each; nothing if the data lacks a column."""
        arrays = [getattr(self, column) for column in columns]
        if all(array is not None for array in arrays):
            for first in range(0, self.rows, ROWS_PER_PART):
                yield [array[first : first + ROWS_PER_PART] for array in arrays]


@dataclass(frozen=True)
class StoredEpisodes(EpisodeIndex):
    """A dataset whose steps stay on disk, of which parts are read."""

    steps: Path
    """One file, or a folder of parts."""

    def parts(self, *columns: str) -> Iterator[list[NDArray[np.float32]]]:
        """Consecutive parts of the same arrays as those of ``Episodes``; nothing if the data lacks a column."""
        sizes = self.schema["sizes"]
        names = [achieved_column(self.schema) if c == "achieved_goal" else c for c in columns]
        if not all(name in sizes for name in names):
            return
        ends, first = _ends(self.table), 0
        for part in iterate_vectors(self.steps, {name: sizes[name] for name in names}):
            own = {name: np.require(part[name], requirements="W") for name in names}
            stop = first + len(own[names[0]])
            if "action" in own:
                inside = slice(*np.searchsorted(ends, (first, stop)))
                own["action"][ends[inside] - first] = 0.0
            yield list(own.values())
            first = stop


def open_stored(folder: Path) -> StoredEpisodes:
    """Open an ingested dataset without reading its steps.

    Raises:
        DataError: ``folder`` contains no ingested dataset, or one with the format of another version.
    """
    schema, table, steps = _complete(folder)
    return StoredEpisodes(schema, table, steps, frames=_frames(folder, schema))


def open_episodes(folder: Path) -> Episodes:
    """Open an ingested dataset with all steps in memory.

    Raises:
        DataError: ``folder`` contains no ingested dataset, or one with the format of another version.
    """
    schema, table, steps = _complete(folder)
    vectors = _read_vectors(steps, schema["sizes"], schema["counts"]["steps"])
    vectors["action"][_ends(table)] = 0.0
    return Episodes(
        schema=schema,
        table=table,
        observation=vectors["observation"],
        achieved_goal=vectors[achieved_column(schema)],
        desired_goal=vectors.get("desired_goal"),
        action=vectors["action"],
        frames=_frames(folder, schema),
    )


def _frames(folder: Path, schema: Mapping[str, Any]) -> Path | None:
    """The file of the images, if there are any."""
    return intact(folder / FRAMES) if "images" in schema else None


def _schema(folder: Path) -> dict[str, Any]:
    if not (folder / SCHEMA).exists():
        raise DataError(f"{folder}: no ingested dataset; run `dvc repro` to make it")
    schema: dict[str, Any] = read_json(folder / SCHEMA)
    if schema["format"] != FORMAT:
        raise DataError(
            f"{folder}: has the format of another version; run `dvc repro` to make it again"
        )
    return schema


def _complete(folder: Path) -> tuple[dict[str, Any], pl.DataFrame, Path]:
    """The schema, the episodes, and the table of the steps of a folder.

    Raises:
        DataError: steps or episodes are missing, for example a part of a table that was not copied.
    """
    schema, steps = _schema(folder), intact(folder / STEPS)
    table = pl.read_parquet(intact(folder / EPISODES))
    for name, count in (("episodes", len(table)), ("steps", rows_of(steps))):
        if count != schema["counts"][name]:
            raise DataError(
                f"{folder}: has {count:,} of {schema['counts'][name]:,} {name}, so that files are missing or are of other "
                "data; copy the folder again, or delete it and run `dvc repro`"
            )
    return schema, table, steps


def _ends(table: pl.DataFrame) -> NDArray[np.int64]:
    """Rows of the last states of episodes, which have no action."""
    ends: NDArray[np.int64] = table["first_row"].to_numpy() + table["length"].to_numpy().astype(
        np.int64
    )
    return ends


def _read_vectors(
    path: Path, sizes: Mapping[str, int], rows: int
) -> dict[str, NDArray[np.float32]]:
    """The vectors of all steps, (rows, size) each, read in small parts into the final arrays."""
    chosen = {name: sizes[name] for name in VECTORS if name in sizes}
    row = 0
    require_memory(rows * 4 * sum(chosen.values()), f"{path}: opening it")
    arrays = {name: np.empty((rows, size), np.float32) for name, size in chosen.items()}
    for part in iterate_vectors(path, chosen):
        stop = row + len(next(iter(part.values())))
        for name, array in arrays.items():
            array[row:stop] = part[name]
        row = stop
    return arrays


def iterate_vectors(
    path: Path, sizes: Mapping[str, int]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Parts of the vectors of consecutive steps, (part, size) each, which are read-only.

    With large parts, wide rows would need several times the memory of the arrays.
    """
    part_rows = max(1, BYTES_PER_READ // (4 * sum(sizes.values())))
    for part in iterate_batches(path, part_rows, list(sizes), BYTES_PER_READ):
        yield {
            name: part[name].flatten().to_numpy().reshape(-1, size) for name, size in sizes.items()
        }
