"""The sections ``sources`` and ``environment`` of a recipe."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import MINARI_ID, Section, Seed


class Environment(Section):
    """A Gymnasium environment."""

    id: str
    """Id for ``gymnasium.make``; ``module:id`` imports the module first, which registers the id."""
    kwargs: dict[str, Any] = {}
    action_order: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Order and signs of the dimensions of actions, so that similar environments need different actions: for each
    dimension of the environment's own action, the number of the policy's dimension, counted from 1 and negative for the
    opposite sign. ``[-1, 2]`` mirrors the first of two. If left out, actions are those of the environment."""

    @field_validator("action_order")
    @classmethod
    def _names_every_dimension(cls, order: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if order is not None and sorted(map(abs, order)) != list(range(1, len(order) + 1)):
            raise PydanticCustomError(
                "action_order",
                "{order} must have each number from 1 to {size} once, with or without a minus",
                {"order": str(list(order)), "size": len(order)},
            )
        return order


class Collect(Section):
    """How the pipeline generates a source."""

    policy: str
    """Name of a policy in ``offline_gcrl.collect.policies``."""
    noise: Annotated[float, Field(ge=0.0)] = 0.0
    """Standard deviation of the Gaussian noise that is added to each action, in units of the action."""
    settings: dict[str, Any] = {}
    """Settings of the policy."""
    seed: Seed = 0
    cut_at_success: bool = False
    """Cut the collected steps into episodes that end where a goal was reached, as in published datasets."""
    attempts: PositiveInt = 1
    """Largest number of attempts at an episode, from the same start with another seed of the policy, until one ends
    in success; otherwise the last attempt is stored. More attempts bias successful episodes to easy goals."""


class Source(Section):
    """One Minari dataset of a recipe; without ``collect``, a published dataset."""

    dataset: Annotated[
        str,
        Field(
            pattern=MINARI_ID,
            description="namespace/name-vN, a Minari id",
        ),
    ]
    kind: Literal["exploration", "demonstration"]
    episodes: PositiveInt | None = None
    """Number of episodes to collect, or to use of a published dataset (if left out, all)."""
    share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Number of episodes as a share of the recipe's ``episodes``."""
    collect: Collect | None = None
    address: Annotated[
        str,
        Field(pattern=r"^s3://[^/]+/.*[^/]/?$", description="s3://bucket/folder"),
    ] | None = None  # fmt: skip
    """Folder of the Minari dataset in an object store, from which it is copied, instead of the local Minari root."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.collect is not None and self.address is not None:
            raise PydanticCustomError(
                "address",
                "a source is either generated with 'collect' or copied from an 'address'; leave one of them out",
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if self.episodes is not None and self.share is not None:
            raise PydanticCustomError(
                "count", "a source has either 'episodes' or a 'share', not both"
            )
        if self.collect is not None and self.episodes is None and self.share is None:
            raise PydanticCustomError(
                "count",
                "a source with 'collect' needs 'episodes' or a 'share'",
            )
        return self
