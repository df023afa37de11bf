"""What a goal is: when it counts as reached, and what reward that gives.

The rule is written once, here, for the three places that need it: the relabelling (Polars
expressions), the n-step targets of training (torch tensors) and the evaluation (NumPy arrays).
Reward is about the *next* achieved goal: transition i reaches g when ``achieved_goal[i + 1]`` does.
"""

from typing import Any, TypeVar

import numpy as np
import polars as pl

Array = TypeVar("Array", bound=Any)  # np.ndarray or torch.Tensor: the arithmetic is the same.


def squared_distance(achieved: Array, goal: Array) -> Array:
    """Squared Euclidean distance over the last axis: (..., goal) and (..., goal) to (...)."""
    difference = achieved - goal
    total: Array = (difference * difference).sum(-1)
    return total


def is_within(achieved: Array, goal: Array, tolerance: float) -> Array:
    """Whether ``achieved`` lies within ``tolerance`` (in the goal's own units) of ``goal``."""
    within: Array = squared_distance(achieved, goal) <= float(np.float32(tolerance) ** 2)
    return within


def squared_distance_expression(achieved: str, goal: str) -> pl.Expr:
    """``squared_distance`` between two Array columns, as a Polars expression."""
    difference = pl.col(achieved) - pl.col(goal)
    return (difference * difference).arr.sum()


def is_within_expression(achieved: str, goal: str, tolerance: float) -> pl.Expr:
    """``is_within`` between two Array columns, as a Polars expression."""
    limit = pl.lit(np.float32(tolerance) ** 2, dtype=pl.Float32)
    return squared_distance_expression(achieved, goal) <= limit
