"""Section ``relabel`` of ``params.yaml``: how hindsight goals are drawn."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, field_validator

from offline_gcrl.config.reading import Section, Seed, reject_repeats

Strategy = Literal["final", "future", "geometric", "episode", "random", "current", "original"]
DrawnStrategy = Literal["final", "future", "geometric", "episode", "random"]
Discount = Annotated[float, Field(gt=0.0, lt=1.0)]
Mixture = Annotated[dict[Strategy, PositiveFloat], Field(min_length=1)]


class Relabel(Section):
    """How hindsight goals are drawn."""

    strategies: tuple[DrawnStrategy, ...] = ("final", "future", "geometric", "episode", "random")
    k: Annotated[int, Field(ge=1, le=64)] = 4
    """Goals drawn per transition and strategy (``final`` has one)."""
    discount: Discount = 0.99
    """Discount of the strategy ``geometric``: the offset of the goal is drawn from Geom(1 - discount)."""
    reward: Literal["sparse", "dense", "embedding"] = "sparse"
    """``sparse``: -1, and 0 when the goal is reached. ``dense``: minus the distance to the goal. ``embedding``: minus the
    distance between learned embeddings of the images of the next state and of the goal."""
    seed: Seed = 0

    @field_validator("strategies")
    @classmethod
    def _distinct(cls, names: tuple[Any, ...]) -> tuple[Any, ...]:
        reject_repeats(names)
        return names
