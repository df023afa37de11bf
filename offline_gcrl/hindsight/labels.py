"""Rewards of transitions for hindsight goals.

A reward compares the goal with the next achieved goal. For success tests of the kind ``same_step``, it compares rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Relabel
from offline_gcrl.goals.success import column_reaches, column_squared_distance
from offline_gcrl.hindsight.captions import Captioner, Values
from offline_gcrl.hindsight.stored import Columns, StoredGoals


class Labeller:
    """Computes rewards of a chunk of consecutive transitions for goals given by their rows.

    The achieved goals of the chunk's episodes are kept in memory. Other goals are looked up.

    Args:
        transitions: a chunk from ``iterate_transitions``.
        achieved: the achieved goals of all steps, or the embeddings of their images.
        settings: the kind of reward.
        goal: the success test.
    """

    def __init__(
        self, transitions: pl.DataFrame, achieved: StoredGoals, settings: Relabel, goal: Goal
    ) -> None:
        self.row = transitions["row"].to_numpy()
        self.first = int(transitions["first_row"][0])
        self.stop = int(transitions["first_row"][-1]) + int(transitions["length"][-1]) + 1
        self.dense, self.success = settings.reward != "sparse", goal.success
        self.achieved = achieved
        self.own = achieved.between(self.first, self.stop)
        self.following = self._gathered(self.own, self.row + 1)
        self.values: tuple[NDArray[np.uint8], ...] | None = None
        """Values of attributes of states and next states, which are the same for all goals."""

    def within_episode(self, rows: pl.Series) -> NDArray[Any]:
        """Rewards for goals within the chunk's episodes, (transitions,)."""
        return self._rewards(rows, self._gathered(self.own, rows.to_numpy()))

    def at_rows(self, chosen: Sequence[pl.Series]) -> list[NDArray[Any]]:
        """Rewards for goals at any rows, one array (transitions,) per series; all goals are looked up together."""
        found = self.achieved.at(pl.concat(chosen).to_numpy())
        parts = [np.split(column, len(chosen)) for column in found]
        return [self._rewards(*pair) for pair in zip(chosen, zip(*parts, strict=True), strict=True)]

    def original(self, desired: StoredGoals) -> NDArray[Any]:
        """Rewards for the original goals, which the behaviour pursued, (transitions,)."""
        return self._rewards(None, self.desired(desired))

    def captioned(
        self, captioner: Captioner, rows: pl.Series | None, goals: Columns, key: tuple[str, int]
    ) -> list[pl.Series]:
        """Columns of sentences that are true of goals, and of their rewards; see ``Captioner.columns``.

        Args:
            captioner: draws the sentences.
            rows: rows of goals that are looked up; None for goals that are given.
            goals: goals, as columns, if no rows are given.
            key: name of the strategy and number of the draw.
        """
        if rows is not None:
            inside = bool(((rows >= self.first) & (rows < self.stop)).all())
            goals = (
                self._gathered(self.own, rows.to_numpy())
                if inside
                else self.achieved.at(rows.to_numpy())
            )
        value_of = captioner.captions.values
        if self.values is None:
            states = self._gathered(self.own, self.row)
            self.values = tuple(value_of(np.stack(part, -1)) for part in (states, self.following))
        return captioner.columns(key, self.row, Values(value_of(np.stack(goals, -1)), *self.values))

    def desired(self, desired: StoredGoals) -> Columns:
        """The original goals of the transitions, as columns (transitions,)."""
        return self._gathered(desired.between(self.first, self.stop), self.row)

    def _gathered(self, columns: Columns, rows: NDArray[Any]) -> Columns:
        places = np.subtract(rows, self.first, dtype=np.int64)
        return [column.take(places) for column in columns]

    def _rewards(self, rows: pl.Series | None, goals: Sequence[NDArray[Any]]) -> NDArray[Any]:
        if self.dense:
            distance: NDArray[np.float32] = np.sqrt(column_squared_distance(self.following, goals))
            return -distance
        if self.success.kind == "same_step":
            assert rows is not None, "original goals have no rows"
            reached = rows.to_numpy() == self.row
        else:
            reached = column_reaches(self.following, goals, self.success)
        rewards: NDArray[np.int8] = reached.view(np.int8) - np.int8(1)
        return rewards
