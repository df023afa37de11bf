"""Which action spaces policies can act in: boxes of real numbers with finite bounds, to which actions are scaled."""

from typing import Any, TypeGuard

import numpy as np
from gymnasium import spaces

NEEDED = "agents need a Box with finite bounds, of floating-point numbers"


def is_scalable(space: spaces.Space[Any]) -> TypeGuard[spaces.Box]:
    """Whether actions in [-1, 1] can be scaled to a space; whole numbers would be cut off."""
    return (
        isinstance(space, spaces.Box)
        and space.is_bounded()
        and bool(np.issubdtype(space.dtype, np.floating))
    )
