"""The bounds to which actions are scaled: those of the action space, or the extremes of the data."""

import minari
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Dataset
from offline_gcrl.episodes.outliers import Spread
from offline_gcrl.support.errors import DataError

LEAST_SHARE = 0.01
"""Share of the range of an action that the data must use: less of it, and scaled actions hardly differ."""


def action_bounds(
    dataset: Dataset, opened: list[minari.MinariDataset], spread: Spread
) -> dict[str, list[float]]:
    """The bounds ``low`` and ``high`` of each dimension of the actions of a dataset.

    Args:
        dataset: its recipes say which bounds count (``action_bounds``).
        opened: all its sources.
        spread: the extremes of the actions.

    Raises:
        DataError: tasks have different bounds, a range is not finite, or the data uses less than a hundredth of it.
    """
    low, high = spread.low, spread.high
    assert low is not None
    assert high is not None
    if any(recipe.action_bounds == "data" for recipe in dataset.recipes):
        unused = low == high  # A dimension that is always the same: any range contains it.
        return {"low": (low - unused).tolist(), "high": (high + unused).tolist()}
    bounds = _joined_bounds(dataset, opened, len(low))
    _check_use(dataset.name, bounds, low, high)
    return bounds


def _joined_bounds(
    dataset: Dataset, opened: list[minari.MinariDataset], size: int
) -> dict[str, list[float]]:
    """The common bounds of the actions of all sources; padded dimensions have the bounds -1 and 1.

    Raises:
        DataError: tasks have different bounds in the same dimension.
    """
    bounds: dict[int, tuple[float, float]] = {}
    for data in opened:
        space = data.action_space
        limits = zip(space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist(), strict=True)
        for index, own in enumerate(limits):
            if bounds.setdefault(index, own) != own:
                raise DataError(
                    f"dataset '{dataset.name}': action {index} has the bounds {list(bounds[index])} in one task "
                    f"and {list(own)} in another; the tasks of a suite must share their bounds"
                )
    joined = [bounds.get(index, (-1.0, 1.0)) for index in range(size)]
    return {"low": [low for low, _ in joined], "high": [high for _, high in joined]}


def _check_use(
    dataset: str,
    bounds: dict[str, list[float]],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> None:
    """Check that the actions of the data, between ``low`` and ``high``, use the range of each dimension."""
    least, most = (np.array(bounds[name], dtype=np.float32) for name in ("low", "high"))
    with np.errstate(over="ignore"):
        extent = most - least
    for number in range(len(extent)):
        used = high[number] - low[number]
        if not np.isfinite(extent[number]) or 0 < used < LEAST_SHARE * extent[number]:
            raise DataError(
                f"dataset '{dataset}': action {number} has the bounds {least[number]:.4g} and {most[number]:.4g}, and "
                f"the data only values from {low[number]:.4g} to {high[number]:.4g}: scaled to these bounds they "
                "would hardly differ; write `action_bounds: data` into the recipe"
            )
