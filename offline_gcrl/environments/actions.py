"""Actions of environments: which can be scaled, and an order of their dimensions that a recipe chooses.

With an order, tasks that look alike ask for different actions, such as mazes in which a policy moves left to go right.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

NEEDED = "agents need a Box with finite bounds, of floating-point numbers"


def is_scalable(space: spaces.Space[Any]) -> TypeGuard[spaces.Box]:
    """Whether actions in [-1, 1] can be scaled to a space; whole numbers would be cut off."""
    return (
        isinstance(space, spaces.Box)
        and space.is_bounded()
        and bool(np.issubdtype(space.dtype, np.floating))
    )


class OrderedActions(gymnasium.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """An environment with the dimensions of its actions in another order and with other signs.

    Args:
        env: the environment; its actions are a Box with one dimension.
        order: for each dimension of an action of ``env``, the number of the dimension of the policy's action that it
            is, counted from 1, and negative for the opposite sign.

    Raises:
        SettingsError: the order has another length than actions of ``env``, or these are not a scalable Box.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], order: Sequence[int]) -> None:
        RecordConstructorArgs.__init__(self, order=list(order))  # Minari stores it with the data.
        gymnasium.ActionWrapper.__init__(self, env)
        space = env.action_space
        if not is_scalable(space) or space.shape != (len(order),):
            raise SettingsError(
                f"environment.action_order: {list(order)} does not fit the action space {space}; give each of its "
                "dimensions a place"
            )
        self.places, self.signs = np.abs(order) - 1, np.sign(order).astype(space.dtype)
        bounds = np.stack([self.reverse_action(space.low), self.reverse_action(space.high)])
        self.action_space = spaces.Box(bounds.min(0), bounds.max(0), dtype=space.dtype.type)

    def action(self, action: NDArray[Any]) -> NDArray[Any]:
        """The action of ``env`` for an action of the policy, (action,)."""
        ordered: NDArray[Any] = self.signs * np.asarray(action)[self.places]
        return ordered

    def reverse_action(self, action: NDArray[Any]) -> NDArray[Any]:
        """The action of the policy for an action of ``env``, (action,)."""
        reversed_ = np.empty_like(action)
        reversed_[self.places] = self.signs * action
        return reversed_
