"""Demonstrations of Meta-World's tasks by the scripted policies of its package."""

import warnings
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.errors import SettingsError


class MetaWorldDemonstrator:
    """The scripted policy of the environment's task (Yu et al., CoRL 2019)."""

    def __init__(self, environment: gymnasium.Env[Any, Any], random: np.random.Generator) -> None:
        task = getattr(environment.unwrapped, "task", None)
        if task is None:
            raise SettingsError(
                "'metaworld_scripted' needs a task of Meta-World, environment.id "
                "'offline_gcrl.metaworld:offline-gcrl/MetaWorld-v0'"
            )
        from metaworld.policies import ENV_POLICY_MAP  # An extra, imported only where it is used.

        self.policy: Any = ENV_POLICY_MAP[task]()
        self.space = environment.action_space

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (4,): displacement of the hand, closing of the gripper."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It warns that its actions will be clipped.
            # A copy: the one that opens doors writes into what it is shown, and that is recorded.
            action = self.policy.get_action(np.array(observation))
        assert isinstance(self.space, gymnasium.spaces.Box)
        clipped: NDArray[Any] = np.clip(action, self.space.low, self.space.high)
        return clipped
