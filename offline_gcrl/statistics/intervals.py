"""95% intervals: Wilson's interval for a rate of one seed, and a hierarchical bootstrap across seeds."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri  # scipy.stats takes a second to import.

CONFIDENCE = 0.95
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
"""Quantiles of a bootstrap that are the ends of an interval."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


def wilson(successes: float, trials: int) -> Estimate:
    """Success rate with Wilson's score interval (Wilson 1927); successes may be the mean of several evaluations."""
    rate, z = successes / trials, ndtri((1 + CONFIDENCE) / 2)
    denominator = 2 * (trials + z**2)
    centre = (2 * trials * rate + z**2) / denominator
    half = z / denominator * sqrt(4 * trials * rate * (1 - rate) + z**2)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Estimate(rate, float(low), float(high))


def across_seeds(groups: list[NDArray[np.float64]]) -> Estimate:
    """Mean over seeds, with a bootstrap interval that resamples seeds and the episodes of each seed.

    Args:
        groups: values of the episodes, one array (episodes,) per seed.
    """
    equal = len({len(group) for group in groups}) == 1
    means = means_at_once(np.stack(groups)) if equal else means_one_by_one(groups)
    low, high = np.quantile(means, TAILS)
    return Estimate(float(np.mean([group.mean() for group in groups])), float(low), float(high))


def means_at_once(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of resamples of seeds with equally many episodes, from one array of draws.

    Args:
        values: values (seeds, episodes).

    Returns:
        Means (resamples,), bit for bit those of ``means_one_by_one``: each row of draws has the same order.
    """
    seeds, episodes = values.shape
    bounds = np.repeat([seeds, episodes], [seeds, values.size])
    draws = np.random.default_rng(0).integers(np.broadcast_to(bounds, (RESAMPLES, len(bounds))))
    chosen, places = np.split(draws, [seeds], axis=1)
    resampled = values[chosen[:, :, None], places.reshape(-1, seeds, episodes)]
    means: NDArray[np.float64] = (resampled.sum(axis=2) / episodes).mean(axis=1)
    return means


def means_one_by_one(groups: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Means of resamples of seeds with any numbers of episodes.

    Args:
        groups: values of the episodes, one array (episodes,) per seed.

    Returns:
        Means (resamples,).
    """
    random = np.random.default_rng(0)
    means = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        chosen = random.integers(len(groups), size=len(groups))
        means[number] = np.mean([_resampled_mean(groups[i], random) for i in chosen])
    return means


def _resampled_mean(values: NDArray[np.float64], random: np.random.Generator) -> float:
    """The mean of as many values, drawn with replacement; faster than ``random.choice`` and ``mean``, from the same draws."""
    count = len(values)
    mean: float = values[random.integers(count, size=count)].sum() / count
    return mean


def rate_across_seeds(groups: list[NDArray[np.float64]]) -> Estimate:
    """Success rate over seeds, with the bootstrap interval extended to contain Wilson's interval on all episodes.

    If all episodes succeed, resampling alone gives an interval of width zero. With one seed, the interval is Wilson's.

    Args:
        groups: ones and zeros, one array (episodes,) per seed.
    """
    pooled = np.concatenate(groups)
    floor = wilson(round(float(pooled.sum()), 6), len(pooled))
    if len(groups) == 1:
        return floor
    estimate = across_seeds(groups)
    return Estimate(estimate.mean, min(estimate.low, floor.low), max(estimate.high, floor.high))
