"""The files of a hindsight table: the names of its columns, and how they are written."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

ROWS_PER_GROUP = 2**18


def goal_column(strategy: str, draw: int) -> str:
    """The name of a column of goal rows."""
    return f"{strategy}_goal_{draw}"


def reward_column(strategy: str, draw: int = 0) -> str:
    """The name of a column of rewards; ``current`` and ``original`` have one such column and no goal column."""
    return f"{strategy}_reward_{draw}"


def write_table(parts: Iterable[pl.DataFrame], path: Path) -> None:
    """Write the parts of a table in row groups of fixed size, so that the bytes do not depend on the parts.

    Goal rows are delta-encoded, because most goals are near their transition and neighbours differ little.
    """
    writer = None
    try:
        for group in regrouped(parts, ROWS_PER_GROUP):
            table = group.to_arrow()
            if writer is None:
                rows = [name for name in table.column_names if name == "row" or "_goal_" in name]
                writer = pq.ParquetWriter(
                    path,
                    table.schema,
                    compression="zstd",
                    use_dictionary=False,
                    write_page_checksum=True,
                    column_encoding=dict.fromkeys(rows, "DELTA_BINARY_PACKED"),
                )
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    finally:
        if writer is not None:
            writer.close()


def regrouped(parts: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of ``rows`` rows each; the last frame has the remaining rows."""
    waiting: list[pl.DataFrame] = []
    for part in parts:
        waiting.append(part)
        while sum(map(len, waiting)) >= rows:
            joined = pl.concat(waiting)
            yield joined[:rows]
            waiting = [joined[rows:]]
    if sum(map(len, waiting)) > 0:
        yield pl.concat(waiting)
