"""Goals in words: the sentences of a dataset, what each says, and which goals it is true of.

A sentence makes a statement: a value for each of some attributes. It is true of an achieved goal that is within the
interval of each of these values. No similarity of texts decides about truth.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Dataset, Language
from offline_gcrl.config.language import kind_of
from offline_gcrl.support.errors import SettingsError

NONE = 65535
"""Number of no instruction, in columns of UInt16."""
MAX_INSTRUCTIONS = 20_000
InstructionSet = Literal["seen", "phrasing", "synonym", "combination"]
SETS: tuple[InstructionSet, ...] = ("seen", "phrasing", "synonym", "combination")
"""``seen``: sentences that training uses. ``phrasing``: unseen phrasings with seen words. ``synonym``: seen phrasings
with at least one unseen word. ``combination``: seen phrasings and words about unseen combinations of values."""
Statement = tuple[tuple[str, str], ...]
"""Pairs of an attribute and its value."""


@dataclass(frozen=True)
class Instruction:
    """A sentence, and what it says."""

    text: str
    task: str
    statement: Statement
    """Empty for a sentence that names the task alone."""
    set: InstructionSet


@dataclass(frozen=True)
class Captions:
    """The rules of a recipe's ``language`` as arrays: values of achieved goals, and truth of statements.

    Values of an attribute are numbered from 1, in the order of the recipe; 0 is a goal in a margin.
    """

    language: Language

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the attributes."""
        return tuple(self.language.attributes)

    def values(self, goals: NDArray[Any]) -> NDArray[np.uint8]:
        """The value of each attribute, (..., attributes), of goals (..., goal)."""
        goals = np.asarray(goals, dtype=np.float32)  # So that a bound means the same everywhere.
        found = np.zeros((*goals.shape[:-1], len(self.names)), np.uint8)
        for place, attribute in enumerate(self.language.attributes.values()):
            column = goals[..., attribute.dimension]
            for number, value in enumerate(attribute.values.values(), start=1):
                low, high = map(np.float32, value.bounds)
                found[(column >= low) & (column <= high), place] = number
        return found

    def needed(self, statement: Statement) -> NDArray[np.uint8]:
        """The value of each attribute that a statement is true of, (attributes,); 0 where it does not matter."""
        wanted = dict(statement)
        return np.array(
            [
                1 + list(attribute.values).index(wanted[name]) if name in wanted else 0
                for name, attribute in self.language.attributes.items()
            ],
            dtype=np.uint8,
        )

    def true_of(self, goals: NDArray[Any], statement: Statement) -> NDArray[np.bool_]:
        """Whether a statement is true of achieved goals, (..., goal): (...)."""
        return np.asarray(is_true(self.values(goals), self.needed(statement)))

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """All statements of all kinds, in order."""
        attributes = self.language.attributes
        return tuple(
            tuple(zip(kind, values, strict=True))
            for kind in self.language.kinds
            for values in product(*(attributes[name].values for name in kind))
        )

    @cached_property
    def held_out(self) -> frozenset[Statement]:
        """Statements that no training sentence makes."""
        return frozenset(
            tuple((name, held[name]) for name in self.names if name in held)
            for held in self.language.held_out
        )

    def sentences(self, task: str) -> Iterator[Instruction]:
        """All sentences, those that training uses first and together for each statement."""
        language = self.language
        for statement in self.statements:
            is_held_out = statement in self.held_out
            for text in _worded(language.phrasings, statement, language, "words"):
                yield Instruction(text, task, statement, "combination" if is_held_out else "seen")
        for statement in self.statements:
            if statement not in self.held_out:
                for text in _worded(language.unseen_phrasings, statement, language, "words"):
                    yield Instruction(text, task, statement, "phrasing")
                for text in _worded(language.phrasings, statement, language, "unseen_words"):
                    yield Instruction(text, task, statement, "synonym")


def is_true(values: Any, needed: Any) -> Any:
    """Whether statements are true, from values of attributes and the values needed, (..., attributes) each: (...)."""
    return ((needed == 0) | (values == needed)).all(-1)


def captions_of(dataset: Dataset) -> Captions | None:
    """The captions of a dataset of one task whose recipe has attributes; None for any other."""
    if len(dataset.recipes) > 1:
        return None
    language = dataset.recipes[0].language
    return Captions(language) if language and language.attributes else None


@dataclass(frozen=True)
class Sentences:
    """All sentences of a dataset; their numbers are their places."""

    instructions: tuple[Instruction, ...]
    captions: Captions | None
    """The rules that say which sentences are true; None for a suite, whose sentences name its tasks."""

    @classmethod
    def of(cls, dataset: Dataset) -> "Sentences | None":
        """The sentences of a dataset; None for a single task without attributes.

        A suite has sentences that name its tasks: the instruction of each, and the phrasings of its ``language`` if
        that has no attributes.

        Raises:
            SettingsError: one text makes two statements, or there are too many texts.
        """
        captions = captions_of(dataset)
        if captions:
            return cls(_distinct(captions.sentences(dataset.tasks[0])), captions)
        if len(dataset.recipes) == 1:
            return None
        found = []
        for recipe in dataset.recipes:
            language = recipe.language
            if language and language.attributes:
                language = None
            seen = (recipe.instruction, *(language.phrasings if language else ()))
            found += [Instruction(text, recipe.task, (), "seen") for text in seen]
            unseen = language.unseen_phrasings if language else ()
            found += [Instruction(text, recipe.task, (), "phrasing") for text in unseen]
        return cls(_distinct(found), None)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Sentences":
        """From what ``as_json`` returned."""
        language = content["language"]
        instructions = tuple(
            Instruction(
                item["text"], item["task"], tuple(map(tuple, item["statement"])), item["set"]
            )
            for item in content["instructions"]
        )
        if language is None:
            return cls(instructions, None)
        return cls(instructions, Captions(Language.model_validate_json(json.dumps(language))))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        language = self.captions.language.model_dump(mode="json") if self.captions else None
        return {
            "language": language,
            "instructions": [
                {
                    "text": item.text,
                    "task": item.task,
                    "set": item.set,
                    "statement": [list(pair) for pair in item.statement],
                }
                for item in self.instructions
            ],
        }

    @cached_property
    def needed(self) -> NDArray[np.uint8]:
        """What the statement of each sentence needs, (instructions, attributes); see ``Captions.needed``."""
        assert self.captions is not None
        return np.stack([self.captions.needed(item.statement) for item in self.instructions])

    def numbers(self, kind: InstructionSet, task: str | None = None) -> list[int]:
        """Numbers of the sentences of a set, and of one task if it is given."""
        return [
            number
            for number, item in enumerate(self.instructions)
            if item.set == kind and task in (None, item.task)
        ]


def check_sentences(dataset: Dataset, goal: int | None, where: str) -> None:
    """Check that the sentences of a dataset have one meaning each and speak of dimensions that its goals have.

    Args:
        dataset: the dataset.
        goal: size of its goals; None if it is not known.
        where: file, for errors.

    Raises:
        SettingsError: naming the file, the key and the remedy.
    """
    try:
        Sentences.of(dataset)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
    captions = captions_of(dataset)
    for name, attribute in captions.language.attributes.items() if captions and goal else ():
        if attribute.dimension >= (goal or 0):
            raise SettingsError(
                f"{where}: language.attributes.{name}.dimension: there is no dimension {attribute.dimension}; goals have "
                f"{goal} dimensions, counted from 0"
            )


def as_text(statement: Statement) -> str:
    """A statement as text: ``row=upper, column=left``."""
    return ", ".join(f"{name}={value}" for name, value in statement)


def _distinct(instructions: Iterable[Instruction]) -> tuple[Instruction, ...]:
    """The first instruction with each text of a task.

    Raises:
        SettingsError: one text makes two statements, or there are too many texts.
    """
    found: dict[tuple[str, str], Instruction] = {}
    for item in instructions:
        first = found.setdefault((item.task, item.text), item)
        if first.statement != item.statement:
            raise SettingsError(
                f"language: the sentence '{item.text}' says both {as_text(first.statement)} and "
                f"{as_text(item.statement)}; use other words for one of them"
            )
        if len(found) > MAX_INSTRUCTIONS:
            raise SettingsError(
                f"language: there are more than {MAX_INSTRUCTIONS:,} sentences; leave out words or phrasings"
            )
    return tuple(found.values())


def _worded(
    phrasings: Sequence[str],
    statement: Statement,
    language: Language,
    words: Literal["words", "unseen_words"],
) -> Iterator[str]:
    """The phrasings of a statement with all choices of words; for ``unseen_words``, those with at least one such word."""
    kind = tuple(name for name, _ in statement)
    values = [language.attributes[name].values[value] for name, value in statement]
    for phrasing in phrasings:
        if kind_of(phrasing, language.attributes) != kind:
            continue
        seen = [value.words for value in values]
        choices: Any = product(*seen)
        if words == "unseen_words":
            every = product(*((*value.words, *value.unseen_words) for value in values))
            unseen = {word for value in values for word in value.unseen_words}
            choices = (chosen for chosen in every if unseen & set(chosen))
        for chosen in choices:
            yield phrasing.format(**dict(zip(kind, chosen, strict=True)))
