"""The table of a log: a CSV or Parquet file, without the unnamed columns and empty rows that other programs leave in it."""

import re
from pathlib import Path

import polars as pl

from offline_gcrl.support.errors import DataError

PARQUET = b"PAR1"
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
UNNAMED = re.compile(r"(?:_duplicated_\d+)?")
"""Names that Polars gives to columns without a name."""


def read_log(path: Path) -> tuple[pl.DataFrame, list[str]]:
    """The table of a log, and remarks on what is left out of it.

    Rows are counted without the empty ones.

    Raises:
        DataError: the file is of another format, cannot be read, or has no rows.
    """
    table = _read(path)
    named = [name for name in table.columns if not UNNAMED.fullmatch(name)]
    filled = table.select(named)
    if named:
        filled = filled.filter(~pl.all_horizontal(pl.all().is_null()))
    if not len(filled):
        raise DataError(f"{path}: has no rows; is the file complete?")
    remarks = []
    if len(named) < table.width:
        remarks.append(
            f"columns without a name, such as the index of pandas, are left out: {table.width - len(named)}"
        )
    if len(filled) < len(table):
        remarks.append(f"empty rows are left out: {len(table) - len(filled):,}")
    return filled, remarks


def _read(path: Path) -> pl.DataFrame:
    try:
        with path.open("rb") as file:
            header = file.readline(100_000)
        is_csv = path.suffix.lower() == ".csv" and not header.startswith(PARQUET)
        if not is_csv:
            _check_suffix(path, header)
            return pl.read_parquet(path)
        _check_separator(path, header.decode("utf-8", "replace"))
        return _tidied(pl.read_csv(path, infer_schema_length=None), path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read; is the file complete? ({reason})") from error


def _check_suffix(path: Path, header: bytes) -> None:
    if path.suffix.lower() not in (".parquet", ".pq") and not header.startswith(PARQUET):
        raise DataError(
            f"{path}: is no Parquet file, and a log in CSV has the suffix .csv; rename it if commas separate its values"
        )


def _check_separator(path: Path, header: str) -> None:
    found = next((words for separator, words in SEPARATORS.items() if separator in header), None)
    if found and "," not in header:
        raise DataError(
            f"{path}: its values are separated by {found}, and commas are expected; write the file with commas"
        )


def _tidied(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The table of a CSV file without the spaces around names and values."""
    names = [name.strip() for name in table.columns]
    repeated = next((name for name in names if name and names.count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"{path}: has several columns '{repeated}'; rename them")
    # Columns without a name keep that of Polars, because those of a table differ.
    table = table.rename({old: new for old, new in zip(table.columns, names, strict=True) if new})
    return table.with_columns(_numbers(column) for column in table if column.dtype == pl.String)


def _numbers(column: pl.Series) -> pl.Series:
    """A column of text as numbers, if spaces and ``nan`` in small letters are all that makes it text."""
    text = column.str.strip_chars()
    text = text.set(text == "", None)
    if text.null_count() == len(text):
        return text
    if text.drop_nulls().str.to_lowercase().is_in(["true", "false"]).all():
        return text.str.to_lowercase() == "true"
    for kind in (pl.Int64, pl.Float64):
        numbers = text.cast(kind, strict=False)
        if numbers.null_count() == text.null_count():
            return numbers
    return text
