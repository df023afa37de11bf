"""Opening an ingested dataset as arrays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Region
from offline_gcrl.config.outputs import EPISODES, SCHEMA, STEPS
from offline_gcrl.episodes.schema import FORMAT, VECTORS, achieved_column
from offline_gcrl.support.digests import intact, read_json
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.memory import require_memory

BYTES_PER_READ = 2**20
"""Size of the batches in which steps are read."""


@dataclass(frozen=True)
class EpisodeIndex:
    """The schema and the episode table of a dataset with E episodes and R steps, without the arrays of steps."""

    schema: dict[str, Any]
    table: pl.DataFrame
    """E rows with the columns of ``EPISODES_SCHEMA``."""

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

    def transition_rows(
        self, split: str | None = None, task: str | None = None
    ) -> NDArray[np.int64]:
        """Rows that have a next state, in order; only those of one split or one task if these are given."""
        named = {"split": split, "task": task}
        chosen = self.table.filter(
            pl.lit(True), *(pl.col(name) == value for name, value in named.items() if value)
        )
        first, length = chosen["first_row"].to_numpy(), chosen["length"].to_numpy().astype(np.int64)
        start_of_each = np.repeat(first - np.append(0, length.cumsum()[:-1]), length)
        return start_of_each + np.arange(length.sum())

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

    @property
    def index(self) -> EpisodeIndex:
        """The schema and the episode table without the arrays."""
        return EpisodeIndex(self.schema, self.table)


def open_episodes(folder: Path) -> Episodes:
    """Open an ingested dataset.

    Raises:
        DataError: ``folder`` contains no ingested dataset, or one with the format of another version.
    """
    if not (folder / SCHEMA).exists():
        raise DataError(f"{folder}: no ingested dataset; run `dvc repro` to make it")
    schema = read_json(folder / SCHEMA)
    if schema["format"] != FORMAT:
        raise DataError(
            f"{folder}: has the format of another version; run `dvc repro` to make it again"
        )
    vectors = _read_vectors(intact(folder / STEPS), schema["sizes"])
    table = pl.read_parquet(intact(folder / EPISODES))
    ends = table["first_row"].to_numpy() + table["length"].to_numpy().astype(np.int64)
    vectors["action"][ends] = 0.0
    return Episodes(
        schema=schema,
        table=table,
        observation=vectors["observation"],
        achieved_goal=vectors[achieved_column(schema)],
        desired_goal=vectors.get("desired_goal"),
        action=vectors["action"],
    )


def _read_vectors(path: Path, sizes: Mapping[str, int]) -> dict[str, NDArray[np.float32]]:
    """The vectors of all steps, (R, size) each, read in small batches into the final arrays.

    With large batches, or with ``pre_buffer``, wide rows would need several times the memory of the arrays.
    """
    names = [name for name in VECTORS if name in sizes]
    with pq.ParquetFile(
        path, pre_buffer=False, buffer_size=BYTES_PER_READ, page_checksum_verification=True
    ) as file:
        rows, row = file.metadata.num_rows, 0
        bytes_per_row = 4 * sum(sizes[name] for name in names)
        require_memory(rows * bytes_per_row, f"{path}: opening it")
        arrays = {name: np.empty((rows, sizes[name]), np.float32) for name in names}
        batch_rows = max(1, BYTES_PER_READ // bytes_per_row)
        for batch in file.iter_batches(batch_rows, columns=names, use_threads=False):
            stop = row + len(batch)
            for name, array in arrays.items():
                array[row:stop] = batch[name].flatten().to_numpy().reshape(-1, sizes[name])
            row = stop
    return arrays
