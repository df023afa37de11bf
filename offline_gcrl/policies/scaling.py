"""Normalisation of inputs and scaling of actions, saved with the policy."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Success
from offline_gcrl.goals.success import conditions

Array = TypeVar("Array", Tensor, NDArray[Any])
Vector = tuple[float, ...]

CLIP = 5.0  # Bound of normalised inputs, in standard deviations (GoFAR).
STD_FLOOR = 1e-2
"""Smallest standard deviation that inputs are divided by: noise of numbers at rest is not enlarged to the size of others."""


@dataclass(frozen=True)
class Scaling:
    """Normalises inputs and scales actions, of tensors and of NumPy arrays.

    A single state stays in NumPy, since torch would cost more time than the policy itself.
    """

    observation_mean: Vector
    observation_std: Vector
    goal_mean: Vector
    goal_std: Vector
    action_low: Vector
    action_high: Vector
    normalise: bool = True
    """Whether observations and goals are normalised and clipped, or read as they are."""

    @classmethod
    def of(cls, schema: dict[str, Any], *, normalise: bool = True) -> "Scaling":
        """The scaling with the statistics of a dataset (the released GoFAR updates them from training batches)."""
        observation, goal = (
            schema["statistics"]["observation"],
            schema["statistics"].get("achieved_goal", schema["statistics"]["observation"]),
        )
        space = schema["action_space"]
        return cls(
            observation_mean=tuple(observation["mean"]),
            observation_std=_floored(observation["std"]),
            goal_mean=tuple(goal["mean"]),
            goal_std=_floored(goal["std"], _tolerances(schema["goal"], len(goal["std"]))),
            action_low=tuple(np.ravel(space["low"]).tolist()),
            action_high=tuple(np.ravel(space["high"]).tolist()),
            normalise=normalise,
        )

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> "Scaling":
        """From what ``dataclasses.asdict`` made of one, after saving, which may leave lists."""
        fields: dict[str, Any] = {
            name: value if isinstance(value, bool) else tuple(value)
            for name, value in saved.items()
        }
        return cls(**fields)

    def observations(self, values: Array) -> Array:
        """Observations as networks read them, (..., observation)."""
        if not self.normalise:
            return values
        return _normalised(values, self.observation_mean, self.observation_std)

    def goals(self, values: Array) -> Array:
        """Goals as networks read them, (..., goal)."""
        if not self.normalise:
            return values
        return _normalised(values, self.goal_mean, self.goal_std)

    def scaled_actions(self, actions: Array) -> Array:
        """Actions of the environment, (..., action), scaled to [-1, 1]."""
        low, high = _like(actions, self.action_low), _like(actions, self.action_high)
        scaled: Array = 2.0 * (actions - low) / (high - low) - 1.0
        return scaled

    def environment_actions(self, scaled: Array) -> Array:
        """Scaled actions, (..., action), in the units of the environment, clipped to its bounds."""
        low, high = _like(scaled, self.action_low), _like(scaled, self.action_high)
        actions: Array = low + (scaled.clip(-1.0, 1.0) + 1.0) / 2.0 * (high - low)
        return actions.clip(low, high)  # Rounding may end beyond a bound.


def _floored(stds: Sequence[float], tolerances: Sequence[float] | None = None) -> Vector:
    """Standard deviations with a floor, which is lower in small units.

    Args:
        stds: of the numbers of a vector; if all are below the floor, the floor is relative to the largest.
        tolerances: differences that matter to the success test; the floor is at most these.
    """
    largest = max(stds)
    floor = STD_FLOOR * largest if 0.0 < largest < STD_FLOOR else STD_FLOOR
    floors = [min(floor, tolerance) for tolerance in tolerances or [floor] * len(stds)]
    return tuple(map(max, stds, floors))


def _tolerances(goal: Mapping[str, Any], size: int) -> list[float] | None:
    """The tolerance of each number of a goal, in the goal spec of a schema; None if there are none."""
    success = Success.model_validate_json(json.dumps(goal["success"]))
    if success.kind == "same_step":
        return None
    limits = dict.fromkeys(range(size), STD_FLOOR)
    for condition in conditions(success, size):
        if condition.tolerance > 0.0:
            limits |= dict.fromkeys(condition.dimensions, condition.tolerance)
    return [limits[number] for number in range(size)]


def _normalised(values: Array, mean: Vector, std: Vector) -> Array:
    normalised: Array = ((values - _like(values, mean)) / _like(values, std)).clip(-CLIP, CLIP)
    return normalised


def _like(values: Array, vector: Vector) -> Array:
    """The vector as a tensor or an array like ``values``, on the same device."""
    if isinstance(values, Tensor):
        return values.new_tensor(vector)
    return _as_numpy(vector)


@lru_cache(maxsize=64)
def _as_numpy(vector: Vector) -> NDArray[np.float32]:
    return np.array(vector, dtype=np.float32)
