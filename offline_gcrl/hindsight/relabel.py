"""The hindsight table: for every transition and strategy k goal rows, and the reward each gives.

It depends on the data, the strategies, k and the seed alone, and not on chunks, threads or machine;
agents choose mixtures of its columns, so one table serves all.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from offline_gcrl.config import Goal, Relabel, has_original_goals
from offline_gcrl.config.outputs import EPISODES, STEPS, TABLE
from offline_gcrl.hindsight.labels import Labeller
from offline_gcrl.hindsight.stored import StoredGoals, goals_on_disk
from offline_gcrl.hindsight.strategies import RANDOM, goal_rows
from offline_gcrl.support.errors import DataError

TRANSITIONS_PER_CHUNK = 2**17
"""A column of so many numbers lies in a processor's cache."""
ROWS_PER_GROUP = 2**18


def goal_column(strategy: str, draw: int) -> str:
    """Name of the column of goal rows."""
    return f"{strategy}_goal_{draw}"


def reward_column(strategy: str, draw: int = 0) -> str:
    """Name of the column of rewards; ``current`` and ``original`` have one and no goal column."""
    return f"{strategy}_reward_{draw}"


def relabel(
    episodes: Path,
    output: Path,
    settings: Relabel,
    goal: Goal,
    on_transitions: Callable[[int], None] = lambda transitions: None,
    chunk: int = TRANSITIONS_PER_CHUNK,
) -> None:
    """Write the hindsight table of an ingested dataset, a chunk of transitions at a time.

    Memory does not grow with the dataset. The goals are laid out in a file of the output's disk meanwhile:
    4 bytes for each of their numbers.

    Raises:
        DataError: dense rewards are asked for, but the goals of the recipe have no distance.
    """
    if settings.reward == "dense" and not goal.success.has_distance:
        raise DataError(
            f"relabel.reward: 'dense' needs goals with one distance, not '{goal.success.kind}'"
        )
    table = pl.read_parquet(episodes / EPISODES, columns=episode_columns(settings))
    with ExitStack() as stack:
        goals = {
            name: stack.enter_context(goals_on_disk(episodes / STEPS, column, output))
            for name, column in goal_columns(goal).items()
        }
        parts = (
            label_transitions(transitions, goals, settings, goal)
            for transitions in iterate_transitions(table, chunk)
        )
        write_table(_with_progress(parts, on_transitions), output / TABLE)


def episode_columns(settings: Relabel) -> list[str]:
    """What must be known of episodes to choose goals."""
    return ["first_row", "length", *(["task"] if RANDOM in settings.strategies else [])]


def _with_progress(
    parts: Iterable[pl.DataFrame], on_transitions: Callable[[int], None]
) -> Iterator[pl.DataFrame]:
    for part in parts:
        yield part
        on_transitions(len(part))


def goal_columns(goal: Goal) -> dict[str, str]:
    """Columns of ``steps.parquet`` with the goals achieved and, if any are known, original."""
    achieved = "observation" if goal.is_full_state else "achieved_goal"
    desired = {"desired_goal": "desired_goal"} if has_original_goals(goal) else {}
    return {"achieved_goal": achieved, **desired}


def write_table(parts: Iterable[pl.DataFrame], path: Path) -> None:
    """Write the parts of a table, in row groups of one size whatever the parts': the same bytes.

    Goals lie near their transition, most of them, so that differences between neighbours are small.
    """
    writer = None
    try:
        for group in regrouped(parts, ROWS_PER_GROUP):
            table = group.to_arrow()
            if writer is None:
                rows = [name for name in table.column_names if "_reward_" not in name]
                writer = pq.ParquetWriter(
                    path,
                    table.schema,
                    compression="zstd",
                    use_dictionary=False,
                    column_encoding=dict.fromkeys(rows, "DELTA_BINARY_PACKED"),
                )
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    finally:
        if writer is not None:
            writer.close()


def regrouped(parts: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of ``rows`` rows each, and a last one with what is left."""
    waiting: list[pl.DataFrame] = []
    for part in parts:
        waiting.append(part)
        while sum(map(len, waiting)) >= rows:
            whole = pl.concat(waiting)
            yield whole[:rows]
            waiting = [whole[rows:]]
    if sum(map(len, waiting)) > 0:
        yield pl.concat(waiting)


def relabel_transitions(
    transitions: pl.DataFrame, steps: pl.DataFrame, settings: Relabel, goal: Goal
) -> pl.DataFrame:
    """``label_transitions`` with the goals in memory.

    Args:
        transitions: as ``iterate_transitions`` yields them.
        steps: the columns ``achieved_goal`` and, if they are known, ``desired_goal``, of arrays.
        settings: strategies, k, discount, seed and kind of reward.
        goal: the success test.
    """
    goals = {name: StoredGoals(steps[name].to_numpy()) for name in goal_columns(goal)}
    return label_transitions(transitions, goals, settings, goal)


def label_transitions(
    transitions: pl.DataFrame, goals: dict[str, StoredGoals], settings: Relabel, goal: Goal
) -> pl.DataFrame:
    """Goal rows and rewards of the given transitions, as columns.

    Args:
        transitions: as ``iterate_transitions`` yields them: consecutive ones.
        goals: of all steps, ``achieved_goal`` and, if they are known, ``desired_goal``.
        settings: strategies, k, discount, seed and kind of reward.
        goal: the success test.
    """
    labels = Labeller(transitions, goals["achieved_goal"], settings, goal)
    rows, rewards = [transitions["row"]], []
    for strategy in settings.strategies:
        chosen = goal_rows(transitions, strategy, settings.k, settings.seed, settings.discount)
        found = labels.at_rows(chosen) if strategy == RANDOM else map(labels.within_episode, chosen)
        for draw, (goal_row, reward) in enumerate(zip(chosen, found, strict=True)):
            rows.append(goal_row.alias(goal_column(strategy, draw)))
            rewards.append(pl.Series(reward_column(strategy, draw), reward))
    rewards.append(pl.Series(reward_column("current"), labels.within_episode(rows[0])))
    if "desired_goal" in goals:
        original = labels.original(goals["desired_goal"])
        rewards.append(pl.Series(reward_column("original"), original))
    return pl.DataFrame(rows + rewards)


def iterate_transitions(table: pl.DataFrame, chunk: int) -> Iterator[pl.DataFrame]:
    """All transitions of the episodes in order, in chunks of at most ``chunk``.

    Args:
        table: the episodes: ``first_row`` and ``length``, and perhaps ``task``.
        chunk: number of transitions.

    Yields:
        Frames with the UInt32 columns ``row``, ``step``, ``length``, ``first_row``, and where tasks are known
        ``task_row``, ``task_rows``.
    """
    episodes = table.select("length", "first_row", **_task_columns(table)).cast(pl.UInt32)
    # Transitions up to each one's last.
    end = episodes["length"].cast(pl.Int64).cum_sum().to_numpy()
    for first in range(0, int(end[-1]), chunk):
        stop = min(first + chunk, int(end[-1]))
        touched = slice(
            int(np.searchsorted(end, first, side="right")), int(np.searchsorted(end, stop)) + 1
        )
        parts, ends = episodes[touched], end[touched]
        starts = ends - parts["length"].to_numpy()
        counts = np.minimum(ends, stop) - np.maximum(starts, first)
        columns = {name: np.repeat(parts[name].to_numpy(), counts) for name in parts.columns}
        step = (np.arange(first, stop) - np.repeat(starts, counts)).astype(np.uint32)
        yield pl.DataFrame({"row": columns["first_row"] + step, "step": step, **columns})


def _task_columns(table: pl.DataFrame) -> dict[str, pl.Expr]:
    """The rows of the task of each episode; the episodes of a task lie together."""
    if "task" not in table.columns:
        return {}
    return {
        "task_row": pl.col("first_row").min().over("task"),
        "task_rows": (pl.col("length").cast(pl.UInt64) + 1).sum().over("task"),
    }
