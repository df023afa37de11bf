"""The section ``images`` of a recipe: how its states are rendered, and how the image of a goal is made."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section

CHANNELS = 3
"""Red, green and blue."""
BRIGHTEST = 255
"""Value of a pixel at full brightness."""
SMALLEST = 32
"""Images have more numbers than any vector, by which networks tell them apart."""


class Camera(Section):
    """A free camera; what is left out is that of the environment, or, for mazes, a camera above the centre."""

    distance: PositiveFloat | None = None
    """Distance from the point that it looks at, in metres."""
    azimuth: float | None = None
    """Rotation around the vertical axis, in degrees."""
    elevation: float | None = None
    """Angle above the horizontal plane, in degrees; it is negative for a camera that looks down."""
    lookat: Annotated[tuple[float, ...], Field(min_length=3, max_length=3)] | None = None
    """The point that it looks at: x, y and z in metres."""


class GoalImage(Section):
    """How a state is made in which a goal is achieved, to render the image of the goal."""

    qpos: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    """Indices of the simulator's positions that are set to the numbers of the goal."""
    site: str | None = None
    """A site that is moved to the goal: the simulator runs while the motion-capture body pulls the arm."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.qpos is None) == (self.site is None):
            raise PydanticCustomError("images", "set either 'qpos' or 'site'")
        return self


class Images(Section):
    """Images of states, which are rendered from the recorded positions of the simulator.

    Objects that mark the desired goal are hidden: in an observation they would reveal the goal.
    """

    height: Annotated[int, Field(ge=SMALLEST)] = 64
    """Height in pixels, at least 32."""
    width: Annotated[int, Field(ge=SMALLEST)] = 64
    """Width in pixels, at least 32."""
    camera: Camera = Camera()
    """The camera."""
    goal: GoalImage
    """How the image of a goal is made in evaluation."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.height, self.width, CHANNELS
