"""The section ``goal`` of a recipe: which parts of an observation are goals, and when a goal counts as reached."""

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
    """Some numbers of an observation: a key, columns of a key, or a constant."""

    key: str | None = None
    """A key of the observation; dots lead into nested keys. ``observation`` is the complete observation if it has no
    keys, and ``infos.<key>`` is an info of the environment. A key with nested keys means all of them, in sorted
    order."""
    columns: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    """Columns of the key, in this order; all if left out."""
    constant: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """Constant numbers, for a goal that is not part of the observation."""

    @model_validator(mode="after")
    def _a_key_or_a_constant(self) -> Self:
        if (self.key is None) == (self.constant is None):
            raise PydanticCustomError(
                "part", "set 'key' (and 'columns', if not all are needed) or 'constant'"
            )
        if self.constant is not None and self.columns is not None:
            raise PydanticCustomError("part", "'columns' belong to a 'key', not to a 'constant'")
        return self


def _as_parts(value: Any) -> Any:
    """A tuple of parts from one key, one part, or a list of keys and parts."""
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple({"key": part} if isinstance(part, str) else _with_tuples(part) for part in parts)


def _with_tuples(part: Any) -> Any:
    """A part with tuples for lists, because the result of a validator is read in strict Python mode, not as JSON."""
    if not isinstance(part, dict):
        return part
    return {key: tuple(value) if isinstance(value, list) else value for key, value in part.items()}


Selection = Annotated[tuple[Part, ...], BeforeValidator(_as_parts), Field(min_length=1)]
"""Parts to concatenate: ``desired_goal``, or ``{key: observation, columns: [0, 1]}``, or a list of such parts."""

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
    """``distance``: the largest Euclidean distance at which a goal counts as reached, in units of the goal.
    ``predicate``: the largest shortfall."""
    parts: tuple[PositiveInt, ...] | None = None
    """``distance``: sizes of consecutive parts of the goal; the distance of each must be within the tolerance."""
    tolerances: tuple[PositiveFloat, ...] | None = None
    """``per_dimension``: the largest absolute difference in each dimension of the goal."""
    predicate: Literal["above", "below"] | None = None
    """``predicate``: a goal is reached when the achieved goal is at least (``above``) or at most (``below``) the
    goal."""
    dimensions: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    """``predicate``: the dimensions of the goal that it compares."""

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
        """Whether one Euclidean distance decides success, as a dense reward needs."""
        return self.kind == "distance" and self.parts is None


class Goal(Section):
    """Which parts of the observation are the observation of agents and the goals, and the success test."""

    observation: Selection = (Part(key="observation"),)
    achieved: Selection = (Part(key="achieved_goal"),)
    desired: Selection | None = (Part(key="desired_goal"),)
    """The goal that the behaviour pursued; null for data without such goals."""
    success: Success

    @property
    def is_full_state(self) -> bool:
        """Whether the achieved goal is the observation itself, which is then stored once."""
        return self.achieved == self.observation


class Region(Section):
    """A closed box in goal space."""

    low: Annotated[tuple[float, ...], Field(min_length=1)]
    """Lower bound of each dimension of a goal."""
    high: Annotated[tuple[float, ...], Field(min_length=1)]
    """Upper bound of each dimension of a goal."""

    @model_validator(mode="after")
    def _low_to_high(self) -> Self:
        if len(self.low) != len(self.high):
            raise PydanticCustomError(
                "region", "'low' and 'high' need as many numbers as a goal has dimensions"
            )
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise PydanticCustomError("region", "'low' must not be above 'high'")
        return self


def has_original_goals(goal: Goal) -> bool:
    """Whether the data has original goals and a success test that applies to them."""
    return goal.desired is not None and goal.success.kind != "same_step"
