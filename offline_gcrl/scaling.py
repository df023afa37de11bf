"""How inputs are normalised and actions scaled; saved with the policy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

CLIP = 5.0  # Of normalised inputs, in standard deviations (GoFAR).
STD_FLOOR = 1e-2


@dataclass(frozen=True)
class Scaling:
    """How inputs are normalised and actions scaled. Plain lists, so that it is saved as it is."""

    observation_mean: list[float]
    observation_std: list[float]
    goal_mean: list[float]
    goal_std: list[float]
    action_low: list[float]
    action_high: list[float]

    @classmethod
    def of(cls, schema: dict[str, Any]) -> "Scaling":
        """From the statistics of a dataset (the released GoFAR updates them from training batches)."""
        observation, goal = (
            schema["statistics"]["observation"],
            schema["statistics"]["achieved_goal"],
        )
        space = schema["action_space"]
        return cls(
            observation_mean=observation["mean"],
            observation_std=[max(std, STD_FLOOR) for std in observation["std"]],
            goal_mean=goal["mean"],
            goal_std=[max(std, STD_FLOOR) for std in goal["std"]],
            action_low=np.ravel(space["low"]).tolist(),
            action_high=np.ravel(space["high"]).tolist(),
        )

    def observations(self, values: Tensor) -> Tensor:
        """Normalised observations, (..., observation)."""
        return _normalised(values, self.observation_mean, self.observation_std)

    def goals(self, values: Tensor) -> Tensor:
        """Normalised goals, (..., goal)."""
        return _normalised(values, self.goal_mean, self.goal_std)

    def scaled_actions(self, actions: Tensor) -> Tensor:
        """Actions of the environment to [-1, 1], (..., action)."""
        low, high = actions.new_tensor(self.action_low), actions.new_tensor(self.action_high)
        return 2.0 * (actions - low) / (high - low) - 1.0

    def environment_actions(self, scaled: Tensor) -> Tensor:
        """The inverse, clipped to the bounds."""
        low, high = scaled.new_tensor(self.action_low), scaled.new_tensor(self.action_high)
        return low + (scaled.clamp(-1.0, 1.0) + 1.0) / 2.0 * (high - low)


def _normalised(values: Tensor, mean: list[float], std: list[float]) -> Tensor:
    return ((values - values.new_tensor(mean)) / values.new_tensor(std)).clamp(-CLIP, CLIP)
