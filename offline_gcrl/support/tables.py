"""Writes tables as Parquet with checksums of their pages, which readers can verify."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def write_parquet(table: "pl.DataFrame", path: Path) -> None:
    """Write a table; Polars itself writes no checksums."""
    import polars as pl
    import pyarrow.parquet as pq

    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    pq.write_table(arrow, path, compression="zstd", write_page_checksum=True)
