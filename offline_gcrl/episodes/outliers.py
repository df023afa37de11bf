"""Isolated values: one number far away from all others of its column, such as a mark for missing values.

Inputs are normalised with the mean and the standard deviation of their column. A few values of 1e30 or -999 would
determine both, and all other values would look the same to a policy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

SAMPLE = 2**12
"""Number of rows that the spread of a column is computed from."""
FAR = 1000.0
"""Distance to the other values, in their standard deviations, from which a value is isolated."""
LEAST_SPREAD = 0.01
"""Standard deviations below this count as this: rare movements of an object at rest are no mistake."""
RANGES, DISTINCT, REPEATS = 20.0, 20, 3
"""A value is isolated, too, if it occurs at least 3 times, and is 20 times the range of the other values away from them;
the others must have 20 different values, because the values of a counter or of a switch are apart, too."""
MARKS = {
    *(sign * (10.0**digits - 1.0) for sign in (1, -1) for digits in range(3, 8)),
    32767.0, -32768.0, 65535.0, 2.0**31, -(2.0**31), 2.0**32,
}  # fmt: skip
"""Usual marks for missing values, for which the range of the other values is far enough."""
TRIMMED = 1000
"""One in this many of the other values is left out at either side."""


@dataclass
class Spread:
    """The extremes and a sample of the rows of a vector."""

    low: NDArray[np.float32] | None = None
    """The smallest value of each number, (size,); None before the first rows."""
    high: NDArray[np.float32] | None = None
    first: int = 0
    """Number of rows of the dataset before these rows."""
    rows: int = 0
    """Number of these rows."""
    step: int = 1
    """Every how many rows one is taken into the sample."""
    parts: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, values: NDArray[np.float32]) -> None:
        """Take rows, (rows, size), into the extremes and the sample."""
        self._widen(values.min(0), values.max(0))
        self.parts.append(values[-(self.first + self.rows) % self.step :: self.step].copy())
        self.rows += len(values)
        while sum(map(len, self.parts)) > 2 * SAMPLE:
            self._thin()

    def merge(self, following: "Spread") -> None:
        """Take in the rows that come next in the dataset; the result is that of adding these rows."""
        assert following.low is not None
        assert following.high is not None
        self._widen(following.low, following.high)
        while self.step < following.step:
            self._thin()
        while following.step < self.step:
            following._thin()
        self.parts += following.parts
        self.rows += following.rows
        while sum(map(len, self.parts)) > 2 * SAMPLE:
            self._thin()

    def _widen(self, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
        if self.low is not None and self.high is not None:
            low, high = np.minimum(low, self.low), np.maximum(high, self.high)
        self.low, self.high = low, high

    def _thin(self) -> None:
        """Leave out every second row of the sample: those whose number in the dataset is no multiple of the new step."""
        skipped = -(-self.first // self.step) % 2
        kept = [np.concatenate(self.parts)[skipped::2].copy()] if self.parts else []
        self.parts, self.step = kept, 2 * self.step

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The content as arrays, from which ``of`` makes it again."""
        assert self.low is not None
        assert self.high is not None
        numbers = np.array([self.first, self.rows, self.step])
        return {"ends": np.stack([self.low, self.high]), "sample": np.concatenate(self.parts), "numbers": numbers}  # fmt: skip

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The spread whose content is given as arrays."""
        low, high = arrays["ends"]
        first, rows, step = arrays["numbers"].tolist()
        return cls(low, high, first, rows, step, [arrays["sample"]])

    def candidates(self) -> Iterator[tuple[int, float, bool]]:
        """Numbers and values that are isolated; the last item says whether only if the value is repeated."""
        assert self.low is not None
        assert self.high is not None
        sample = np.concatenate(self.parts).astype(np.float64)
        for number, extremes in enumerate(zip(self.low.tolist(), self.high.tolist(), strict=True)):
            yield from ((number, *found) for found in _isolated(sample[:, number], extremes))


def _isolated(values: NDArray[Any], extremes: tuple[float, float]) -> Iterator[tuple[float, bool]]:
    """Which of the extremes of a column are isolated from the other values in a sample of it."""
    inner = values[(values != extremes[0]) & (values != extremes[1])]
    far = [value for value in extremes if len(inner) == 0 or _is_far(value, inner)]
    for value in far:
        # The opposite extreme is one of the other values, unless it is isolated itself.
        left_out = far if len(far) == 2 and len(inner) else [value]
        others = values[~np.isin(values, left_out)]
        how = _is_far(value, others) if len(others) else ""
        if how:
            yield value, how == "if repeated"


def _is_far(value: float, others: NDArray[Any]) -> str:
    """Whether a value is isolated from others: ``always``, ``if repeated``, or an empty string for no."""
    ordered = np.sort(others)
    cut = len(ordered) // TRIMMED
    ordered = ordered[cut : len(ordered) - cut]
    first, last = ordered[0], ordered[-1]
    distance, extent = max(value - last, first - value), last - first
    spread = max(ordered.std(), LEAST_SPREAD) if extent else max(1.0, abs(first))
    if distance > FAR * spread or (value in MARKS and distance > max(extent, LEAST_SPREAD)):
        return "always"
    varied = distance > RANGES * extent > 0 and len(np.unique(ordered)) >= DISTINCT
    return "if repeated" if varied else ""


def isolated_values(steps: Path, spreads: dict[str, Spread]) -> list[dict[str, Any]]:
    """The isolated values of an ingested dataset.

    Args:
        steps: path of ``steps.parquet``; only columns with isolated values are read.
        spreads: the spread of each vector, by column.

    Returns:
        Per value: ``column`` and ``number`` in it, ``value``, the number of ``rows`` with it and of all rows,
        ``episode`` and ``step`` of the first, and the range of the other values, ``low`` to ``high``.
    """
    return [
        found
        for column, spread in spreads.items()
        for number, value, only_repeated in spread.candidates()
        if (found := _located(steps, column, number, value))["rows"] >= (REPEATS if only_repeated else 1)
    ]  # fmt: skip


def _located(steps: Path, column: str, number: int, value: float) -> dict[str, Any]:
    """Where a value is in ``steps.parquet``, and the range of the other values."""
    own = pl.col(column).arr.get(number)
    is_row = own.is_not_nan()  # The last row of an episode has no action.
    here, others = own == value, own.filter(is_row & (own != value))
    (found,) = (
        pl.scan_parquet(steps)
        .select(
            rows=here.sum(),
            all_rows=is_row.sum(),
            episode=pl.col("episode").filter(here).first(),
            step=pl.col("step").filter(here).first(),
            low=others.min(),
            high=others.max(),
        )
        .collect(engine="streaming")
        .to_dicts()
    )
    return {"column": column, "number": number, "value": value, **found}


def isolated_sentence(found: dict[str, Any]) -> str:
    """An isolated value as text, with the remedy."""
    return (
        f"'{found['column']}': number {found['number']} is {found['value']:.7g} in {found['rows']:,} of "
        f"{found['all_rows']:,} rows (the first: episode {found['episode']}, step {found['step']}), and from "
        f"{found['low']:.4g} to {found['high']:.4g} in the others; it determines how this number is normalised: "
        "if it marks missing values, replace it or leave these steps out"
    )
