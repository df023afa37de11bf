"""Writing checked episodes as Parquet, in row groups: memory does not grow with the dataset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline_gcrl.episodes.reading import Episode
from offline_gcrl.episodes.schema import EPISODES, EPISODES_SCHEMA, STEPS, VECTORS, steps_schema

ROWS_A_GROUP = 2**16


@dataclass
class Moments:
    """Mean and variance of a stream, merged batch by batch (Chan, Golub, LeVeque 1983)."""

    count: int = 0
    mean: Any = 0.0
    squares: Any = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in a batch, shape (batch, dimension)."""
        values64 = values.astype(np.float64)
        count, mean = len(values64), values64.mean(0)
        total, delta = self.count + count, mean - self.mean
        self.squares += ((values64 - mean) ** 2).sum(0) + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total

    def summary(self) -> dict[str, list[float]]:
        """Mean and standard deviation in each dimension."""
        return {
            "mean": np.asarray(self.mean).tolist(),
            "std": np.sqrt(self.squares / self.count).tolist(),
        }


@dataclass
class Writer:
    """Writes checked episodes to ``steps.parquet`` and ``episodes.parquet``, in row groups."""

    output: Path
    sizes: dict[str, int]
    """Of each vector; smaller ones are padded with zeros."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    statistics: dict[str, Moments] = field(default_factory=dict)
    row: int = 0
    file: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        """Open nothing yet: the columns are known from the first episode."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Write what waits, unless the block failed."""
        if error is None:
            self._flush()
            pq.write_table(pa.Table.from_pylist(self.rows, EPISODES_SCHEMA), self.output / EPISODES)
        if self.file is not None:
            self.file.close()

    def write(self, episode: Episode, facts: dict[str, Any]) -> None:
        """Add one episode, and its row of ``episodes.parquet``, to the files and the statistics."""
        number, length = len(self.rows), len(episode)
        vectors = {
            name: _padded(array, self.sizes[name]) for name, array in episode.vectors.items()
        }
        for name, array in vectors.items():
            self.statistics.setdefault(name, Moments()).add(array)
        self.rows.append(
            {
                "episode": number,
                "first_row": self.row,
                "length": length,
                **facts,
                "terminated": episode.terminated,
                "success": episode.success,
                "return": float(episode.reward.sum()),
            }
        )
        self.waiting.append(_as_batch(vectors, episode.reward, number))
        self.row += length + 1
        if sum(map(len, self.waiting)) >= ROWS_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self.waiting:
            return
        table = pa.Table.from_batches(self.waiting)
        if self.file is None:
            self.file = pq.ParquetWriter(self.output / STEPS, table.schema, compression="zstd")
        self.file.write_table(table, row_group_size=len(table))
        self.waiting.clear()


def _padded(array: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(rows, smaller) to (rows, size), with zeros."""
    missing = size - array.shape[1]
    return np.pad(array, ((0, 0), (0, missing))) if missing else array


def _as_batch(
    vectors: dict[str, NDArray[np.float32]], reward: NDArray[np.float32], number: int
) -> pa.RecordBatch:
    rows = len(reward) + 1
    last = np.zeros(rows, dtype=bool)
    last[-1] = True
    columns = [
        pa.array(np.full(rows, number, dtype=np.uint32)),
        pa.array(np.arange(rows, dtype=np.uint32)),
        *(_fixed_size(vectors[name]) for name in VECTORS[:-1] if name in vectors),
        _fixed_size(np.pad(vectors["action"], ((0, 1), (0, 0))), pa.array(last)),
        pa.array(np.append(reward, np.float32(0.0)), mask=last),
    ]
    schema = steps_schema({name: array.shape[1] for name, array in vectors.items()})
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _fixed_size(values: NDArray[np.float32], null: pa.Array | None = None) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), values.shape[1], mask=null
    )
