"""Rewards of transitions for hindsight goals: each is about the next achieved goal, or the row for ``same_step``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Relabel
from offline_gcrl.goals.success import column_reaches, column_squared_distance
from offline_gcrl.hindsight.stored import Columns, StoredGoals


class Labeller:
    """Labels consecutive transitions: with goals of their own episodes, which it holds, and with any others.

    Args:
        transitions: as ``iterate_transitions`` yields them.
        achieved: the goals achieved in all steps.
        settings: the kind of reward.
        goal: the success test.
    """

    def __init__(
        self, transitions: pl.DataFrame, achieved: StoredGoals, settings: Relabel, goal: Goal
    ) -> None:
        self.row = transitions["row"].to_numpy()
        self.first = int(transitions["first_row"][0])
        self.stop = int(transitions["first_row"][-1]) + int(transitions["length"][-1]) + 1
        self.dense, self.success = settings.reward == "dense", goal.success
        self.achieved = achieved
        self.own = achieved.between(self.first, self.stop)
        self.following = self._gathered(self.own, self.row + 1)

    def within_episode(self, rows: pl.Series) -> NDArray[Any]:
        """Rewards for goals of the same episodes, given by their rows."""
        return self._rewards(rows, self._gathered(self.own, rows.to_numpy()))

    def at_rows(self, chosen: Sequence[pl.Series]) -> list[NDArray[Any]]:
        """The same for several goals of any rows, all looked up together: a column of rewards for each."""
        found = self.achieved.at(pl.concat(chosen).to_numpy())
        parts = [np.split(column, len(chosen)) for column in found]
        return [self._rewards(*pair) for pair in zip(chosen, zip(*parts, strict=True), strict=True)]

    def original(self, desired: StoredGoals) -> NDArray[Any]:
        """Rewards for the goals that the behaviour original."""
        own = desired.between(self.first, self.stop)
        return self._rewards(None, self._gathered(own, self.row))

    def _gathered(self, columns: Columns, rows: NDArray[Any]) -> Columns:
        places = np.subtract(rows, self.first, dtype=np.int64)
        return [column.take(places) for column in columns]

    def _rewards(self, rows: pl.Series | None, goals: Sequence[NDArray[Any]]) -> NDArray[Any]:
        if self.dense:
            distance: NDArray[np.float32] = np.sqrt(column_squared_distance(self.following, goals))
            return -distance
        if self.success.kind == "same_step":
            assert rows is not None, "what was original is a place, and no row"
            reached = rows.to_numpy() == self.row
        else:
            reached = column_reaches(self.following, goals, self.success)
        rewards: NDArray[np.int8] = reached.view(np.int8) - np.int8(1)
        return rewards
