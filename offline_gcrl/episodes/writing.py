"""Writes checked episodes as Parquet in row groups, so that memory does not grow with the dataset."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline_gcrl.config.outputs import EPISODES, STEPS
from offline_gcrl.episodes.blocks import Block
from offline_gcrl.episodes.moments import Measured, equal_lengths, means_and_squares
from offline_gcrl.episodes.outliers import Spread
from offline_gcrl.episodes.schema import EPISODES_SCHEMA, VECTORS, steps_schema

ROWS_PER_GROUP = 2**16


@dataclass
class Writer:
    """Writes checked episodes to ``steps.parquet`` and ``episodes.parquet``, in row groups of complete episodes."""

    output: Path
    sizes: dict[str, int]
    """Size of each vector; smaller vectors are padded with zeros."""
    first_episode: int = 0
    """Number of the first episode among those of the dataset."""
    first_row: int = 0
    """Its first row among those of the dataset."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Rows of ``episodes.parquet``."""
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    """Batches of the next row group."""
    moments: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)
    """Means and sums of squares of runs of episodes, (episodes, dimension) of all vectors, concatenated."""
    spreads: dict[str, Spread] = field(default_factory=dict)
    """Extremes and a sample of each vector; those of the action without the last rows of episodes."""
    row: int = field(init=False)
    """The next row."""
    file: pq.ParquetWriter | None = None

    def __post_init__(self) -> None:
        self.row = self.first_row

    def __enter__(self) -> Self:
        """Return the writer; files are created with the first row group."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Write the last row group and ``episodes.parquet``, unless the block failed."""
        if error is None:
            self._flush()
            table = pa.Table.from_pylist(self.rows, EPISODES_SCHEMA)
            pq.write_table(table, self.output / EPISODES, write_page_checksum=True)
        if self.file is not None:
            self.file.close()

    def write(self, block: Block) -> None:
        """Add the episodes of a block to the files and to the statistics."""
        block = replace(
            block,
            vectors={name: _padded(block.vectors[name], size) for name, size in self.sizes.items()},
        )
        self._count(block)
        self._add_to_spreads(block)
        first = self.first_episode + len(self.rows)
        self.rows += _episode_rows(block, first, self.row)
        self.row += int(block.ends[-1])
        start = 0
        for stop in self._cuts(block):
            part = block.part(start, stop)
            self.waiting.append(_as_batch(part, first + start))
            if sum(map(len, self.waiting)) >= ROWS_PER_GROUP:
                self._flush()
            start = stop

    def _add_to_spreads(self, block: Block) -> None:
        for name, array in block.vectors.items():
            # The last row of an episode has no action.
            rows = np.delete(array, block.ends - 1, axis=0) if name == "action" else array
            before = self.first_row - (self.first_episode if name == "action" else 0)
            self.spreads.setdefault(name, Spread(first=before)).add(rows)

    def _count(self, block: Block) -> None:
        """Compute the moments of each episode of the block."""
        runs = zip(
            *(equal_lengths(array, block.lengths) for array in block.vectors.values()), strict=True
        )
        for run in runs:
            # The last row of an episode has no action.
            unused = [1 if name == "action" else 0 for name in block.vectors]
            parts = [
                array[:, : array.shape[1] - last] for array, last in zip(run, unused, strict=True)
            ]
            means, squares = zip(*map(means_and_squares, parts), strict=True)
            self.moments.append((np.concatenate(means, 1), np.concatenate(squares, 1)))

    @property
    def measured(self) -> Measured:
        """What the statistics of the episodes are computed from."""
        means, squares = (np.concatenate(part) for part in zip(*self.moments, strict=True))
        lengths = np.array([row["length"] for row in self.rows])
        return Measured(lengths, means, squares, self.spreads)

    def _cuts(self, block: Block) -> list[int]:
        """The episodes before which the block is cut: when a row group is full, and at the end of the block."""
        cuts, full = [], ROWS_PER_GROUP - sum(map(len, self.waiting))
        for number, end in enumerate(block.ends.tolist(), start=1):
            if end >= full:
                cuts.append(number)
                full = end + ROWS_PER_GROUP
        last = len(block.lengths)
        return cuts if last in cuts else [*cuts, last]

    def _flush(self) -> None:
        if not self.waiting:
            return
        table = pa.Table.from_batches(self.waiting)
        if self.file is None:
            self.file = pq.ParquetWriter(
                self.output / STEPS,
                table.schema,
                compression="lz4",
                use_dictionary=["episode"],
                write_page_checksum=True,
            )
        self.file.write_table(table, row_group_size=len(table))
        self.waiting.clear()


def _episode_rows(block: Block, first: int, row: int) -> list[dict[str, Any]]:
    """The rows of ``episodes.parquet`` for a block whose first episode has the number ``first`` and starts at ``row``."""
    starts = (row + block.ends - block.lengths - 1).tolist()
    returns = [
        float(total)
        for part in equal_lengths(block.reward, block.lengths)
        for total in part[:, :-1].sum(1)
    ]
    return [
        {
            "episode": first + index,
            "first_row": starts[index],
            "length": int(block.lengths[index]),
            **block.facts[index],
            "terminated": block.terminated[index],
            "success": block.success[index],
            "return": returns[index],
        }
        for index in range(len(block.lengths))
    ]


def _padded(array: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Pad the last dimension with zeros to ``size``."""
    missing = size - array.shape[1]
    return np.pad(array, ((0, 0), (0, missing))) if missing else array


def _as_batch(block: Block, first: int) -> pa.RecordBatch:
    """The rows of ``steps.parquet`` for a block whose first episode has the number ``first``."""
    rows, numbers = block.lengths + 1, np.arange(first, first + len(block.lengths))
    episode = np.repeat(numbers.astype(np.uint32), rows)
    step = np.arange(len(episode)) - np.repeat(block.ends - rows, rows)
    last = np.zeros(len(episode), dtype=bool)
    last[block.ends - 1] = True
    schema = steps_schema(block.sizes)
    action = np.where(last[:, None], np.float32(np.nan), block.vectors["action"])
    vectors = block.vectors | {"action": action}
    stored = [name for name in VECTORS if name in vectors]
    columns = [
        pa.array(episode),
        pa.array(step.astype(np.uint32)),
        *(_as_array(vectors[name], schema.field(name).type) for name in stored),
        pa.array(block.reward, mask=last),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _as_array(values: NDArray[np.float32], kind: pa.DataType) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
