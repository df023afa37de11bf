"""Digits that float32 loses: numbers far from zero whose differences are small."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Success
from offline_gcrl.goals.success import conditions
from offline_gcrl.support.errors import DataError

LOST_DIGITS = 0.01
"""Largest rounding error of a column in float32, as a share of its range."""
SMALL_RANGE = 0.01
"""Ranges below this are not told apart by a policy: normalisation does not enlarge them further."""

SHARE_OF_TOLERANCE = 0.1
"""Largest rounding error of a goal in float32, as a share of the tolerance of its success test."""


def check_digits(stored: NDArray[Any], single: NDArray[np.float32], key: str, where: str) -> None:
    """Check that float32 keeps the differences between the rows of each column, (rows, numbers).

    Raises:
        DataError: rounding is more than a hundredth of a column's range; ranges below 0.01 count as 0.01.
    """
    if stored.dtype == np.float32 or len(stored) == 0:
        return
    if (
        np.abs(single).max() * 2.0**-24 <= LOST_DIGITS * SMALL_RANGE
    ):  # Far below any rounding that counts.
        return
    with np.errstate(invalid="ignore"):  # Infinite numbers are refused later.
        exact = stored.astype(np.float64)
        error = np.abs(exact - single).max(0)
        extent = exact.max(0) - exact.min(0)
        lost = (extent > 0) & (error > LOST_DIGITS * np.maximum(extent, SMALL_RANGE))
    if lost.any():
        column = int(lost.argmax())
        raise DataError(
            f"{where}: '{key}' loses digits in float32: number {column} has values around {exact[0, column]:.9g} in a "
            f"range of {extent[column]:.3g}, and is rounded by up to {error[column]:.3g}; subtract an offset, in the "
            "data and in the environment"
        )


def check_tolerance(goals: NDArray[np.float32], success: Success, key: str, where: str) -> None:
    """Check that float32 has enough digits for the success test of goals, (rows, goal), however they were stored.

    Raises:
        DataError: rounding is more than a tenth of a tolerance; nearby goals would be equal or out of reach.
    """
    if success.kind == "same_step":
        return
    largest = np.abs(goals).max(0)
    for condition in conditions(success, goals.shape[1]):
        for number in condition.dimensions:
            rounding = float(largest[number]) * 2.0**-24
            if 0.0 < condition.tolerance * SHARE_OF_TOLERANCE < rounding:
                raise DataError(
                    f"{where}: '{key}' has too few digits in float32 for the tolerance of {condition.tolerance:g}: number "
                    f"{number} has values up to {largest[number]:.4g}, which are rounded by up to {rounding:.3g}; subtract "
                    "an offset, in the data and in the environment"
                )
