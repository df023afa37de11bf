"""Test-time graph search: the policy acts for states of the data on a short path to the goal (arXiv 2510.07257).

The agent's own value, as a number of steps, is the length of the edges of a graph over states of the dataset. Nothing
is trained: a planner wraps a policy, and ``Policy.act`` gets a near subgoal instead of a far goal.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, vstack
from scipy.sparse.csgraph import dijkstra

from offline_gcrl.config import Planner
from offline_gcrl.config.outputs import EPISODES, STEPS
from offline_gcrl.policies.policy import Acting, Policy
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.tables import columns_of, iterate_batches, rows_of_parts

PAIRS_AT_ONCE = 65_536
"""Pairs of states whose distance is computed in one batch."""
PENALTY = 1000.0
"""An edge of n times the limit costs this to the n-th power times its length."""
ROWS_PER_READ = 2**16
LARGEST_POWER = 40.0
"""Bound of n, so that costs and their sums are finite."""
CANDIDATES = 20
"""States per node that the farthest points are chosen from."""
Vectors = NDArray[np.float32]
Steps = Callable[[Vectors, Vectors, Vectors], Vectors]
"""Number of steps from states, (batch, observation), that achieve goals, (batch, goal), to goals, (batch, goal)."""


@dataclass(frozen=True)
class Nodes:
    """States of a dataset that paths consist of."""

    observations: Vectors
    """(nodes, observation)"""
    goals: Vectors
    """(nodes, goal), the goals that the states achieve."""


@dataclass(frozen=True)
class Plan:
    """A path of subgoals to the goal of an episode."""

    subgoals: Vectors
    """(subgoals, goal); the last one is the goal itself."""
    current: int
    """The subgoal that the policy acts for."""


@lru_cache(maxsize=4)
def data_nodes(data: Path, settings: Planner, task: str) -> Nodes:
    """States of the training episodes of a task, chosen at random or far apart from each other.

    Args:
        data: folder of an ingested dataset.
        settings: number and choice of nodes.
        task: name of the task.

    Raises:
        DataError: there is no ingested dataset.
    """
    if not (data / STEPS).exists():
        raise DataError(f"{data}: no ingested dataset; run `dvc repro` to make it")
    table = pl.read_parquet(intact(data / EPISODES))
    table = table.filter(pl.col("split") == "train", pl.col("task") == task)
    first, rows = table["first_row"].to_numpy(), table["length"].to_numpy().astype(np.int64) + 1
    row = np.repeat(first - np.append(0, rows.cumsum()[:-1]), rows) + np.arange(rows.sum())
    count = settings.nodes * (CANDIDATES if settings.choice == "farthest" else 1)
    random = np.random.default_rng(settings.seed)
    row = np.sort(random.choice(row, min(count, len(row)), replace=False))
    steps = intact(data / STEPS)
    achieved = "achieved_goal" if "achieved_goal" in columns_of(steps).names else "observation"
    observations, goals = (rows_at(steps, name, row) for name in ("observation", achieved))
    if settings.choice == "farthest":
        chosen = farthest_points(goals, settings.nodes)
        observations, goals = observations[chosen], goals[chosen]
    return Nodes(observations, goals)


def rows_at(table: Path, column: str, rows: NDArray[np.int64]) -> Vectors:
    """Some rows of a column of arrays, (rows, size), in order."""
    parts = (
        part.column(0).flatten().to_numpy().reshape(len(part), -1)
        for part in iterate_batches(table, ROWS_PER_READ, [column])
    )
    return rows_of_parts(parts, rows)


def farthest_points(points: Vectors, count: int) -> NDArray[np.int64]:
    """Indices of ``count`` points, each the farthest from those before it, in standard deviations of (n, size)."""
    scaled = points / np.maximum(points.std(0), 1e-6)
    chosen, nearest = [0], np.full(len(points), np.inf)
    for _ in range(min(count, len(points)) - 1):
        nearest = np.minimum(nearest, np.square(scaled - scaled[chosen[-1]]).sum(1))
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


class Graph:
    """Costs of the way from each node to every other, and the cheapest paths to a goal."""

    def __init__(self, steps: Steps, nodes: Nodes, settings: Planner) -> None:
        self.steps, self.nodes, self.settings = steps, nodes, settings
        costs = self.costs(self._between())
        np.fill_diagonal(costs, np.inf)
        # Transposed, since paths are searched from the goal backwards.
        self.backwards = _sparse(costs.T)

    def costs(self, steps: NDArray[np.float32]) -> NDArray[np.float64]:
        """Costs of edges of a number of steps: at least 1, and infinite or very large beyond the limit."""
        lengths, limit = steps.astype(np.float64).clip(min=1.0), self.settings.edge_limit
        if self.settings.long_edges == "removed":
            return np.where(lengths <= limit, lengths, np.inf)
        power = np.minimum(lengths / limit, LARGEST_POWER)
        return lengths * np.where(lengths <= limit, 1.0, PENALTY**power)

    def _between(self) -> NDArray[np.float32]:
        """Steps from each node (rows) to each node (columns)."""
        count, (states, goals) = len(self.nodes.goals), (self.nodes.observations, self.nodes.goals)
        rows = max(1, PAIRS_AT_ONCE // count)
        parts = []
        for start in range(0, count, rows):
            some = slice(start, min(start + rows, count))
            size = some.stop - some.start
            parts.append(
                self.steps(
                    np.repeat(states[some], count, 0),
                    np.tile(goals, (size, 1)),
                    np.repeat(goals[some], count, 0),
                ).reshape(size, count)
            )
        return np.concatenate(parts)

    def to_goal(self, goal: Vectors) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """The cost from each node to a goal, and the node after it; the goal has the number of nodes as its number."""
        count = len(self.nodes.goals)
        last = self.costs(
            self.steps(self.nodes.observations, np.tile(goal, (count, 1)), self.nodes.goals)
        )
        backwards = vstack([self.backwards, _sparse(last[None])], format="csr")
        square = csr_matrix(
            (backwards.data, backwards.indices, backwards.indptr), shape=(count + 1, count + 1)
        )
        costs, following = dijkstra(square, indices=count, return_predecessors=True)
        return costs[:count], following[:count]


@dataclass
class PlannedEpisode:
    """Acts in one episode; the plan is made at its first step, and again as often as the settings say."""

    policy: Acting
    graph: Graph
    plan: Plan | None = None
    _steps: int = 0
    _goal: Vectors | None = None
    _route: tuple[NDArray[np.float64], NDArray[np.int32]] = field(init=False)

    def act(
        self,
        observation: ArrayLike,
        goal: ArrayLike,
        task: str | None = None,
        achieved_goal: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """The policy's action for the current subgoal of the plan."""
        state, wanted = (np.asarray(given, dtype=np.float32) for given in (observation, goal))
        achieved = state if achieved_goal is None else np.asarray(achieved_goal, dtype=np.float32)
        if self._goal is None or not np.array_equal(wanted, self._goal):
            self._goal, self._route = wanted, self.graph.to_goal(wanted)
            self._steps, self.plan = 0, None
        every = self.graph.settings.replan
        if self.plan is None or (every is not None and self._steps % every == 0):
            self.plan = self._planned(state, achieved)
        self._steps += 1
        self.plan = self._towards(self.plan, state, achieved)
        return self.policy.act(observation, self.plan.subgoals[self.plan.current], task)

    def _planned(self, state: Vectors, achieved: Vectors) -> Plan:
        """The cheapest path from a state to the goal; the goal alone if no path is cheaper than that."""
        assert self._goal is not None
        goals, (rest, following) = self.graph.nodes.goals, self._route
        first = self.graph.costs(self._from(state, achieved, np.vstack([goals, self._goal])))
        total = first[:-1] + rest
        path, node = [], int(total.argmin())
        if total[node] < first[-1]:
            while node != len(goals):
                path.append(goals[node])
                node = int(following[node])
        return Plan(np.array([*path, self._goal]), 0)

    def _towards(self, plan: Plan, state: Vectors, achieved: Vectors) -> Plan:
        """The plan with its current subgoal: the goal if it is near, else the last near node after the nearest one.

        If no node after the nearest one is near, the next one is taken.
        """
        steps = self._from(state, achieved, plan.subgoals)
        near, last = steps <= self.graph.settings.reach, len(steps) - 1
        if near[last] or last == 0:
            return Plan(plan.subgoals, last)
        following = int(steps[:-1].argmin()) + 1
        ahead = np.flatnonzero(near[following:])
        return Plan(plan.subgoals, following + int(ahead[-1]) if len(ahead) else following)

    def _from(self, state: Vectors, achieved: Vectors, goals: Vectors) -> Vectors:
        count = len(goals)
        return self.graph.steps(np.tile(state, (count, 1)), goals, np.tile(achieved, (count, 1)))


def planning_graph(policy: Policy, data: Path, settings: Planner, task: str) -> Graph:
    """The graph of a policy over states of the dataset that it was trained on.

    Raises:
        PolicyError: the value of the policy is no number of steps.
        DataError: there is no ingested dataset.
    """

    def steps(observations: Vectors, goals: Vectors, achieved: Vectors) -> Vectors:
        return policy.steps(observations, goals, task, achieved)

    return Graph(steps, data_nodes(data, settings, task), settings)


def _sparse(costs: NDArray[np.float64]) -> csr_matrix:
    """A sparse matrix of the costs that are finite."""
    rows, columns = np.nonzero(np.isfinite(costs))
    return csr_matrix((costs[rows, columns], (rows, columns)), shape=costs.shape)
