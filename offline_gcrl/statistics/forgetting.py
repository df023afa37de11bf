"""Figures of learning tasks one after another: what is left of a task once others have followed.

R[i, j] is the success on task j after the phase in which task i was learned (Lopez-Paz and Ranzato 2017,
"Gradient episodic memory for continual learning").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.statistics.intervals import CONFIDENCE, Estimate
from offline_gcrl.support.errors import DataError

RESAMPLES = 2000
Matrix = NDArray[np.float64]
"""R: (..., phases, tasks), tasks in the order in which they were learned."""


def average_success(matrix: Matrix) -> Matrix:
    """Over all tasks, after the last of them was learned."""
    average: Matrix = matrix[..., -1, :].mean(-1)
    return average


def backward_transfer(matrix: Matrix) -> Matrix:
    """What later tasks did to earlier ones: mean of R[T, j] - R[j, j] over j < T; negative is forgetting."""
    own = np.diagonal(matrix, axis1=-2, axis2=-1)
    transfer: Matrix = (matrix[..., -1, :-1] - own[..., :-1]).mean(-1)
    return transfer


def forgetting(matrix: Matrix) -> Matrix:
    """From the best that each earlier task ever had (Chaudhry et al. 2018): mean of max_i R[i, j] - R[T, j]."""
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
    """How tasks that were learned one after another fared."""

    tasks: tuple[str, ...]
    """In the order in which they were learned."""
    boundaries: tuple[int, ...]
    """Updates at the end of each phase."""
    matrix: Matrix
    """R, (seeds, phases, tasks)."""
    metrics: dict[str, Estimate]
    """By the names in ``SEQUENCE_METRICS``."""


def sequence_metrics(
    curves: Sequence[pl.DataFrame], tasks: Sequence[str], boundaries: Sequence[int]
) -> SequentialResult:
    """The success matrix and its figures, with 95% intervals that resample seeds and episodes.

    Episodes are drawn anew for each entry, as if they were others after each phase; they are the same, so the
    intervals are rather too wide than too narrow.

    Args:
        curves: learning curves of each task, a table a seed: task, update, mean, episodes.
        tasks: in the order in which they were learned.
        boundaries: updates at the end of each phase.

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
    # Jeffreys' posterior of each rate: resampling alone would claim certainty where all succeed.
    drawn = random.beta(successes + 0.5, counts - successes + 0.5)
    metrics = {}
    for name, figure in SEQUENCE_METRICS.items():
        low, high = np.quantile(figure(drawn), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        mean = float(figure(rates.mean(0)))
        metrics[name] = Estimate(mean, min(mean, float(low)), max(mean, float(high)))
    return SequentialResult(tuple(tasks), tuple(boundaries), rates, metrics)


def _matrix(
    curve: pl.DataFrame, tasks: Sequence[str], boundaries: Sequence[int], column: str
) -> Matrix:
    """A column of the curves at the end of each phase: (phases, tasks)."""
    rows = []
    for update in boundaries:
        at = dict(curve.filter(pl.col("update") == update).select("task", column).iter_rows())
        if set(tasks) - set(at):
            raise DataError(
                f"no snapshot after update {update}, where a task's phase ends; let train.snapshots be a "
                "multiple of the number of tasks"
            )
        rows.append([float(at[task]) for task in tasks])
    return np.array(rows)
