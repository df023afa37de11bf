"""Benefit and cost of one policy for several tasks: a multi-task policy compared with its specialists.

Transfer is the success of the multi-task policy on a task minus that of the specialist. The cost of sharing is the
number of updates. K specialists with N updates each cost K N updates. A multi-task policy costs c N f + K (1 - f) N, if
a share f of the learning is common to all tasks and interference multiplies its cost by c.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.statistics.contrasts import Contrast, Tables, paired_contrast
from offline_gcrl.statistics.intervals import CONFIDENCE, TAILS, Estimate

SHARE_OF_FINAL = 0.8
"""A task counts as learned at this share of the final success of its specialist."""
RESAMPLES = 1000
ROUNDING = 1e-9
"""A rate that is smaller by this reaches a threshold: 0.8 of 0.75 is not 0.6 in float64."""


def transfers(
    multitask: Tables, specialists: Mapping[str, Tables], column: str = "success"
) -> list[Contrast]:
    """Transfer of each task with a specialist: success of the multi-task policy minus that of the specialist.

    The intervals of the differences of all tasks have a joint confidence of 95% (Bonferroni).

    Args:
        multitask: evaluation episodes of the multi-task policy on all tasks.
        specialists: the same episodes with the specialist, by task.
        column: column of successes.

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
    """Transfer over the episodes of all tasks with a specialist; arguments as for ``transfers``."""
    tasks = pl.Series(list(specialists)).implode()
    own = [table.filter(pl.col("task").is_in(tasks)) for table in multitask]
    joined = [
        pl.concat(tables).sort("episode") for tables in zip(*specialists.values(), strict=True)
    ]
    return paired_contrast("all tasks", own, joined, column)


@dataclass(frozen=True)
class ThresholdCrossing:
    """The number of updates at which a learning curve reached a threshold."""

    updates: float
    """Number of updates, interpolated between snapshots."""
    at_first_snapshot: bool
    """Whether the curve had reached the threshold at its first snapshot; then ``updates`` is an upper bound."""


@dataclass(frozen=True)
class TaskCost:
    """The number of updates to learn a task, by the specialist and the multi-task policy; None if it is not learned."""

    task: str
    threshold: float
    """Success rate at which the task counts as learned."""
    specialist: ThresholdCrossing | None
    multitask: ThresholdCrossing | None

    @property
    def ratio(self) -> float | None:
        """Updates of the multi-task policy over those of the specialist; None if either is unknown or a bound."""
        both = (self.multitask, self.specialist)
        one, other = (None if found is None or found.at_first_snapshot else found for found in both)
        return one.updates / other.updates if one and other else None


@dataclass(frozen=True)
class SharingCost:
    """Updates of a multi-task policy for K tasks, compared with those of K specialists with the same batch size."""

    costs: tuple[TaskCost, ...]
    batch_size: int
    multitask: float
    """Updates of the multi-task policy until a task is learned, averaged over the compared tasks."""
    specialist: float
    """Updates of a specialist until its task is learned, N, averaged over the compared tasks."""
    ratio: Estimate
    """Updates of the multi-task policy over those of a specialist: 1 if everything is shared without interference, K if
    nothing is shared."""
    resampled: NDArray[np.float64]
    """The ratio in resamples of the training seeds, (resamples,)."""

    @property
    def tasks(self) -> int:
        """Number of tasks, K."""
        return len(self.costs)

    @property
    def compared(self) -> int:
        """Number of tasks for which both numbers of updates are known."""
        return sum(cost.ratio is not None for cost in self.costs)

    @property
    def least_shared(self) -> float:
        """Share f without interference (c = 1), a lower bound of f as c is at least 1.

        A value above 1 means that the multi-task policy learned faster than the model allows.
        """
        return (self.tasks - self.ratio.mean) / (self.tasks - 1)

    @property
    def most_interference(self) -> float:
        """Interference c if everything is shared (f = 1), an upper bound of c."""
        return self.ratio.mean


@dataclass(frozen=True)
class Curve:
    """Success rates of several seeds at the same snapshots."""

    updates: NDArray[np.float64]
    """Number of updates at each snapshot, (snapshots,)."""
    success: NDArray[np.float64]
    """Success rates, (seeds, snapshots)."""

    def reaches(
        self, threshold: float, seeds: NDArray[np.int64] | None = None
    ) -> ThresholdCrossing | None:
        """When the mean over these seeds first reaches a threshold; None if it does not, or the threshold is 0."""
        mean = (self.success if seeds is None else self.success[seeds]).mean(0)
        above = np.flatnonzero(mean >= threshold - ROUNDING)
        if threshold <= 0 or not len(above):
            return None
        last = int(above[0])
        if last == 0:
            return ThresholdCrossing(float(self.updates[0]), at_first_snapshot=True)
        part = min(1.0, (threshold - mean[last - 1]) / (mean[last] - mean[last - 1]))
        before, after = self.updates[last - 1], self.updates[last]
        return ThresholdCrossing(float(before + part * (after - before)), at_first_snapshot=False)


def curve_of(tables: Tables) -> Curve:
    """The curve of one task from its learning curves, one table per seed with the columns update and mean."""
    updates = tables[0]["update"].cast(pl.Float64).to_numpy()
    return Curve(updates, np.stack([table["mean"].to_numpy() for table in tables]))


def task_costs(
    multitask: Mapping[str, Curve], specialists: Mapping[str, Curve], finals: Mapping[str, float]
) -> tuple[TaskCost, ...]:
    """Number of updates until each task was learned, by the multi-task policy and by the specialist.

    Args:
        multitask: learning curves of the multi-task policy, by task.
        specialists: learning curves of the specialists, by task.
        finals: final success rate of each specialist; the threshold is ``SHARE_OF_FINAL`` times this rate.
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
    """Cost of learning the tasks with one policy, compared with one policy per task.

    Tasks that one of the two did not learn, or had learned at its first snapshot, are left out. The interval of the ratio
    resamples training seeds.

    Args:
        multitask: learning curves of the multi-task policy, by task.
        specialists: learning curves of the specialists, by task.
        costs: result of ``task_costs``.
        batch_size: transitions per update.

    Returns:
        The cost; None if no task can be compared.
    """
    compared = [cost for cost in costs if cost.ratio is not None]
    if not compared:
        return None
    separate = float(np.mean([cost.specialist.updates for cost in compared if cost.specialist]))
    joint = float(np.mean([cost.multitask.updates for cost in compared if cost.multitask]))
    ratios = _resampled_ratios(multitask, specialists, compared)
    interval = _estimate(np.array([joint / separate, *ratios]))
    return SharingCost(costs, batch_size, joint, separate, interval, np.array(ratios))


def _resampled_ratios(
    multitask: Mapping[str, Curve], specialists: Mapping[str, Curve], costs: Sequence[TaskCost]
) -> list[float]:
    """Ratios of updates in resamples of the seeds, over the tasks that both learn in the resample."""
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
    """Parameters f and c of the cost of sharing, fitted to suites of several sizes, with 95% intervals."""

    shared: Estimate
    """The share f that is common to all tasks; outside of 0 to 1 where the model does not explain the costs."""
    interference: Estimate | None
    """The factor c of interference; None if f may be zero, which leaves c undetermined."""
    intercept: float
    """The fitted line, c f + K (1 - f), at no tasks: c f."""
    costs: tuple[SharingCost, ...]
    """The suites, from the smallest to the largest."""

    def fitted(self, tasks: NDArray[np.float64]) -> NDArray[np.float64]:
        """The fitted line for suites of these numbers of tasks."""
        return self.intercept + (1.0 - self.shared.mean) * tasks


def fit_sharing(costs: Sequence[SharingCost]) -> SharingModel | None:
    """Fit f and c of ratio = c f + K (1 - f), which is linear in K, by least squares.

    One suite gives one equation for two unknowns, so suites of at least two sizes are needed. The fit assumes that f and
    c are the same in all suites. The intervals resample the training seeds of each suite independently.

    Args:
        costs: the cost of sharing in each suite.

    Returns:
        The fit; None if all suites have the same size.
    """
    ordered = tuple(sorted(costs, key=lambda cost: cost.tasks))
    sizes = np.array([cost.tasks for cost in ordered], dtype=np.float64)
    if len(np.unique(sizes)) < 2:
        return None
    random = np.random.default_rng(0)
    count = min(len(cost.resampled) for cost in ordered)
    draws = [random.permutation(cost.resampled)[:count] for cost in ordered]
    ratios = np.column_stack([[cost.ratio.mean for cost in ordered], np.stack(draws, 1).T])
    slopes, intercepts = np.polyfit(sizes, ratios, 1)
    shared = _estimate(1.0 - slopes)
    positive = min(shared.mean, shared.low) > 1e-9
    with np.errstate(divide="ignore"):
        interference = _estimate(intercepts / (1.0 - slopes)) if positive else None
    return SharingModel(shared, interference, float(intercepts[0]), ordered)


def _estimate(values: NDArray[np.float64]) -> Estimate:
    """The first value as the mean, with the interval of the others, which are resamples."""
    low, high = np.quantile(values[1:], TAILS)
    mean = float(values[0])
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)))
