"""Demonstrations of Meta-World's tasks by the scripted policies of its package."""

import warnings
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

HEIGHT_OF_GOAL = 38
"""Place of the goal's height in an observation, in metres."""


class MetaWorldDemonstrator:
    """The scripted policy of the environment's task (Yu et al., CoRL 2019).

    Args:
        environment: one of Meta-World's tasks.
        random: not drawn from; the scripted policies are deterministic.
        aim_above: how far above the goal the policy is told that it lies, in metres.
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
        """An action within bounds, shape (4,): displacement of the hand, closing of the gripper."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It warns that its actions will be clipped.
            # A copy: the one that opens doors writes into what it is shown, and that is recorded.
            shown = np.array(observation)
            shown[HEIGHT_OF_GOAL] += self.aim_above
            action = self.policy.get_action(shown)
        assert isinstance(self.space, gymnasium.spaces.Box)
        clipped: NDArray[Any] = np.clip(action, self.space.low, self.space.high)
        return clipped
