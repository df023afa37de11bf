"""The sources of a recipe: environments, and the Minari datasets that episodes come from."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section


class Environment(Section):
    """A Gymnasium environment."""

    id: str
    """As ``gymnasium.make`` takes it; ``module:id`` imports the module that registers it first."""
    kwargs: dict[str, Any] = {}


class Collect(Section):
    """How a source is made here."""

    policy: str
    """Name of a policy in ``offline_gcrl.collect.policies``."""
    noise: Annotated[float, Field(ge=0.0)] = 0.0
    """Standard deviation of the Gaussian noise added to each action, in units of the action."""
    settings: dict[str, Any] = {}
    """Settings of the policy itself."""
    seed: NonNegativeInt = 0
    cut_at_success: bool = False
    """Cut what was collected into episodes that end where a goal was reached, as published data does."""
    attempts: PositiveInt = 1
    """How often an episode may be run, from the same start with another seed of the policy, until its last
    step is a success; the last run is kept in any case. Hard goals then fail more often than easy ones."""


class Source(Section):
    """One Minari dataset that goes into a recipe; without ``collect`` it is a published one."""

    dataset: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_-]{2,}(/[A-Za-z0-9_-]+)*-v\d+$",
            description="namespace/name-vN, a Minari id",
        ),
    ]
    kind: Literal["exploration", "demonstration"]
    episodes: PositiveInt | None = None
    """How many to collect, or to take of a published dataset (all of them when left out)."""
    share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """The same as a share of the recipe's ``episodes``."""
    collect: Collect | None = None

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if self.episodes is not None and self.share is not None:
            raise PydanticCustomError("count", "a source has 'episodes' or a 'share', not both")
        if self.collect is not None and self.episodes is None and self.share is None:
            raise PydanticCustomError(
                "count",
                "a source with 'collect' needs 'episodes' or a 'share', how many to collect",
            )
        return self
