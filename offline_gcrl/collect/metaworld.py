"""Demonstrator for Meta-World's tasks: the scripted policies of its package."""

import warnings
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

HEIGHT_OF_GOAL = 38
"""Index of the height of the goal in an observation."""


class MetaWorldDemonstrator:
    """The scripted policy of the environment's task (Yu et al., CoRL 2019).

    Args:
        environment: a task of Meta-World.
        random: unused, as the scripted policies are deterministic.
        aim_above: offset in metres that is added to the height of the goal in the observation of the policy.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        aim_above: float = 0.0,
    ) -> None:
        task = getattr(environment.unwrapped, "task", None)
        if task is None:
            raise SettingsError(
                "'metaworld_scripted' needs a task of Meta-World, environment.id "
                "'offline_gcrl.environments.metaworld:offline-gcrl/MetaWorld-v0'"
            )
        from metaworld.policies import ENV_POLICY_MAP  # An extra, imported only where it is used.

        self.policy: Any = ENV_POLICY_MAP[task]()
        self.space, self.aim_above = environment.action_space, aim_above

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (4,): the displacement of the hand, and the closing of the gripper."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The policies warn that their actions will be clipped.
            # A copy, because the policy of door-open modifies its input, which is also recorded.
            shown = np.array(observation)
            shown[HEIGHT_OF_GOAL] += self.aim_above
            action = self.policy.get_action(shown)
        assert isinstance(self.space, gymnasium.spaces.Box)
        clipped: NDArray[Any] = np.clip(action, self.space.low, self.space.high)
        return clipped
