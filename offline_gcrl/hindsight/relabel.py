"""The hindsight table: for every transition and strategy k goal rows, and the reward each gives.

It depends on the data, the strategies, k and the seed alone, and not on chunks, threads or machine;
agents choose mixtures of its columns, so one table serves all.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from offline_gcrl.config import Goal, Relabel, has_original_goals
from offline_gcrl.episodes.schema import EPISODES, STEPS
from offline_gcrl.errors import DataError
from offline_gcrl.goals import reaches_expression, squared_distance_expression
from offline_gcrl.hindsight.strategies import draws, goal_row

TABLE = "table.parquet"
STATS = "stats.json"
TRANSITIONS_A_CHUNK = 2**18


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
    chunk: int = TRANSITIONS_A_CHUNK,
) -> None:
    """Write the hindsight table of an ingested dataset, a chunk of transitions at a time.

    Raises:
        DataError: dense rewards are asked for, but the goals of the recipe have no distance.
    """
    if settings.reward == "dense" and not goal.success.has_distance:
        raise DataError(
            f"relabel.reward: 'dense' needs goals with one distance, not '{goal.success.kind}'"
        )
    steps = read_goals(episodes, goal)
    table = pl.read_parquet(episodes / EPISODES)
    writer = None
    try:
        for transitions in iterate_transitions(table, chunk):
            part = relabel_transitions(transitions, steps, settings, goal).to_arrow()
            writer = writer or pq.ParquetWriter(output / TABLE, part.schema, compression="zstd")
            writer.write_table(part)
            on_transitions(len(part))
    finally:
        if writer is not None:
            writer.close()


def read_goals(episodes: Path, goal: Goal) -> pl.DataFrame:
    """Goals of all steps, columns ``achieved_goal`` and, if any are known, ``desired_goal``."""
    achieved = "observation" if goal.is_full_state else "achieved_goal"
    desired = ["desired_goal"] if has_original_goals(goal) else []
    return pl.read_parquet(episodes / STEPS, columns=[achieved, *desired]).rename(
        {achieved: "achieved_goal"}
    )


def relabel_transitions(
    transitions: pl.DataFrame, steps: pl.DataFrame, settings: Relabel, goal: Goal
) -> pl.DataFrame:
    """Goal rows and rewards of the given transitions, as columns.

    Args:
        transitions: as ``iterate_transitions`` yields them.
        steps: as ``read_goals`` reads them.
        settings: strategies, k, discount, seed and kind of reward.
        goal: the success test.
    """
    pairs = [
        (strategy, draw)
        for strategy in settings.strategies
        for draw in range(draws(strategy, settings.k))
    ]
    goals = transitions.select(
        "row",
        *(
            goal_row(strategy, draw, settings.seed, settings.discount).alias(
                goal_column(strategy, draw)
            )
            for strategy, draw in pairs
        ),
    )
    columns = list(goals.get_columns())
    achieved = steps["achieved_goal"]
    row = goals["row"]
    for strategy, draw in pairs:
        chosen = goals[goal_column(strategy, draw)]
        rewards = _rewards(row, chosen, achieved, achieved, settings, goal)
        columns.append(rewards.alias(reward_column(strategy, draw)))
    columns.append(
        _rewards(row, row, achieved, achieved, settings, goal).alias(reward_column("current"))
    )
    if has_original_goals(goal):
        desired = steps["desired_goal"]
        columns.append(
            _rewards(row, row, achieved, desired, settings, goal).alias(reward_column("original"))
        )
    return pl.DataFrame(columns)


def _rewards(
    row: pl.Series,
    goal_rows: pl.Series,
    achieved: pl.Series,
    goals: pl.Series,
    settings: Relabel,
    goal: Goal,
) -> pl.Series:
    """Reward of each transition: about the next achieved goal, or the row itself for ``same_step``."""
    if goal.success.kind == "same_step":
        return (goal_rows == row).cast(pl.Int8) - 1
    pair = pl.DataFrame(
        [achieved.gather(row + 1).alias("next"), goals.gather(goal_rows).alias("goal")]
    )
    if settings.reward == "dense":
        return pair.select(-squared_distance_expression("next", "goal").sqrt()).to_series()
    size = achieved.dtype.size  # type: ignore[attr-defined]
    reached = reaches_expression("next", "goal", goal.success, size)
    return pair.select(reached.cast(pl.Int8) - 1).to_series()


def iterate_transitions(table: pl.DataFrame, chunk: int) -> Iterator[pl.DataFrame]:
    """All transitions of the episodes in order, in chunks of at most ``chunk``.

    Yields:
        Frames with the columns ``row``, ``step``, ``length``, ``first_row``, ``task_row``, ``task_rows``.
    """
    length = table["length"].cast(pl.Int64)
    start = length.cum_sum() - length  # Transitions before each episode.
    total = int(length.sum())
    # The episodes of a task lie together.
    tasks = table.select(
        task_row=pl.col("first_row").min().over("task"),
        task_rows=(pl.col("length").cast(pl.Int64) + 1).sum().over("task"),
    )
    for first in range(0, total, chunk):
        number = pl.int_range(first, min(first + chunk, total), eager=True)
        episode = start.search_sorted(number, side="right") - 1
        frame = pl.DataFrame(
            {
                "step": number - start.gather(episode),
                "length": length.gather(episode),
                "first_row": table["first_row"].gather(episode),
                "task_row": tasks["task_row"].gather(episode),
                "task_rows": tasks["task_rows"].gather(episode),
            }
        )
        yield frame.with_columns(row=(pl.col("first_row") + pl.col("step")).cast(pl.UInt32))
