"""Metrics of training on tasks in sequence: average success, backward transfer and forgetting.

They are functions of a matrix R, where R[i, j] is the success rate on task j after the phase in which task i was
trained (Lopez-Paz and Ranzato 2017, "Gradient episodic memory for continual learning").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.statistics.intervals import TAILS, Estimate
from offline_gcrl.support.errors import DataError

RESAMPLES = 2000
Matrix = NDArray[np.float64]
"""The matrix R, (..., phases, tasks), with the tasks in the order of training."""


def average_success(matrix: Matrix) -> Matrix:
    """Mean success over all tasks after the last phase, from (..., phases, tasks) to (...)."""
    average: Matrix = matrix[..., -1, :].mean(-1)
    return average


def backward_transfer(matrix: Matrix) -> Matrix:
    """Effect of later tasks on earlier ones: mean of R[T, j] - R[j, j] over j < T; negative values are forgetting."""
    own = np.diagonal(matrix, axis1=-2, axis2=-1)
    transfer: Matrix = (matrix[..., -1, :-1] - own[..., :-1]).mean(-1)
    return transfer


def forgetting(matrix: Matrix) -> Matrix:
    """Loss from the best success of each earlier task: mean of max_i R[i, j] - R[T, j] (Chaudhry et al. 2018)."""
    best = matrix[..., :-1, :-1].max(-2)
    lost: Matrix = (best - matrix[..., -1, :-1]).mean(-1)
    return lost


SEQUENCE_METRICS: dict[str, Callable[[Matrix], Matrix]] = {
    "average_success": average_success,
    "backward_transfer": backward_transfer,
    "forgetting": forgetting,
}


@dataclass(frozen=True)
class SequentialResult:
    """Result of training on tasks in sequence."""

    tasks: tuple[str, ...]
    """Tasks in the order of training."""
    boundaries: tuple[int, ...]
    """Number of updates at the end of each phase."""
    matrix: Matrix
    """R, (seeds, phases, tasks)."""
    metrics: dict[str, Estimate]
    """Metrics by the names in ``SEQUENCE_METRICS``."""


def sequence_metrics(
    curves: Sequence[pl.DataFrame], tasks: Sequence[str], boundaries: Sequence[int]
) -> SequentialResult:
    """The success matrix and its metrics, with 95% intervals over seeds and episodes.

    The episodes of each entry are resampled independently, although the same episodes follow every phase. This makes the
    intervals of differences conservative. The maximum in forgetting grows with noise, in the rates and once more in their
    resamples, so its interval also contains the one that is reflected at the mean, which corrects for this bias.

    Args:
        curves: learning curves per task, one table per seed, with the columns task, update, mean and episodes.
        tasks: tasks in the order of training.
        boundaries: number of updates at the end of each phase.

    Raises:
        DataError: a phase ended without a snapshot.
    """
    rates, episodes = (
        np.stack([_matrix(curve, tasks, boundaries, column) for curve in curves])
        for column in ("mean", "episodes")
    )
    random = np.random.default_rng(0)
    chosen = random.integers(len(rates), size=(RESAMPLES, len(rates)))
    counts, successes = (values[chosen].sum(1) for values in (episodes, rates * episodes))
    # Jeffreys' posterior of each rate, because resampling alone gives a width of zero if all episodes succeed.
    drawn = random.beta(successes + 0.5, counts - successes + 0.5)
    metrics = {}
    for name, figure in SEQUENCE_METRICS.items():
        low, high = (float(end) for end in np.quantile(figure(drawn), TAILS))
        mean = float(figure(rates.mean(0)))
        if figure is forgetting:
            low, high = max(-1.0, min(low, 2 * mean - high)), min(1.0, max(high, 2 * mean - low))
        metrics[name] = Estimate(mean, min(mean, low), max(mean, high))
    return SequentialResult(tuple(tasks), tuple(boundaries), rates, metrics)


def _matrix(
    curve: pl.DataFrame, tasks: Sequence[str], boundaries: Sequence[int], column: str
) -> Matrix:
    """A column of the curves at the end of each phase, (phases, tasks)."""
    rows = []
    for update in boundaries:
        at = dict(curve.filter(pl.col("update") == update).select("task", column).iter_rows())
        if set(tasks) - set(at):
            raise DataError(
                f"no snapshot after update {update}, the end of a phase; train.snapshots must be a multiple of "
                "the number of tasks"
            )
        rows.append([float(at[task]) for task in tasks])
    return np.array(rows)
