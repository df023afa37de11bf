"""Batches as a pure function of (seed, step): what makes resume exact and runs comparable.

The dataset lies on the device as contiguous tensors; a batch is a few gathers. Draws are hashes
(``offline_gcrl.hindsight.draws``), so any number of batches can be made at once, on any device, with one result.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Mixture, Sampling, Success
from offline_gcrl.config.outputs import TABLE
from offline_gcrl.episodes.dataset import EpisodeIndex, Episodes
from offline_gcrl.goals.held_out import held_out_goals, without_held_out
from offline_gcrl.goals.success import reaches
from offline_gcrl.hindsight.draws import stream_key, uniform_tensor
from offline_gcrl.hindsight.relabel import goal_column, reward_column
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.support.errors import DataError

PURPOSES = ("transition", "value_goal", "actor_goal", "mixing", "initial_state", "task")
UNIT_BITS = 2**24


@dataclass(frozen=True)
class GoalTable:
    """The columns of the hindsight table that one mixture draws from, for N transitions."""

    goals: Tensor
    """(N, columns) int32: rows into all goals, achieved first, then desired."""
    rewards: Tensor
    """(N, columns): the labels."""
    cumulative: Tensor
    """(columns,): cumulative probabilities of the columns."""


class DeviceData:
    """A dataset as contiguous tensors on the device, shared by the samplers of its splits."""

    def __init__(self, episodes: Episodes, device: torch.device | str = "cpu") -> None:
        # Not the arrays: what training needs of them is in the tensors.
        self.episodes, self.device = episodes.index, torch.device(device)
        self.scaling = Scaling.of(episodes.schema)
        self.observations = self.scaling.observations(self.tensor(episodes.observation))
        self.actions = self.scaling.scaled_actions(self.tensor(episodes.action))
        # Achieved goals, then desired ones, if any: both are goals that a mixture may point to.
        goals = [episodes.achieved_goal, episodes.desired_goal]
        self.raw_goals = self.tensor(np.concatenate([part for part in goals if part is not None]))
        self.goals = self.scaling.goals(self.raw_goals)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """The array on the device."""
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)

    @cached_property
    def held_out(self) -> Tensor:
        """(goals,), which of all goals lie in the region that is held out from training."""
        tasks = self.episodes.per_row("task")
        every = np.tile(tasks, len(self.raw_goals) // len(tasks))
        goals = self.raw_goals.cpu().numpy()
        return self.tensor(held_out_goals(goals, every, self.episodes.held_out))

    @property
    def dimensions(self) -> Dimensions:
        """Sizes for the networks."""
        return Dimensions(
            observation=self.observations.shape[1],
            goal=self.goals.shape[1],
            action=self.actions.shape[1],
            tasks=len(self.episodes.schema["tasks"]),
        )


class BatchSampler:
    """Makes the batches of one split of a dataset, or of one of its tasks.

    Goals that the recipe holds out are never drawn: see ``held_out.without_held_out``. Transitions that are
    left without a goal are not drawn either.

    Raises:
        DataError: the hindsight table does not belong to the dataset, or all goals are held out.
    """

    def __init__(
        self,
        data: DeviceData,
        hindsight: Path,
        sampling: Sampling,
        *,
        split: str,
        batch_size: int,
        seed: int,
        task: str | None = None,
    ) -> None:
        self.data, self.sampling, self.batch_size = data, sampling, batch_size
        episodes = data.episodes
        self.success: Success = episodes.goal.success
        self.keys = self._keys(seed)
        rows = episodes.transition_rows(split, task)
        self.tables = {
            purpose: self._table(hindsight, rows, mixture)
            for purpose, mixture in (
                ("actor_goal", sampling.actor_goals),
                ("value_goal", sampling.value_goals),
            )
            if mixture
        }
        if episodes.held_out:
            rows = rows[self._leave_out(data.held_out).cpu().numpy()]
        self.rows = data.tensor(rows)
        self.last_row = data.tensor(_last_row(episodes)[rows])
        self.first_row = data.tensor(episodes.per_row("first_row")[rows])
        self.task = data.tensor(_task_numbers(episodes)[rows])

    def __len__(self) -> int:
        """Number of transitions to draw from."""
        return len(self.rows)

    def of_seed(self, seed: int) -> "BatchSampler":
        """The sampler of another seed, on the same data and tables."""
        other = copy.copy(self)
        other.keys = self._keys(seed)
        return other

    @cached_property
    def by_task(self) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions in the order of their tasks; where each task begins there, and how many it has."""
        count = torch.bincount(self.task, minlength=self.data.dimensions.tasks)
        return torch.argsort(self.task, stable=True), count.cumsum(0) - count, count

    def batches(
        self, first: int, count: int, task_shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The batches of steps ``first`` to ``first + count - 1``: tensors (count, batch, ...).

        With ``task_shares`` (tasks,), probabilities, a task is drawn first and then one of its transitions;
        without, every transition is as likely as any other. Tasks of no transitions are never drawn.
        """
        steps = torch.arange(first, first + count, device=self.data.device)[:, None]
        counter = steps * self.batch_size + torch.arange(self.batch_size, device=self.data.device)
        pick = self._pick(counter, task_shares)
        row = self.rows[pick]
        batch = {
            "observations": self.data.observations[row],
            "actions": self.data.actions[row],
            "tasks": self.task[pick],
            "actor_goals": self.data.goals[self._goals("actor_goal", pick, counter)[0]],
        }
        if self.sampling.value_goals:
            batch |= self._value_part(pick, row, counter)
        return batch

    def _pick(self, counter: Tensor, task_shares: Tensor | None) -> Tensor:
        if task_shares is None:
            return self._draw("transition", counter, len(self))
        order, begin, size = self.by_task
        shares = task_shares.double() * (size > 0)  # Rounding must not draw a task of share 0.
        cumulative = (shares / shares.sum()).cumsum(0)[:-1]
        task = torch.searchsorted(cumulative, self._unit("task", counter).double(), right=True)
        return order[begin[task] + self._draw("transition", counter, size[task])]

    def _value_part(self, pick: Tensor, row: Tensor, counter: Tensor) -> dict[str, Tensor]:
        goal, label = self._goals("value_goal", pick, counter)
        rewards, masks, ahead = self._n_step(row, self.last_row[pick], goal, label)
        part = {
            "next_observations": self.data.observations[row + ahead],
            "achieved_goals": self.data.goals[row],
            "value_goals": self.data.goals[goal],
            "rewards": rewards,
            "masks": masks,
            "discounts": self.sampling.discount**ahead,
            "mixing": self._unit("mixing", counter),
        }
        if self.sampling.initial_states == "episode":
            part["initial_observations"] = self.data.observations[self.first_row[pick]]
        elif self.sampling.initial_states == "any":
            other = self._draw("initial_state", counter, len(self))
            part["initial_observations"] = self.data.observations[self.rows[other]]
        return part

    def _goals(self, purpose: str, pick: Tensor, counter: Tensor) -> tuple[Tensor, Tensor]:
        """Rows into all goals, and labels, of a column drawn by the mixture's probabilities."""
        table = self.tables[purpose]
        column = torch.searchsorted(table.cumulative, self._unit(purpose, counter), right=True)
        return table.goals[pick, column].long(), table.rewards[pick, column]

    def _n_step(
        self, row: Tensor, last: Tensor, goal: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of discounted rewards up to the bootstrap, mask of it, and how many steps it is ahead.

        The sum ends where the goal is first reached (which is not bootstrapped on), where the episode
        ends, or after n steps. What happens at the first step is the label of the table.
        """
        if label.is_floating_point():  # dense: minus the distance, one step
            return label, (label < -(self.success.tolerance or 0.0)).float(), torch.ones_like(row)
        reached = label == 0
        ahead = torch.ones_like(row)
        for step in range(2, self.sampling.n_step + 1):
            goes_on = ~reached & (row + step <= last)
            ahead = torch.where(goes_on, step, ahead)
            reached = reached | (goes_on & self._reaches(row + step - 1, goal))
        discount = self.sampling.discount
        if self.sampling.reward == "binary":
            rewards = discount ** (ahead - 1) * reached
        else:
            paid = ahead - reached.long()  # Every step costs 1 but the one that reaches.
            rewards = -(1.0 - discount**paid) / (1.0 - discount)
        return rewards, (~reached).float(), ahead

    def _reaches(self, row: Tensor, goal: Tensor) -> Tensor:
        """Whether the transitions at ``row`` reach the goals; rows past the end ask of the last."""
        if self.success.kind == "same_step":
            return goal == row
        next_row = (row + 1).clamp(max=len(self.data.observations) - 1)
        return reaches(self.data.raw_goals[next_row], self.data.raw_goals[goal], self.success)

    def _keys(self, seed: int) -> dict[str, Tensor]:
        """The key of each purpose, on the device: moving one there would wait for it."""
        keys = [stream_key(seed, number) for number in range(len(PURPOSES))]
        signed = torch.tensor([key - 2**64 if key >= 2**63 else key for key in keys])
        return dict(zip(PURPOSES, signed.to(self.data.device), strict=True))

    def _draw(self, purpose: str, counter: Tensor, bound: int | Tensor) -> Tensor:
        return uniform_tensor(self.keys[purpose], counter, bound)

    def _unit(self, purpose: str, counter: Tensor) -> Tensor:
        return self._draw(purpose, counter, UNIT_BITS).float() / UNIT_BITS

    def _table(self, hindsight: Path, own: NDArray[np.int64], mixture: Mixture) -> GoalTable:
        """The mixture's columns for the transitions at rows ``own``."""
        columns = _columns(hindsight, mixture)
        names = sorted({name for pair in columns for name in pair[:2] if name is not None})
        table = pl.read_parquet(hindsight / TABLE, columns=names)
        every = self.data.episodes.transition_rows()
        if len(table) != len(every):
            raise DataError(f"{hindsight} is not the table of this dataset; run `dvc repro`")
        table = table.filter(pl.Series(np.isin(every, own, assume_unique=True)))
        shift = len(self.data.observations)
        goals, rewards = [], []
        for goal, reward, _ in columns:
            pursued = own + shift if reward == reward_column("original") else own
            goals.append(pursued if goal is None else table[goal].to_numpy())
            rewards.append(table[reward].to_numpy())
        shares = np.array([share for _, _, share in columns])
        return GoalTable(
            torch.from_numpy(np.stack(goals, 1).astype(np.int32)).to(self.data.device),
            torch.from_numpy(np.stack(rewards, 1)).to(self.data.device),
            torch.tensor(
                np.cumsum(shares / shares.sum())[:-1], dtype=torch.float32, device=self.data.device
            ),
        )

    def _leave_out(self, held_out: Tensor) -> Tensor:
        """Take goals that are held out from all tables. Returns which transitions are left."""
        chosen = {
            purpose: without_held_out(table.goals, held_out)
            for purpose, table in self.tables.items()
        }
        left = torch.stack([usable for _, usable in chosen.values()]).all(0)
        for purpose, (columns, _) in chosen.items():
            table = self.tables[purpose]
            self.tables[purpose] = GoalTable(
                table.goals.gather(1, columns)[left],
                table.rewards.gather(1, columns)[left],
                table.cumulative,
            )
        return left


def _columns(hindsight: Path, mixture: Mixture) -> list[tuple[str | None, str, float]]:
    """(goal column, reward column, share) of each draw of each strategy in a mixture."""
    known = pl.read_parquet_schema(hindsight / TABLE)
    columns: list[tuple[str | None, str, float]] = []
    for strategy, share in mixture.items():
        count = sum(name.startswith(f"{strategy}_reward_") for name in known)
        if count == 0:
            raise DataError(
                f"{hindsight / TABLE} has no goals of strategy '{strategy}'; "
                "add it to relabel.strategies in params.yaml and run `dvc repro`"
            )
        for draw in range(count):
            goal = goal_column(strategy, draw)
            reward = reward_column(strategy, draw)
            columns.append((goal if goal in known else None, reward, share / count))
    return columns


def _last_row(episodes: EpisodeIndex) -> NDArray[np.int64]:
    return episodes.per_row("first_row") + episodes.per_row("length").astype(np.int64)


def _task_numbers(episodes: EpisodeIndex) -> NDArray[np.int64]:
    tasks = episodes.schema["tasks"]
    numbers = [tasks.index(task) for task in episodes.table["task"]]
    return np.repeat(np.array(numbers, dtype=np.int64), episodes.table["length"].to_numpy() + 1)
