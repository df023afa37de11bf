"""Images that a policy is given, as the vectors that its networks read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Vision
from offline_gcrl.config.images import BRIGHTEST
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.inputs import checked_input
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.support.errors import PolicyError

IMAGE, STATE = "image", "state"
"""Keys of an observation that consists of an image and a state."""


@dataclass
class LastGoal:
    """The goal vector that was read last: an episode usually has one goal, which is then read at its first step only."""

    read: tuple[tuple[str, bytes], NDArray[np.float32]] | None = None
    """Type and numbers of the given goal, and the vector that networks read, (goal,)."""


@dataclass(frozen=True)
class Inputs:
    """Reads what a policy is given."""

    scaling: Scaling
    dimensions: Dimensions
    vision: Vision
    last: LastGoal = field(default_factory=LastGoal, compare=False, repr=False)

    @property
    def sees_states(self) -> bool:
        """Whether the policy reads images of states."""
        return self.dimensions.image is not None and self.vision.sees_states

    @property
    def sees_goals(self) -> bool:
        """Whether the policy reads images of goals."""
        return self.dimensions.image is not None and self.vision.sees_goals

    @property
    def state_size(self) -> int:
        """Numbers of the state in an observation: those after the pixels for a policy that reads images of states."""
        image = self.dimensions.image
        pixels = 0 if image is None or not self.sees_states else math.prod(image)
        return self.dimensions.observation - pixels

    def observation(self, given: Any) -> NDArray[np.float32]:
        """An observation, or a batch, as networks read it: pixels from 0 to 1, then the normalised state.

        Args:
            given: an image of bytes, (height, width, channels) or (batch, height, width, channels); for ``image+state``, a
                mapping with ``image`` and ``state``; for ``state``, a vector.

        Returns:
            (observation,) or (batch, observation).

        Raises:
            PolicyError: a key is missing, or a shape or type does not fit.
        """
        shape, of_state = self.dimensions.image, self.state_size
        if shape is None or not self.sees_states:
            return self.scaling.observations(checked_input(given, "observation", of_state))
        if of_state == 0:
            return pixels(_image_of(given), "observation", shape)
        if not isinstance(given, Mapping) or not {IMAGE, STATE} <= given.keys():
            raise PolicyError(
                f"the policy reads an image and a state; pass {{'{IMAGE}': ..., '{STATE}': ...}} as the observation"
            )
        image = pixels(given[IMAGE], "observation", shape)
        state = self.scaling.observations(checked_input(given[STATE], "observation", of_state))
        return np.concatenate([image, state], -1)

    def goal(self, given: Any) -> NDArray[np.float32]:
        """A goal, or a batch, as networks read it: the pixels of its image from 0 to 1, or a normalised vector.

        Raises:
            PolicyError: the shape or type does not fit.
        """
        shape = self.dimensions.image
        if shape is None or not self.sees_goals:
            return self._goal_vector(given)
        read = pixels(_image_of(given), "goal", shape)
        return np.zeros_like(read) if self.vision.goal == "black" else read

    def _goal_vector(self, given: Any) -> NDArray[np.float32]:
        """A normalised goal, or a batch."""
        key = None
        if isinstance(given, np.ndarray) and given.ndim == 1:
            key, last = (given.dtype.str, given.tobytes()), self.last.read
            if last is not None and last[0] == key:
                return last[1]
        vector = self.scaling.goals(checked_input(given, "goal", self.dimensions.goal))
        if key is not None:
            self.last.read = key, vector
        return vector


def _image_of(given: Any) -> Any:
    """The image in a mapping, or what is given."""
    return given[IMAGE] if isinstance(given, Mapping) and IMAGE in given else given


def pixels(given: Any, name: str, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Images of bytes as vectors of numbers from 0 to 1, (pixels,) or (batch, pixels).

    Args:
        given: (height, width, channels) or (batch, height, width, channels).
        name: ``observation`` or ``goal``, for errors.
        shape: height, width and channels that the policy was trained with.

    Raises:
        PolicyError: the shape is another one, or the numbers are not whole numbers from 0 to 255.
    """
    if isinstance(given, Mapping):
        raise PolicyError(
            f"the {name} is a dict with the keys {', '.join(map(str, given))}; pass the image of the {name}"
        )
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"the {name} is not an image: {error}") from None
    if array.shape[-3:] != tuple(shape) or array.ndim > len(shape) + 1:
        raise PolicyError(
            f"the policy takes the {name} as an image of shape {tuple(shape)}, or a batch of them, not {array.shape}"
        )
    if array.dtype.kind not in "iu" or (
        array.dtype != np.uint8 and (array.min() < 0 or array.max() > BRIGHTEST)
    ):
        raise PolicyError(
            f"the image of the {name} has values of type {array.dtype}; pass whole numbers from 0 to {BRIGHTEST} (uint8)"
        )
    flat = array.reshape(*array.shape[:-3], -1)
    return flat.astype(np.float32) / np.float32(BRIGHTEST)
