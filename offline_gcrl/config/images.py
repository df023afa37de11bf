"""The section ``images`` of a recipe: recorded images, or how states and the images of goals are rendered."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section
from offline_gcrl.config.sources import Environment

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
    reset: bool = False
    """The state in which the environment observed its goal during ``reset``, as OGBench's arms do."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.qpos is not None) + (self.site is not None) + self.reset != 1:
            raise PydanticCustomError("images", "set either 'qpos' or 'site', or 'reset: true'")
        return self


class Images(Section):
    """Images of states, which were recorded, or are rendered from the recorded positions of the simulator.

    Objects that mark the desired goal are hidden in rendered images: in an observation they would reveal the goal.
    """

    height: Annotated[int, Field(ge=SMALLEST)] = 64
    """Height in pixels, at least 32."""
    width: Annotated[int, Field(ge=SMALLEST)] = 64
    """Width in pixels, at least 32."""
    recorded: str | None = None
    """Key of the images in the data, (height, width, 3) bytes for each state: that of an observation, or ``infos.<name>``;
    if left out, states are rendered."""
    camera: Camera = Camera()
    """The camera that states are rendered with."""
    environment: Environment | None = None
    """An environment with the same states that renders them itself, with its own camera, colours and shadows, such as a visual
    environment of OGBench. It needs ``set_state`` and ``render``."""
    state: tuple[str, ...] = ()
    """Infos that ``set_state`` of ``environment`` takes besides positions and velocities, such as ``button_states``."""
    goal: GoalImage | None = None
    """How the image of a goal is made in evaluation; required for rendered images."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.can_be_rendered and self.goal is None:
            raise PydanticCustomError(
                "images",
                "set 'goal', how the image of a goal is rendered, or 'recorded', the key of images in the data",
            )
        if not self.can_be_rendered and (self.goal or self.camera != Camera()):
            raise PydanticCustomError(
                "images",
                "'recorded' images are not rendered; leave 'camera' and 'goal' out, or leave 'recorded' out",
            )
        if self.environment is not None and self.camera != Camera():
            raise PydanticCustomError(
                "images", "'environment' renders with its own camera; leave 'camera' out"
            )
        if self.environment is None and (self.state or (self.goal and self.goal.reset)):
            raise PydanticCustomError(
                "images",
                "'state' and 'goal.reset' are for states that another environment renders; set 'environment' to it",
            )
        return self

    @property
    def can_be_rendered(self) -> bool:
        """Whether images can be rendered, in evaluation at least; otherwise the camera is unknown."""
        return self.recorded is None or self.environment is not None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.height, self.width, CHANNELS
