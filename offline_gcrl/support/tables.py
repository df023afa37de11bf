"""Tables in Parquet: one file, or a folder of parts with the same columns, which are read as one table.

A folder has the name that the file would have. Polars, pyarrow and pandas read it as they read a file. Pages have
checksums, which readers can verify.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_gcrl.support.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray


def part_name(number: int) -> str:
    """The name of a part in the folder of a table."""
    return f"part-{number:05}.parquet"


def parts_of(path: Path) -> list[Path]:
    """The files of a table in the order of their rows: the file itself, or the parts in a folder.

    Raises:
        DataError: the folder has no parts.
    """
    if not path.is_dir():
        return [path]
    parts = sorted(path.glob("part-*.parquet"))
    if not parts:
        raise DataError(f"{path}: has no parts; delete {path.parent} and run `dvc repro`")
    return parts


def rows_of(path: Path) -> int:
    """Number of rows of a table, from the metadata of its files."""
    import pyarrow.parquet as pq

    return sum(int(pq.read_metadata(part).num_rows) for part in parts_of(path))


def columns_of(path: Path) -> "pa.Schema":
    """The columns of a table, from the first of its files."""
    import pyarrow.parquet as pq

    return pq.read_schema(parts_of(path)[0])


def iterate_batches(
    path: Path, rows: int, columns: Sequence[str], buffer: int = 0
) -> Iterator["pa.RecordBatch"]:
    """Consecutive rows of a table, in one thread and with a check of the pages.

    With pyarrow's ``pre_buffer``, a complete column would be read into memory.

    Args:
        path: the table.
        rows: largest number of rows of a batch.
        columns: names of the columns.
        buffer: bytes that are read at once; a complete column of a row group if left out.
    """
    import pyarrow.parquet as pq

    for part in parts_of(path):
        with pq.ParquetFile(
            part, pre_buffer=False, buffer_size=buffer, page_checksum_verification=True
        ) as file:
            yield from file.iter_batches(rows, columns=list(columns), use_threads=False)


def rows_of_parts(parts: Iterable["NDArray[Any]"], rows: "NDArray[np.int64]") -> "NDArray[Any]":
    """Some rows, in ascending order, of an array that is given in consecutive parts; no other rows are kept in memory."""
    import numpy as np

    found, first = [], 0
    for part in parts:
        begin, end = np.searchsorted(rows, (first, first + len(part)))
        found.append(part[rows[begin:end] - first])
        first += len(part)
    return np.concatenate(found)


def write_parquet(table: "pl.DataFrame", path: Path) -> None:
    """Write a table; Polars itself writes no checksums."""
    import polars as pl
    import pyarrow.parquet as pq

    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    pq.write_table(arrow, path, compression="zstd", write_page_checksum=True)
