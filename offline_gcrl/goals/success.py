"""When a goal counts as reached.

The same functions serve relabelling (columns), n-step targets in training (torch tensors) and evaluation (NumPy
arrays). The reward of transition i refers to the *next* achieved goal: transition i reaches g if
``achieved_goal[i + 1]`` reaches g. The rule ``same_step`` (of OGBench) compares rows of the dataset instead of the
values of goals, so it is applied where rows are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import add, and_
from typing import Any, Literal, TypeVar

import numpy as np

from offline_gcrl.config import Success

Array = TypeVar("Array", bound=Any)  # np.ndarray or torch.Tensor; the arithmetic is the same.


def squared_distance(achieved: Array, goal: Array) -> Array:
    """Squared Euclidean distance over the last axis, of (..., goal) and (..., goal): (...)."""
    difference = achieved - goal
    total: Array = (difference * difference).sum(-1)
    return total


def is_within(achieved: Array, goal: Array, tolerance: float) -> Array:
    """Whether the distance of (..., goal) and (..., goal) is at most ``tolerance``, in the units of the goal: (...)."""
    within: Array = squared_distance(achieved, goal) <= float(np.float32(tolerance) ** 2)
    return within


def reaches(achieved: Array, goal: Array, success: Success) -> Array:
    """Whether achieved goals, (..., goal), count as the goals, (..., goal): (...).

    Raises:
        ValueError: the success test is ``same_step``, which compares rows.
    """
    if success.has_distance:
        return is_within(achieved, goal, success.tolerance or 0.0)
    met: list[Array] = [
        condition.met(
            [achieved[..., dimension] - goal[..., dimension] for dimension in condition.dimensions]
        )
        for condition in conditions(success, achieved.shape[-1])
    ]
    return reduce(and_, met)


def column_reaches(achieved: Sequence[Array], goal: Sequence[Array], success: Success) -> Array:
    """``reaches`` for goals as columns, one array (rows,) per dimension, which is faster for few dimensions."""
    met: list[Array] = [
        condition.met([achieved[dimension] - goal[dimension] for dimension in condition.dimensions])
        for condition in conditions(success, len(goal))
    ]
    return reduce(and_, met)


@dataclass(frozen=True)
class Condition:
    """A goal counts as reached if all conditions are met; this is one of them."""

    dimensions: tuple[int, ...]
    tolerance: float
    direction: Literal["near", "above", "below"] = "near"

    def met(self, differences: list[Any]) -> Any:
        """Whether the condition is met, from achieved minus goal in each dimension: arrays, tensors or expressions."""
        if self.direction == "near":
            limit = float(np.float32(self.tolerance) ** 2)
            squares = [difference * difference for difference in differences]
            return reduce(add, squares) <= limit
        missing = -differences[0] if self.direction == "above" else differences[0]
        return missing <= float(np.float32(self.tolerance))


def conditions(success: Success, size: int) -> list[Condition]:
    """The conditions of a success test for goals of ``size`` dimensions.

    Raises:
        ValueError: the success test is ``same_step``, which compares rows.
    """
    tolerance = success.tolerance or 0.0
    if success.kind == "distance":
        parts = success.parts or (size,)
        starts = accumulate(parts, initial=0)
        return [
            Condition(tuple(range(start, start + part)), tolerance)
            for start, part in zip(starts, parts, strict=False)
        ]
    if success.kind == "per_dimension":
        return [Condition((i,), limit) for i, limit in enumerate(success.tolerances or ())]
    if success.kind == "predicate":
        assert success.predicate is not None
        return [Condition((i,), tolerance, success.predicate) for i in success.dimensions or ()]
    raise ValueError("'same_step' compares rows, not values of goals")


def size_mismatch(success: Success, size: int) -> str | None:
    """Why a success test does not fit goals of ``size`` dimensions; None if it fits."""
    if success.parts is not None and sum(success.parts) != size:
        return f"'parts' sum to {sum(success.parts)}"
    if success.tolerances is not None and len(success.tolerances) != size:
        return f"there are {len(success.tolerances)} 'tolerances'"
    if success.dimensions is not None and max(success.dimensions) >= size:
        return f"there is no dimension {max(success.dimensions)}"
    return None


def column_squared_distance(achieved: Sequence[Array], goal: Sequence[Array]) -> Array:
    """``squared_distance`` for goals as columns, one array (rows,) per dimension."""
    differences = [mine - theirs for mine, theirs in zip(achieved, goal, strict=True)]
    total: Array = reduce(add, [difference * difference for difference in differences])
    return total
