"""Random exploration, independent of goals."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError


class UniformExplorer:
    """Draws an action uniformly from the action space at every step."""

    def __init__(self, environment: gymnasium.Env[Any, Any], random: np.random.Generator) -> None:
        space = environment.action_space
        assert isinstance(space, gymnasium.spaces.Box)
        self.low, self.random = space.low.astype(np.float64), random
        self.width = space.high - self.low

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (action,)."""
        # Equal to random.uniform(low, high), without its checks of the bounds at every step.
        return self.low + self.width * self.random.random(self.low.shape)


class HeldDirectionExplorer:
    """Holds a random direction at full strength for a random number of steps, and then draws another one.

    Independent actions average out, so that a point mass stays near its start; held actions cover a maze.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        shortest: int = 10,
        longest: int = 50,
    ) -> None:
        space = environment.action_space
        assert isinstance(space, gymnasium.spaces.Box)
        if not 1 <= shortest <= longest:
            raise SettingsError(
                f"'held_direction' needs 1 <= shortest <= longest, not {shortest} and {longest}"
            )
        self.space, self.random = space, random
        self.shortest, self.longest = shortest, longest
        self.steps_left = 0
        self.action = np.zeros(space.shape)

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action on the edge of the unit ball, scaled to the bounds; shape (action,)."""
        if self.steps_left == 0:
            self.steps_left = int(self.random.integers(self.shortest, self.longest + 1))
            direction = self.random.normal(size=self.space.shape)
            low, high = self.space.low, self.space.high
            centre, half = (low + high) / 2, (high - low) / 2
            self.action = centre + half * direction / np.linalg.norm(direction)
        self.steps_left -= 1
        return self.action
