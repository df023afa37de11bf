"""Success under two conditions: told right or wrong, goals seen or held out, learned together or alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from offline_gcrl.statistics.comparison import paired_difference, paired_outcomes
from offline_gcrl.statistics.intervals import CONFIDENCE, Estimate, rate_across_seeds

RESAMPLES = 5000
Tables = Sequence[pl.DataFrame]
"""Evaluation episodes, a table a training seed."""


@dataclass(frozen=True)
class Contrast:
    """Success under a condition beside that under another, each with its 95% interval."""

    name: str
    first: Estimate
    second: Estimate
    difference: Estimate
    """First minus second."""
    episodes: int
    """Of the second, over all seeds."""

    @property
    def kind(self) -> str:
        """Whether the first is above the second, below it, or neither can be told."""
        if self.difference.low > 0:
            return "positive"
        return "negative" if self.difference.high < 0 else "unclear"


def success_rate(tables: Tables, column: str = "success") -> Estimate:
    """Rate with its interval: Wilson's of one seed, the bootstrap across several."""
    return rate_across_seeds([table[column].cast(pl.Float64).to_numpy() for table in tables])


def paired_contrast(
    name: str,
    first: Tables,
    second: Tables,
    column: str = "success",
    confidence: float = CONFIDENCE,
) -> Contrast:
    """Of the same episodes: a bootstrap over seeds and episodes that keeps the pairs.

    Raises:
        DataError: the episodes are not the same.
    """
    outcomes = paired_outcomes({"first": first, "second": second}, column)
    return Contrast(
        name,
        success_rate(first, column),
        success_rate(second, column),
        paired_difference(outcomes, 0, 1, confidence),
        sum(map(len, second)),
    )


def unpaired_contrast(
    name: str, first: Tables, second: Tables, column: str = "success"
) -> Contrast:
    """Of different episodes of the same policies: the bootstrap keeps the seeds together, not the episodes.

    Never narrower than Newcombe's interval (1998, method 10 without correlation) on all episodes.
    """
    one, two = success_rate(first, column), success_rate(second, column)
    random = np.random.default_rng(0)
    chosen = random.integers(len(first), size=(RESAMPLES, len(first)))
    means = []
    for tables in (first, second):
        counts = np.array([len(table) for table in tables])[chosen]
        rates = np.array([table[column].cast(pl.Float64).to_numpy().mean() for table in tables])
        means.append((random.binomial(counts, rates[chosen]) / counts).mean(1))
    low, high = np.quantile(means[0] - means[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    difference = one.mean - two.mean
    below = float(np.hypot(one.mean - one.low, two.high - two.mean))
    above = float(np.hypot(one.high - one.mean, two.mean - two.low))
    interval = Estimate(
        difference, min(float(low), difference - below), max(float(high), difference + above)
    )
    return Contrast(name, one, two, interval, sum(map(len, second)))


def wrong_identifiers(right: Tables, wrong: Tables, column: str = "success") -> list[Contrast]:
    """Success when told right minus success when told wrong, for each identifier that was told wrongly.

    Args:
        right: all episodes as they are.
        wrong: some of them again, with a column ``wrong``, the identifier that was.
        column: of successes.
    """
    kinds = pl.concat(wrong)["wrong"].unique(maintain_order=True)
    contrasts = []
    for kind in kinds:
        told_wrong = [table.filter(pl.col("wrong") == kind) for table in wrong]
        told_right = [
            table.filter(pl.col("episode").is_in(other["episode"].implode()))
            for table, other in zip(right, told_wrong, strict=True)
        ]
        contrasts.append(paired_contrast(kind, told_right, told_wrong, column))
    return contrasts


def zero_shot(every: Tables, held_out: Tables, column: str = "success") -> Contrast:
    """Success at goals that training had minus success at goals that were held out.

    Args:
        every: all episodes of the headline, of which those to held-out goals are left out.
        held_out: the episodes to held-out goals.
        column: of successes.
    """
    tasks = held_out[0]["task"].unique().implode()
    seen = [table.filter(~pl.col("held_out") & pl.col("task").is_in(tasks)) for table in every]
    return unpaired_contrast("held-out goals", seen, held_out, column)
