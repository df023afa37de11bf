"""The value of an agent at the positions of a maze, for the goal of its first evaluation episode."""

from collections.abc import Sequence
from pathlib import Path

import gymnasium
import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config import Goal
from offline_gcrl.config.outputs import VALUE_MAP, VALUE_MAP_FIGURE
from offline_gcrl.environments.making import seeded_episode, shared_environment
from offline_gcrl.environments.selection import as_tree, select
from offline_gcrl.evaluation.jobs import EpisodeJob
from offline_gcrl.figures.scenes import free_positions, maze_walls
from offline_gcrl.figures.style import save
from offline_gcrl.figures.values import ValuePanel, values_figure
from offline_gcrl.policies.distances import UNITS
from offline_gcrl.policies.policy import Policy, load_policy
from offline_gcrl.support.tables import write_parquet

POSITIONS_PER_CELL = 8
RESETS = 4
"""Number of starts that show which numbers of an observation are the position."""
Vector = NDArray[np.float32]


def write_value_maps(jobs: Sequence[EpisodeJob], agent: str, folder: Path) -> None:
    """Write the maps of a policy as a table and as a figure, one per task that is a maze.

    Nothing is written if the policy has no value, or one of images or of sentences alone, or if no task is a maze.

    Args:
        jobs: evaluation episodes of the policy.
        agent: name of the agent, for titles.
        folder: folder of the results of the agent.
    """
    policy = load_policy(jobs[0].policy)
    # Its value is of sentences, or of images.
    if policy.settings.conditioning == "language" or policy.dimensions.image is not None:
        return
    tables, panels = [], []
    for task, job in first_of_tasks(jobs).items():
        table = value_map(policy, job)
        if table is not None:
            tables.append(table)
            title = agent if len(policy.tasks) == 1 else f"{agent}, {task}"
            walls = maze_walls(shared_environment(job.evaluation.environment))
            panels.append(ValuePanel(title, table, walls))
    if tables:
        write_parquet(pl.concat(tables), folder / VALUE_MAP)
        save(values_figure(panels, min(len(panels), 3)), folder / VALUE_MAP_FIGURE)


def first_of_tasks(jobs: Sequence[EpisodeJob]) -> dict[str, EpisodeJob]:
    """The first episode of each task."""
    return {job.task: job for job in reversed(jobs)}


def value_map(policy: Policy, job: EpisodeJob) -> pl.DataFrame | None:
    """Values at the free positions of a maze, for the goal of an episode.

    The state at a position is that of the start of the episode, moved there: at rest, and in the pose of the start.

    Returns:
        Columns task, x, y, value, goal_x, goal_y, unit. None if the policy has no value, if the environment is not a maze,
        or if its position is not a part of the observation.
    """
    environment = shared_environment(job.evaluation.environment)
    walls = maze_walls(environment)
    if policy.agent is None or not walls:
        return None
    columns = position_columns(environment, job.goal)
    if columns is None:
        return None
    observation, achieved, desired = _start(environment, job)
    positions = free_positions(walls, POSITIONS_PER_CELL)
    states = _repeated(observation, len(positions), policy.dimensions.observation)
    goals_of_states = _repeated(achieved, len(positions), policy.dimensions.goal)
    goals_of_states[:, :2] = positions
    for axis in (0, 1):
        states[:, columns[axis]] = positions[:, [axis]]
    goal = _repeated(desired, 1, policy.dimensions.goal)
    values = policy.value(states, goal[0], job.task, goals_of_states)
    return pl.DataFrame({"x": positions[:, 0], "y": positions[:, 1], "value": values}).select(
        pl.lit(job.task).alias("task"),
        pl.all(),
        pl.lit(float(desired[0])).alias("goal_x"),
        pl.lit(float(desired[1])).alias("goal_y"),
        pl.lit(UNITS[policy.settings.value_meaning]).alias("unit"),
    )


def position_columns(
    environment: gymnasium.Env[object, object], goal: Goal
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The columns of the observation that are x, and those that are y; None if either is missing.

    They are equal to the first two numbers of the achieved goal at every start.
    """
    seen = []
    for seed in range(RESETS):
        with seeded_episode(environment, seed):
            tree = as_tree(*environment.reset(seed=seed))
        seen.append((select(tree, goal.observation), select(tree, goal.achieved)))
    observations, achieved = (np.array(part, dtype=np.float64) for part in zip(*seen, strict=True))
    if achieved.shape[1] < 2:
        return None
    x, y = (np.flatnonzero(np.isclose(observations, achieved[:, [axis]]).all(0)) for axis in (0, 1))
    return (x, y) if len(x) and len(y) else None


def _start(
    environment: gymnasium.Env[object, object], job: EpisodeJob
) -> tuple[Vector, Vector, Vector]:
    """Observation, achieved and desired goal at the start of an episode."""
    with seeded_episode(environment, job.seed):
        tree = as_tree(*environment.reset(seed=job.seed, options=job.reset_options))
    assert job.goal.desired is not None
    parts = (job.goal.observation, job.goal.achieved, job.goal.desired)
    observation, achieved, desired = (select(tree, part) for part in parts)
    return observation, achieved, desired


def _repeated(values: Vector, count: int, size: int) -> Vector:
    """(count, size) rows that begin with ``values`` and end in zeros, as suites with padding have them."""
    rows = np.zeros((count, size), dtype=np.float32)
    rows[:, : len(values)] = values
    return rows
