"""What a policy is given in an episode: vectors, or images that are rendered from the environment's state."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Environment, Images, Selection
from offline_gcrl.environments.frames import Renderer, shared_renderer
from offline_gcrl.environments.selection import select
from offline_gcrl.policies.policy import Policy
from offline_gcrl.policies.seeing import IMAGE, STATE
from offline_gcrl.support.errors import PolicyError


class Given:
    """What a policy is given in one episode.

    Args:
        environment: what the episode runs in; it is only read.
        policy: what acts.
        selected: selection of the observation, for policies that read states.
        settings: of the environment.
        images: how states are rendered; None in a dataset without images.

    Raises:
        PolicyError: the policy sees, and there are no images.
        RenderingError: this machine cannot render.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        policy: Policy,
        selected: Selection,
        settings: Environment,
        images: Images | None,
    ) -> None:
        self.environment, self.selected = environment, selected
        self.inputs, self.sizes = policy.inputs, policy.dimensions
        self.renderer: Renderer | None = None
        if policy.dimensions.image is None:
            return
        if images is None:
            raise PolicyError(
                "the policy sees, and the recipe of this dataset has no 'images'; add the section to the recipe"
            )
        self.renderer = shared_renderer(settings.model_dump_json(), images.model_dump_json())

    def observation(self, tree: dict[str, Any]) -> Any:
        """The current observation: a vector, an image, or both."""
        size = self.sizes.observation
        if self.renderer is None or not self.inputs.sees_states:
            return padded(select(tree, self.selected), size)
        image = self.renderer.current(self.environment)
        of_state = size - image.size
        if of_state == 0:
            return image
        return {IMAGE: image, STATE: padded(select(tree, self.selected), of_state)}

    def goal(self, goal: NDArray[Any]) -> NDArray[Any]:
        """A goal, (goal,), or the image of a state in which it is achieved."""
        if self.renderer is None or not self.inputs.sees_goals:
            return padded(goal, self.sizes.goal)
        return self.renderer.goal(self.environment, goal)


def padded(values: NDArray[Any], size: int) -> NDArray[Any]:
    """A vector with zeros up to a size, as in a suite with padding."""
    missing = size - len(values)
    return np.pad(values, (0, missing)) if missing > 0 else values
