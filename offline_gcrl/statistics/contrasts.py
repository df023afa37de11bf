"""Success under two conditions: right and wrong identifiers, seen and unseen goals, multi-task policy and specialist."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from offline_gcrl.statistics.comparison import Outcomes, paired_difference, paired_outcomes
from offline_gcrl.statistics.intervals import CONFIDENCE, TAILS, Estimate, rate_across_seeds

RESAMPLES = 5000
Tables = Sequence[pl.DataFrame]
"""Evaluation episodes, one table per training seed."""


@dataclass(frozen=True)
class Contrast:
    """Success rates under two conditions and their difference, with 95% intervals."""

    name: str
    first: Estimate
    second: Estimate
    difference: Estimate
    """First minus second."""
    episodes: int
    """Episodes of the second condition, over all seeds."""

    @property
    def kind(self) -> str:
        """The sign of the difference: ``positive``, ``negative``, or ``unclear`` if the interval contains zero."""
        if self.difference.low > 0:
            return "positive"
        return "negative" if self.difference.high < 0 else "unclear"


def success_rate(tables: Tables, column: str = "success") -> Estimate:
    """Success rate with its interval, as ``rate_across_seeds``."""
    return rate_across_seeds([table[column].cast(pl.Float64).to_numpy() for table in tables])


def paired_contrast(
    name: str,
    first: Tables,
    second: Tables,
    column: str = "success",
    confidence: float = CONFIDENCE,
) -> Contrast:
    """Contrast of two conditions on the same episodes; the bootstrap preserves the pairs.

    The rates and their difference are means over episodes. The bootstrap resamples the episodes of each task separately if
    all tasks have equally many.

    Args:
        name: name of the contrast.
        first: episodes under the first condition.
        second: the same episodes under the second condition.
        column: column of successes.
        confidence: confidence of the interval of the difference.

    Raises:
        DataError: the episodes are not the same.
    """
    outcomes = _with_equal_tasks(paired_outcomes({"first": first, "second": second}, column))
    return Contrast(
        name,
        success_rate(first, column),
        success_rate(second, column),
        paired_difference(outcomes, 0, 1, confidence),
        sum(map(len, second)),
    )


def _with_equal_tasks(outcomes: Outcomes) -> Outcomes:
    """The outcomes, as those of a single task if tasks have unequal numbers of episodes.

    A difference is a mean over tasks, which is one over episodes only if the numbers are equal. A seed can have fewer tasks
    than another.
    """
    sizes = {values.shape[1] for tasks in outcomes for values in tasks}
    if len(sizes) == 1 and len({len(tasks) for tasks in outcomes}) == 1:
        return outcomes
    return [[np.concatenate(tasks, axis=1)] for tasks in outcomes]


def unpaired_contrast(
    name: str, first: Tables, second: Tables, column: str = "success"
) -> Contrast:
    """Contrast of two conditions on different episodes of the same policies; the bootstrap pairs seeds only.

    The interval is extended to contain Newcombe's interval (1998, method 10 without correlation) on all episodes.
    """
    one, two = success_rate(first, column), success_rate(second, column)
    random = np.random.default_rng(0)
    chosen = random.integers(len(first), size=(RESAMPLES, len(first)))
    means = []
    for tables in (first, second):
        counts = np.array([len(table) for table in tables])[chosen]
        rates = np.array([table[column].cast(pl.Float64).to_numpy().mean() for table in tables])
        means.append((random.binomial(counts, rates[chosen]) / counts).mean(1))
    low, high = np.quantile(means[0] - means[1], TAILS)
    difference = one.mean - two.mean
    below = float(np.hypot(one.mean - one.low, two.high - two.mean))
    above = float(np.hypot(one.high - one.mean, two.mean - two.low))
    interval = Estimate(
        difference, min(float(low), difference - below), max(float(high), difference + above)
    )
    return Contrast(name, one, two, interval, sum(map(len, second)))


def wrong_identifiers(right: Tables, wrong: Tables, column: str = "success") -> list[Contrast]:
    """Success with the right identifier minus success with a wrong one, per kind of identifier (task or goal).

    Args:
        right: all episodes, with the right identifiers.
        wrong: some of these episodes with a wrong identifier, whose kind is in the column ``wrong``. Seeds without episodes of
            a kind are left out of its contrast.
        column: column of successes.
    """
    contrasts = []
    for kind in pl.concat(wrong)["wrong"].unique(maintain_order=True):
        with_wrong = [table.filter(pl.col("wrong") == kind) for table in wrong]
        with_right = [
            table.filter(pl.col("episode").is_in(other["episode"].implode()))
            for table, other in zip(right, with_wrong, strict=True)
        ]
        both = _of_seeds_with_both(with_right, with_wrong)
        contrasts.append(paired_contrast(kind, *both, column))
    return contrasts


def _of_seeds_with_both(first: Tables, second: Tables) -> tuple[Tables, Tables]:
    """The tables of the training seeds that have episodes under both conditions."""
    both = [pair for pair in zip(first, second, strict=True) if all(map(len, pair))]
    return [one for one, _ in both], [other for _, other in both]


def zero_shot(
    every: Tables, held_out: Tables, column: str = "success"
) -> dict[str, Contrast | None]:
    """Success with seen goals minus success with unseen goals by task, of the training seeds with episodes of both.

    Tasks are not pooled, because the share of goals that are held out differs between them.

    Args:
        every: all episodes of the final evaluation; those with unseen goals are left out.
        held_out: the episodes with unseen goals.
        column: column of successes.

    Returns:
        The contrast of each task with unseen goals; None if no episode has a seen goal, as in an evaluation of a few episodes.
    """
    tasks = pl.concat([table["task"] for table in held_out]).unique(maintain_order=True)
    return {task: _zero_shot_of(task, every, held_out, column) for task in tasks}


def _zero_shot_of(task: str, every: Tables, held_out: Tables, column: str) -> Contrast | None:
    seen = [table.filter(~pl.col("held_out") & (pl.col("task") == task)) for table in every]
    unseen = [table.filter(pl.col("task") == task) for table in held_out]
    first, second = _of_seeds_with_both(seen, unseen)
    return unpaired_contrast(task, first, second, column) if first else None
