"""Intervals of a success rate, and of the difference of two success rates on the same episodes."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from offline_gcrl.statistics.intervals import CONFIDENCE, Estimate

Values = NDArray[np.float64]


def score_interval(rate: float, trials: float, confidence: float = CONFIDENCE) -> Estimate:
    """Wilson's score interval (1927) for a rate of a possibly non-integer number of successes."""
    z = ndtri((1 + confidence) / 2)
    centre = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    spread = rate * (1 - rate) / trials + z**2 / (4 * trials**2)
    half = z * np.sqrt(spread) / (1 + z**2 / trials)
    return Estimate(rate, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def paired_rate_difference(first: Values, second: Values, confidence: float) -> Estimate:
    """Difference of two rates on the same trials, with its interval (Newcombe 1998, method 10).

    Args:
        first: ones and zeros, (trials,).
        second: ones and zeros on the same trials, (trials,).
        confidence: confidence of the interval.
    """
    trials = len(first)
    one, two = (score_interval(float(x.mean()), trials, confidence) for x in (first, second))
    correlation = _continuity_corrected_correlation(first, second)

    def reach(left: float, right: float) -> float:
        return float(np.sqrt(left**2 - 2 * correlation * left * right + right**2))

    difference = one.mean - two.mean
    return Estimate(
        difference,
        difference - reach(one.mean - one.low, two.high - two.mean),
        difference + reach(one.high - one.mean, two.mean - two.low),
    )


def _continuity_corrected_correlation(first: Values, second: Values) -> float:
    both, neither = float(first @ second), float((1 - first) @ (1 - second))
    only_first, only_second = float(first @ (1 - second)), float((1 - first) @ second)
    margins = first.sum() * (1 - first).sum() * second.sum() * (1 - second).sum()
    if margins == 0:
        return 0.0
    product = both * neither - only_first * only_second
    corrected = max(product - len(first) / 2, 0.0) if product > 0 else product
    return float(corrected / np.sqrt(margins))
