"""Settings of agents that see: what is an image for them, and how networks encode images."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section


class Vision(Section):
    """How an agent sees, in a dataset with images."""

    observation: Literal["image", "state", "image+state"] = "image"
    """What networks read of a state: its image, the vector of its observation, or both."""
    goal: Literal["image", "vector", "black"] = "image"
    """What networks read of a goal: the image of a state in which it is achieved, the goal itself, or, for a
    control that cannot see its goal, a black image."""
    encoder: Literal["small", "impala_small"] = "small"
    """``small``: four convolutions with stride 2, for a CPU. ``impala_small``: that of OGBench, for a GPU."""
    features: PositiveInt | None = None
    """Numbers that an image is encoded as; if left out, 128 (``small``) or 512 (``impala_small``)."""
    fusion: Literal["early", "shared", "separate"] = "early"
    """How the images of a state and of its goal are encoded: ``early``, as the channels of one image (OGBench);
    ``shared``, by the same encoder, one after the other; ``separate``, by an encoder each."""
    random_crop: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Probability that the images of a training batch are shifted at random."""
    crop_padding: NonNegativeInt = 3
    """Largest shift in pixels; pixels at the edges are repeated."""

    @property
    def sees(self) -> bool:
        """Whether anything is an image."""
        return self.sees_states or self.sees_goals

    @property
    def sees_states(self) -> bool:
        """Whether networks read images of states."""
        return self.observation != "state"

    @property
    def sees_goals(self) -> bool:
        """Whether networks read images of goals."""
        return self.goal != "vector"


def check_vision(settings: Any) -> None:
    """Raise an error, within a validator, if settings of images do not fit the networks of an agent.

    Args:
        settings: an ``AgentSettings``.
    """
    vision: Vision | None = settings.images
    if vision is None or vision.fusion != "early" or not (vision.sees_states and vision.sees_goals):
        return
    for name, value in (("task_network", "film"), ("goal_encoder", "separate")):
        if getattr(settings, name) == value:
            raise PydanticCustomError(
                "images",
                "'{name}: {value}' needs the goal as an input of its own, and 'images.fusion: early' encodes it with the "
                "state; set 'images: {{fusion: separate}}'",
                {"name": name, "value": value},
            )
