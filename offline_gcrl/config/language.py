"""The section ``language`` of a recipe: which sentences are true of an achieved goal, and how they are worded.

An attribute divides one dimension of the achieved goal into named values with margins between them. A phrasing is a
sentence with attributes in braces: ``go to the {row} {column} corner``. The values that a sentence speaks of are its
statement; it is true of an achieved goal that is within the interval of each.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from string import Formatter
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Name, Section, nearest, reject_repeats

Texts = tuple[Annotated[str, Field(min_length=1)], ...]


class AttributeValue(Section):
    """A named interval of one dimension of the achieved goal, and the words for it."""

    low: float | None = None
    """Lower bound, in the units of the goal; none if left out."""
    high: float | None = None
    """Upper bound; none if left out."""
    words: Annotated[Texts, Field(min_length=1)]
    """Words that training sentences use for this value."""
    unseen_words: Texts = ()
    """Synonyms that no training sentence uses, for evaluation."""

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        reject_repeats((*self.words, *self.unseen_words))
        if self.low is None and self.high is None:
            raise PydanticCustomError("interval", "needs 'low', 'high' or both")
        if self.bounds[0] >= self.bounds[1]:
            raise PydanticCustomError("interval", "'low' must be below 'high'")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound, infinite where there is none."""
        low = float("-inf") if self.low is None else self.low
        return low, float("inf") if self.high is None else self.high


class Attribute(Section):
    """A property of achieved goals with named values."""

    dimension: NonNegativeInt
    """The dimension of the achieved goal that it describes."""
    values: Annotated[dict[Name, AttributeValue], Field(min_length=1, max_length=250)]
    """Values by name. Their intervals must not touch, so that there is a margin between two values."""

    @model_validator(mode="after")
    def _has_margins(self) -> Self:
        ordered = sorted(self.values.items(), key=lambda item: item[1].bounds)
        for (name, value), (other, following) in pairwise(ordered):
            if following.bounds[0] <= value.bounds[1]:
                raise PydanticCustomError(
                    "margin",
                    "'{name}' and '{other}' overlap or touch; leave a margin between their intervals",
                    {"name": name, "other": other},
                )
        return self


class Language(Section):
    """Sentences about achieved goals. Without attributes, further phrasings of the task's instruction."""

    attributes: dict[Name, Attribute] = {}
    """Properties of achieved goals, by the name that phrasings use in braces."""
    phrasings: Annotated[Texts, Field(min_length=1)]
    """Phrasings of training sentences. Each set of attributes that a phrasing names is a kind of statement."""
    unseen_phrasings: Texts = ()
    """Phrasings for evaluation alone, of the same kinds of statements."""
    held_out: tuple[dict[Name, str], ...] = ()
    """Statements that no training sentence makes, as a value for each attribute of a kind of statement: unseen
    combinations of values that are seen in other statements."""

    @model_validator(mode="after")
    def _phrasings_name_attributes(self) -> Self:
        reject_repeats((*self.phrasings, *self.unseen_phrasings))
        for text in (*self.phrasings, *self.unseen_phrasings):
            for name in placeholders(text):
                if name not in self.attributes:
                    hint = nearest(name, self.attributes) if self.attributes else "there are none"
                    raise PydanticCustomError(
                        "phrasing",
                        "the phrasing '{text}' names no attribute '{name}'; {hint}",
                        {"text": text, "name": name, "hint": hint},
                    )
            if self.attributes and not placeholders(text):
                raise PydanticCustomError(
                    "phrasing",
                    "the phrasing '{text}' names no attribute in braces, so nothing says when it is true",
                    {"text": text},
                )
        for text in self.unseen_phrasings:
            if kind_of(text, self.attributes) not in self.kinds:
                raise PydanticCustomError(
                    "phrasing",
                    "the unseen phrasing '{text}' makes a kind of statement that no phrasing of 'phrasings' makes",
                    {"text": text},
                )
        return self

    @model_validator(mode="after")
    def _holds_out_known_statements(self) -> Self:
        for statement in self.held_out:
            for name, value in statement.items():
                known = self.attributes[name].values if name in self.attributes else {}
                if value not in known:
                    raise PydanticCustomError(
                        "held_out",
                        "'held_out' names no value '{value}' of an attribute '{name}'",
                        {"value": value, "name": name},
                    )
            if kind_of_names(statement, self.attributes) not in self.kinds or len(statement) < 2:
                raise PydanticCustomError(
                    "held_out",
                    "'held_out' must combine the attributes of a phrasing with several of them, not {names}",
                    {"names": ", ".join(statement) or "none"},
                )
        return self

    @property
    def kinds(self) -> tuple[tuple[str, ...], ...]:
        """Kinds of statements: the attributes that each speaks of, in the order of ``attributes``."""
        return tuple(dict.fromkeys(kind_of(text, self.attributes) for text in self.phrasings))


def placeholders(text: str) -> list[str]:
    """Names in braces in a phrasing.

    Raises:
        PydanticCustomError: the braces do not match, or have more than a name.
    """
    try:
        found = [part[1:] for part in Formatter().parse(text) if part[1] is not None]
        if any(form or conversion for _, form, conversion in found):
            raise ValueError("braces contain a name alone, without ':' and '!'")
        return [str(name) for name, _, _ in found]
    except ValueError as error:
        raise PydanticCustomError(
            "phrasing",
            "the phrasing '{text}' cannot be read: {reason}",
            {"text": text, "reason": str(error)},
        ) from None


def kind_of(text: str, attributes: Mapping[str, Attribute]) -> tuple[str, ...]:
    """The kind of statement that a phrasing makes."""
    return kind_of_names(placeholders(text), attributes)


def kind_of_names(names: Iterable[str], attributes: Mapping[str, Attribute]) -> tuple[str, ...]:
    """Names of attributes in the order of ``attributes``."""
    given = set(names)
    return tuple(name for name in attributes if name in given)
