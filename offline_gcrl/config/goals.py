"""The goals of a recipe: which parts of an observation they are, and when one counts as reached."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section


class Part(Section):
    """Some numbers of what an environment shows: a key, columns of it, or a constant."""

    key: str | None = None
    """A key of the observation, with dots into nested ones; ``observation`` is the whole of one that has
    no keys, and ``infos.<key>`` stands for what the environment tells beside it. A key that holds keys
    means all of them, by sorted name."""
    columns: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    """Some columns of it, in this order; all when left out."""
    constant: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """Always the same numbers, for a goal that the observation does not hold."""

    @model_validator(mode="after")
    def _a_key_or_a_constant(self) -> Self:
        if (self.key is None) == (self.constant is None):
            raise PydanticCustomError(
                "part", "give 'key' (with 'columns', if not all) or 'constant'"
            )
        if self.constant is not None and self.columns is not None:
            raise PydanticCustomError("part", "'columns' belong to a 'key', not to a 'constant'")
        return self


def _as_parts(value: Any) -> Any:
    """One key, one part, or a list of both."""
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple({"key": part} if isinstance(part, str) else _with_tuples(part) for part in parts)


def _with_tuples(part: Any) -> Any:
    """Lists as tuples: what a validator returns is read in strict mode, as Python and not as JSON."""
    if not isinstance(part, dict):
        return part
    return {key: tuple(value) if isinstance(value, list) else value for key, value in part.items()}


Selection = Annotated[tuple[Part, ...], BeforeValidator(_as_parts), Field(min_length=1)]
"""Parts one after another: ``desired_goal``, or ``{key: observation, columns: [0, 1]}``, or a list."""

SUCCESS_KEYS: dict[str, tuple[str, ...]] = {
    "distance": ("tolerance", "parts"),
    "per_dimension": ("tolerances",),
    "predicate": ("predicate", "dimensions", "tolerance"),
    "same_step": (),
}


class Success(Section):
    """When a goal counts as reached."""

    kind: Literal["distance", "per_dimension", "predicate", "same_step"]
    tolerance: Annotated[float, Field(ge=0.0)] | None = None
    """``distance``: the largest Euclidean distance that counts, in units of the goal. ``predicate``: how
    much may be missing."""
    parts: tuple[PositiveInt, ...] | None = None
    """``distance``: sizes of the parts of the goal, each of which must lie within the tolerance."""
    tolerances: tuple[PositiveFloat, ...] | None = None
    """``per_dimension``: the largest absolute difference in each dimension of the goal."""
    predicate: Literal["above", "below"] | None = None
    """``predicate``: reached when the achieved goal is at least as high, or as low, as the goal."""
    dimensions: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    """``predicate``: the dimensions of the goal that it is about."""

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        own, optional = SUCCESS_KEYS[self.kind], {"parts"}
        for key in ("tolerance", "parts", "tolerances", "predicate", "dimensions"):
            given = getattr(self, key) is not None
            if given and key not in own:
                raise PydanticCustomError(
                    "success",
                    "'{key}' does not belong to kind '{kind}'",
                    {"key": key, "kind": self.kind},
                )
            if not given and key in own and key not in optional:
                raise PydanticCustomError(
                    "success", "kind '{kind}' needs '{key}'", {"key": key, "kind": self.kind}
                )
        return self

    @property
    def has_distance(self) -> bool:
        """Whether one Euclidean distance decides: what a dense reward needs."""
        return self.kind == "distance" and self.parts is None


class Goal(Section):
    """Which parts of the observation are the goals, and the success test."""

    observation: Selection = (Part(key="observation"),)
    achieved: Selection = (Part(key="achieved_goal"),)
    desired: Selection | None = (Part(key="desired_goal"),)
    """The goal that the behaviour pursued; null where the data holds none."""
    success: Success

    @property
    def is_full_state(self) -> bool:
        """Whether the achieved goal is the observation itself, and need not be stored twice."""
        return self.achieved == self.observation


class Region(Section):
    """A box in the space of goals, its bounds belonging to it."""

    low: Annotated[tuple[float, ...], Field(min_length=1)]
    """The least of each number of a goal."""
    high: Annotated[tuple[float, ...], Field(min_length=1)]
    """The most of each number of a goal."""

    @model_validator(mode="after")
    def _low_to_high(self) -> Self:
        if len(self.low) != len(self.high):
            raise PydanticCustomError("region", "'low' and 'high' have as many numbers as a goal")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise PydanticCustomError("region", "'low' must not lie above 'high'")
        return self


def has_original_goals(goal: Goal) -> bool:
    """Whether the data says which goals the behaviour pursued, and when they count as reached."""
    return goal.desired is not None and goal.success.kind != "same_step"
