"""Hindsight instructions: a sentence that is true of a goal and not of the state.

For a transition and a goal, one of the statements that are true of the goal and not yet true of the state is drawn, and
then one of its training sentences. The draws are keyed like those of goals. The label says whether the sentence is true
of the next achieved goal: many goals share a sentence, and the row of the goal does not matter.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.goals.instructions import NONE, Captions, Sentences, is_true
from offline_gcrl.hindsight.draws import random_words, stream_key
from offline_gcrl.hindsight.strategies import STRATEGY_NUMBERS

PURPOSE = 1
"""Last word of the keys of draws, which keys of goals do not have."""
NUMBERS = STRATEGY_NUMBERS | {"original": 5}
_HALF = np.uint64(32)


def instruction_column(strategy: str, draw: int = 0) -> str:
    """The name of a column of numbers of sentences (UInt16, ``NONE`` where no sentence fits)."""
    return f"{strategy}_instruction_{draw}"


def instruction_reward_column(strategy: str, draw: int = 0) -> str:
    """The name of a column of rewards for a sentence."""
    return f"{strategy}_instruction_reward_{draw}"


@dataclass(frozen=True)
class Kind:
    """A kind of statement: its attributes, and where the sentences of each combination of their values are."""

    attributes: tuple[int, ...]
    first: NDArray[np.int64]
    """Number of the first training sentence by values, with an axis per attribute; -1 where there is none."""
    count: NDArray[np.int64]
    """How many training sentences there are, which have consecutive numbers."""


@dataclass(frozen=True)
class Captioner:
    """Draws sentences that are true of goals."""

    sentences: Sentences
    seed: int

    @property
    def captions(self) -> Captions:
        """The rules."""
        assert self.sentences.captions is not None
        return self.sentences.captions

    @cached_property
    def kinds(self) -> list[Kind]:
        """The kinds of statements of the training sentences."""
        names, attributes = self.captions.names, self.captions.language.attributes
        numbers: dict[Any, list[int]] = {}
        for number in self.sentences.numbers("seen"):
            numbers.setdefault(self.sentences.instructions[number].statement, []).append(number)
        kinds = []
        for kind in self.captions.language.kinds:
            shape = [len(attributes[name].values) + 1 for name in kind]
            first, count = np.full(shape, -1), np.zeros(shape, dtype=np.int64)
            for statement, own in numbers.items():
                if tuple(name for name, _ in statement) == kind:
                    values = self.captions.needed(statement)
                    place = tuple(int(values[names.index(name)]) for name in kind)
                    first[place], count[place] = own[0], len(own)
            kinds.append(Kind(tuple(map(names.index, kind)), first, count))
        return kinds

    def draw(
        self, goals: NDArray[Any], states: NDArray[Any], words: NDArray[np.uint64]
    ) -> NDArray[np.uint16]:
        """A sentence for each goal, (n,): true of the goal and not of the state; ``NONE`` where there is none.

        Args:
            goals: values of attributes of the goals, (n, attributes).
            states: those of the states.
            words: random words, (n,).
        """
        first, count, usable = [], [], []
        for kind in self.kinds:
            own = tuple(goals[:, place] for place in kind.attributes)
            chosen = list(kind.attributes)
            first.append(kind.first[own])
            count.append(kind.count[own])
            changed = (goals[:, chosen] != states[:, chosen]).any(1)
            usable.append((first[-1] >= 0) & changed)
        possible = np.stack(usable)
        total = possible.sum(0).astype(np.uint64)
        wanted = ((words >> _HALF) * total >> _HALF).astype(np.int64)
        kind_of = (possible.cumsum(0) == wanted + 1).argmax(0)
        rows = np.arange(len(words))
        sentences = np.stack(count)[kind_of, rows].astype(np.uint64)
        offset = ((words & np.uint64(2**32 - 1)) * sentences >> _HALF).astype(np.int64)
        found = np.stack(first)[kind_of, rows] + offset
        return np.where(total > 0, found, NONE).astype(np.uint16)

    def columns(
        self, name: tuple[str, int], rows: NDArray[Any], values: "Values"
    ) -> list[pl.Series]:
        """The columns of sentences and of rewards for one draw of goals.

        Args:
            name: name of the strategy and number of the draw.
            rows: rows of the transitions, (n,).
            values: values of attributes of the goals, the states and the next states.
        """
        strategy, draw = name
        key = stream_key(self.seed, NUMBERS[strategy], draw, PURPOSE)
        words = random_words(key, rows.astype(np.uint64))
        chosen = self.draw(values.goals, values.states, words)
        known = np.minimum(chosen, len(self.sentences.instructions) - 1)
        reached = is_true(values.next_states, self.sentences.needed[known]) & (chosen != NONE)
        return [
            pl.Series(instruction_column(*name), chosen),
            pl.Series(instruction_reward_column(*name), reached.view(np.int8) - np.int8(1)),
        ]


@dataclass(frozen=True)
class Values:
    """Values of attributes, each (n, attributes)."""

    goals: NDArray[np.uint8]
    states: NDArray[np.uint8]
    next_states: NDArray[np.uint8]
