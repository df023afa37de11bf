"""Aggregates over training runs and tasks (Agarwal et al. 2021): optimality gaps and performance profiles.

A run is one training seed on one task, and its score is its mean over its evaluation episodes. Interquartile means and
probabilities of improvement are part of ``comparison``. Over several datasets the bootstrap is stratified: it resamples
the training seeds of each dataset on their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.statistics.comparison import (
    RESAMPLES,
    Comparison,
    Outcomes,
    Values,
    compare_outcomes,
    join_datasets,
    resampled_scores,
    run_scores,
)
from offline_gcrl.statistics.intervals import TAILS, Estimate
from offline_gcrl.statistics.paired_rates import score_interval

TARGET = 1.0
"""The score at which the optimality gap of a run is 0: a success rate of 1."""
THRESHOLDS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Profile:
    """The share of an agent's runs with a score above each of ``THRESHOLDS``, with pointwise 95% intervals."""

    mean: Values
    low: Values
    high: Values


@dataclass(frozen=True)
class Aggregates:
    """Aggregates of all agents over the same runs."""

    comparison: Comparison
    """Ranks, interquartile means, and probabilities of improvement."""
    optimality_gap: dict[str, Estimate]
    """By how much the scores of an agent's runs are below ``TARGET`` on average; lower is better."""
    profiles: dict[str, Profile]
    runs: int
    """Runs per agent."""


def aggregate(names: Sequence[str], datasets: Sequence[Outcomes]) -> Aggregates:
    """Compare agents over all tasks of one or several datasets.

    Args:
        names: names of the agents, in the order of the first axis of the arrays.
        datasets: paired outcomes of the same agents and training seeds on each dataset.
    """
    outcomes, resampled = join_datasets(datasets), resampled_datasets(datasets)
    scores = run_scores(outcomes)
    return Aggregates(
        compare_outcomes(names, outcomes, resampled=resampled),
        {name: _gap(outcomes, scores, resampled, number) for number, name in enumerate(names)},
        {name: _profile(scores[i], resampled[:, i]) for i, name in enumerate(names)},
        scores.shape[1] * scores.shape[2],
    )


def resampled_datasets(datasets: Sequence[Outcomes], resamples: int = RESAMPLES) -> Values:
    """``resampled_scores`` of each dataset with draws of its own, joined: (resamples, agents, seeds, all tasks)."""
    drawn = [resampled_scores(found, resamples, stream) for stream, found in enumerate(datasets)]
    return np.concatenate(drawn, axis=3)


def optimality_gap(scores: Values) -> Values:
    """Mean of ``TARGET`` minus score over the last two axes, seeds and tasks; scores above the target count as the target."""
    gap: Values = np.maximum(TARGET - scores, 0.0).mean((-2, -1))
    return gap


def performance_profile(scores: Values, thresholds: Values = THRESHOLDS) -> Values:
    """The share of runs with a score above each threshold.

    Args:
        scores: (..., seeds, tasks).
        thresholds: (thresholds,).

    Returns:
        (..., thresholds).
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.stack([(flat > threshold).mean(-1) for threshold in thresholds], axis=-1)


def _gap(outcomes: Outcomes, scores: Values, resampled: Values, number: int) -> Estimate:
    """A bootstrap interval, for rates extended to contain Wilson's interval of all episodes."""
    mean = float(optimality_gap(scores[number]))
    low, high = np.quantile(optimality_gap(resampled[:, number]), TAILS)
    pooled = np.concatenate([values[number] for tasks in outcomes for values in tasks])
    if np.isin(pooled, (0.0, 1.0)).all():
        floor = score_interval(mean, len(pooled))
        low, high = min(low, floor.low), max(high, floor.high)
    return Estimate(mean, float(low), float(high))


def _profile(scores: Values, resampled: Values) -> Profile:
    low, high = np.quantile(performance_profile(resampled), TAILS, axis=0)
    return Profile(performance_profile(scores), low, high)
