"""What sharing one policy among tasks gives and costs: a multi-task policy compared with its specialists.

Transfer is what a task gains or loses by being learned together with others. The cost of sharing is how
long it takes: K specialists that need N updates each cost K N in all; a multi-task policy of which a share f
is common to all tasks, at the price of an interference c, costs c N f + K (1 - f) N.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.statistics.contrasts import Contrast, Tables, paired_contrast
from offline_gcrl.statistics.intervals import CONFIDENCE, Estimate

SHARE_OF_FINAL = 0.8
"""Of a specialist's final success: the threshold at which its task counts as learned."""
RESAMPLES = 1000


def transfers(
    multitask: Tables, specialists: Mapping[str, Tables], column: str = "success"
) -> list[Contrast]:
    """What each task that has a specialist gains by being learned with others: multi-task policy minus specialist.

    The intervals of the differences of all tasks hold jointly with 95% (Bonferroni).

    Args:
        multitask: its episodes of all tasks.
        specialists: the same episodes, by task.
        column: of successes.

    Raises:
        DataError: the episodes are not the same.
    """
    confidence = 1 - (1 - CONFIDENCE) / len(specialists)
    return [
        paired_contrast(
            task,
            [table.filter(pl.col("task") == task) for table in multitask],
            tables,
            column,
            confidence,
        )
        for task, tables in specialists.items()
    ]


def average_transfer(
    multitask: Tables, specialists: Mapping[str, Tables], column: str = "success"
) -> Contrast:
    """The same over all tasks that have a specialist, each with the same weight."""
    tasks = pl.Series(list(specialists)).implode()
    own = [table.filter(pl.col("task").is_in(tasks)) for table in multitask]
    joined = [
        pl.concat(tables).sort("episode") for tables in zip(*specialists.values(), strict=True)
    ]
    return paired_contrast("all tasks", own, joined, column)


@dataclass(frozen=True)
class ThresholdCrossing:
    """When a learning curve was at a threshold."""

    updates: float
    """By interpolation between snapshots."""
    at_first_snapshot: bool
    """Whether it was there at its first snapshot already: then ``updates`` is that snapshot's, and a bound."""


@dataclass(frozen=True)
class TaskCost:
    """When a task counts as learned, alone and with others; None where it never does."""

    task: str
    threshold: float
    """Success rate."""
    specialist: ThresholdCrossing | None
    multitask: ThresholdCrossing | None

    @property
    def ratio(self) -> float | None:
        """Updates of the multi-task policy over those of the specialist, where both are known and no bounds."""
        both = (self.multitask, self.specialist)
        one, other = (None if found is None or found.at_first_snapshot else found for found in both)
        return one.updates / other.updates if one and other else None


@dataclass(frozen=True)
class SharingCost:
    """What a multi-task policy of K tasks costs beside K specialists, in updates of one batch size."""

    costs: tuple[TaskCost, ...]
    batch_size: int
    multitask: float
    """Mean over the tasks where both are known."""
    specialist: float
    """The same: N."""
    ratio: Estimate
    """Generalist over specialist: 1 where all is shared and nothing interferes, K where nothing is shared."""

    @property
    def tasks(self) -> int:
        """K."""
        return len(self.costs)

    @property
    def compared(self) -> int:
        """How many tasks both are known of."""
        return sum(cost.ratio is not None for cost in self.costs)

    @property
    def least_shared(self) -> float:
        """F if nothing interfered (c = 1): the least that goes with what was measured, since c is 1 or more.

        Above 1, the multi-task policy was faster than the model lets it be.
        """
        return (self.tasks - self.ratio.mean) / (self.tasks - 1)

    @property
    def most_interference(self) -> float:
        """C if all were shared (f = 1): the most that goes with what was measured."""
        return self.ratio.mean


@dataclass(frozen=True)
class Curve:
    """Success of several seeds at the same snapshots."""

    updates: NDArray[np.float64]
    """(snapshots,)"""
    success: NDArray[np.float64]
    """(seeds, snapshots)"""

    def reaches(
        self, threshold: float, seeds: NDArray[np.int64] | None = None
    ) -> ThresholdCrossing | None:
        """When the mean over these seeds first is at the threshold; None if never, or if that is nothing."""
        mean = (self.success if seeds is None else self.success[seeds]).mean(0)
        above = np.flatnonzero(mean >= threshold)
        if threshold <= 0 or not len(above):
            return None
        last = int(above[0])
        if last == 0:
            return ThresholdCrossing(float(self.updates[0]), at_first_snapshot=True)
        part = (threshold - mean[last - 1]) / (mean[last] - mean[last - 1])
        before, after = self.updates[last - 1], self.updates[last]
        return ThresholdCrossing(float(before + part * (after - before)), at_first_snapshot=False)


def curve_of(tables: Tables) -> Curve:
    """From learning curves of one task, one a seed: columns update and mean."""
    updates = tables[0]["update"].cast(pl.Float64).to_numpy()
    return Curve(updates, np.stack([table["mean"].to_numpy() for table in tables]))


def task_costs(
    multitask: Mapping[str, Curve], specialists: Mapping[str, Curve], finals: Mapping[str, float]
) -> tuple[TaskCost, ...]:
    """When each task was learned, with others and alone.

    Args:
        multitask: its learning curve on each task.
        specialists: theirs, on the same tasks.
        finals: success of each specialist at the end, of which ``SHARE_OF_FINAL`` is its threshold.
    """
    thresholds = {task: SHARE_OF_FINAL * finals[task] for task in specialists}
    return tuple(
        TaskCost(
            task,
            threshold,
            specialists[task].reaches(threshold),
            multitask[task].reaches(threshold),
        )
        for task, threshold in thresholds.items()
    )


def sharing_cost(
    multitask: Mapping[str, Curve],
    specialists: Mapping[str, Curve],
    costs: tuple[TaskCost, ...],
    batch_size: int,
) -> SharingCost | None:
    """What learning the tasks together costs beside learning each alone.

    Tasks that one of both never learned, or had at its first snapshot, say nothing and are left out. The interval
    of the ratio resamples training seeds.

    Args:
        multitask: its learning curve on each task.
        specialists: theirs, on the same tasks.
        costs: as ``task_costs`` reads them off.
        batch_size: transitions an update.

    Returns:
        None where no task is left.
    """
    left = [cost for cost in costs if cost.ratio is not None]
    if not left:
        return None
    alone = float(np.mean([cost.specialist.updates for cost in left if cost.specialist]))
    together = float(np.mean([cost.multitask.updates for cost in left if cost.multitask]))
    ratios = _resampled_ratios(multitask, specialists, left)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    ratio = together / alone
    interval = Estimate(ratio, min(ratio, float(low)), max(ratio, float(high)))
    return SharingCost(costs, batch_size, together, alone, interval)


def _resampled_ratios(
    multitask: Mapping[str, Curve], specialists: Mapping[str, Curve], costs: Sequence[TaskCost]
) -> list[float]:
    """Generalist over specialist in resamples of the seeds, over the tasks that both then learn."""
    random = np.random.default_rng(0)
    seeds = len(next(iter(multitask.values())).success)
    ratios = []
    for _ in range(RESAMPLES):
        chosen = random.integers(seeds, size=seeds)
        pairs = [
            tuple(
                curves[cost.task].reaches(cost.threshold, chosen)
                for curves in (multitask, specialists)
            )
            for cost in costs
        ]
        learned = [(one.updates, other.updates) for one, other in pairs if one and other]
        if learned:
            ratios.append(sum(one for one, _ in learned) / sum(other for _, other in learned))
    return ratios


@dataclass(frozen=True)
class SharingModel:
    """f and c, from suites of several sizes."""

    shared: float
    """f, the share that is common to all tasks."""
    interference: float | None
    """c; None where nothing is shared that could interfere."""


def fit_sharing(points: Sequence[tuple[int, float]]) -> SharingModel | None:
    """F and c of ratio = c f + K (1 - f), a line in K, by least squares.

    One suite gives one equation for two unknowns, so suites of at least two sizes are needed. They must be alike:
    f and c are taken to be the same in all of them.

    Args:
        points: the number of tasks K of each suite, and updates of its multi-task policy over those of a specialist.

    Returns:
        None where all suites have the same size.
    """
    sizes = np.array([size for size, _ in points], dtype=np.float64)
    if len(np.unique(sizes)) < 2:
        return None
    ratios = np.array([ratio for _, ratio in points])
    slope, intercept = np.polyfit(sizes, ratios, 1)
    shared = 1.0 - float(slope)
    return SharingModel(shared, float(intercept) / shared if shared > 1e-9 else None)
