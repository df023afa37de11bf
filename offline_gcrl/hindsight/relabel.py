"""The hindsight table: k goal rows with their rewards, for every transition and strategy.

The table depends only on the data, the strategies, k and the seed, and not on chunks, threads or the machine. Agents
choose mixtures of its columns, so all agents use the same table.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from offline_gcrl.config import Goal, Relabel, has_original_goals
from offline_gcrl.config.outputs import EPISODES, INSTRUCTIONS, STEPS, TABLE
from offline_gcrl.goals.instructions import Sentences
from offline_gcrl.hindsight.captions import Captioner
from offline_gcrl.hindsight.labels import Labeller
from offline_gcrl.hindsight.stored import StoredGoals, goals_on_disk
from offline_gcrl.hindsight.strategies import RANDOM, goal_rows
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import write_json

TRANSITIONS_PER_CHUNK = 2**17
"""Size of a chunk; a column of this many numbers fits into a processor's cache."""
ROWS_PER_GROUP = 2**18


def goal_column(strategy: str, draw: int) -> str:
    """The name of a column of goal rows."""
    return f"{strategy}_goal_{draw}"


def reward_column(strategy: str, draw: int = 0) -> str:
    """The name of a column of rewards; ``current`` and ``original`` have one such column and no goal column."""
    return f"{strategy}_reward_{draw}"


def relabel(
    episodes: Path,
    output: Path,
    settings: Relabel,
    goal: Goal,
    on_transitions: Callable[[int], None] = lambda transitions: None,
    chunk: int = TRANSITIONS_PER_CHUNK,
    sentences: Sentences | None = None,
) -> None:
    """Write the hindsight table of an ingested dataset in chunks of transitions.

    Memory does not grow with the dataset. A temporary file in ``output`` contains the goals of all steps, with 4 bytes
    per number.

    Args:
        episodes: folder of the ingested dataset.
        output: folder of the table.
        settings: strategies, k, discount, seed and kind of reward.
        goal: the goal spec with its success test.
        on_transitions: called with the number of transitions after each chunk.
        chunk: number of transitions per chunk.
        sentences: sentences of the dataset; with rules that say which are true, instructions are drawn, too.

    Raises:
        DataError: the settings ask for dense rewards, but the recipe's goals have no distance.
    """
    if settings.reward == "dense" and not goal.success.has_distance:
        raise DataError(
            f"relabel.reward: 'dense' needs goals with one distance, not '{goal.success.kind}'"
        )
    table = pl.read_parquet(intact(episodes / EPISODES), columns=episode_columns(settings))
    captioner = Captioner(sentences, settings.seed) if sentences and sentences.captions else None
    if sentences:
        write_json(output / INSTRUCTIONS, sentences.as_json())
    with ExitStack() as stack:
        goals = {
            name: stack.enter_context(goals_on_disk(intact(episodes / STEPS), column, output))
            for name, column in goal_columns(goal).items()
        }
        parts = (
            label_transitions(transitions, goals, settings, goal, captioner)
            for transitions in iterate_transitions(table, chunk)
        )
        write_table(_with_progress(parts, on_transitions), output / TABLE)


def episode_columns(settings: Relabel) -> list[str]:
    """The columns of ``episodes.parquet`` that the strategies need."""
    return ["first_row", "length", *(["task"] if RANDOM in settings.strategies else [])]


def _with_progress(
    parts: Iterable[pl.DataFrame], on_transitions: Callable[[int], None]
) -> Iterator[pl.DataFrame]:
    for part in parts:
        yield part
        on_transitions(len(part))


def goal_columns(goal: Goal) -> dict[str, str]:
    """The columns of ``steps.parquet`` with achieved goals and, if the data has them, original goals."""
    achieved = "observation" if goal.is_full_state else "achieved_goal"
    desired = {"desired_goal": "desired_goal"} if has_original_goals(goal) else {}
    return {"achieved_goal": achieved, **desired}


def write_table(parts: Iterable[pl.DataFrame], path: Path) -> None:
    """Write the parts of a table in row groups of fixed size, so that the bytes do not depend on the parts.

    Goal rows are delta-encoded, because most goals are near their transition and neighbours differ little.
    """
    writer = None
    try:
        for group in regrouped(parts, ROWS_PER_GROUP):
            table = group.to_arrow()
            if writer is None:
                rows = [name for name in table.column_names if name == "row" or "_goal_" in name]
                writer = pq.ParquetWriter(
                    path,
                    table.schema,
                    compression="zstd",
                    use_dictionary=False,
                    write_page_checksum=True,
                    column_encoding=dict.fromkeys(rows, "DELTA_BINARY_PACKED"),
                )
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    finally:
        if writer is not None:
            writer.close()


def regrouped(parts: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of ``rows`` rows each; the last frame has the remaining rows."""
    waiting: list[pl.DataFrame] = []
    for part in parts:
        waiting.append(part)
        while sum(map(len, waiting)) >= rows:
            joined = pl.concat(waiting)
            yield joined[:rows]
            waiting = [joined[rows:]]
    if sum(map(len, waiting)) > 0:
        yield pl.concat(waiting)


def relabel_transitions(
    transitions: pl.DataFrame, steps: pl.DataFrame, settings: Relabel, goal: Goal
) -> pl.DataFrame:
    """``label_transitions`` with all goals in memory.

    Args:
        transitions: a chunk from ``iterate_transitions``.
        steps: array columns ``achieved_goal`` and, if the data has original goals, ``desired_goal``.
        settings: strategies, k, discount, seed and kind of reward.
        goal: the success test.
    """
    goals = {name: StoredGoals(steps[name].to_numpy()) for name in goal_columns(goal)}
    return label_transitions(transitions, goals, settings, goal)


def label_transitions(
    transitions: pl.DataFrame,
    goals: dict[str, StoredGoals],
    settings: Relabel,
    goal: Goal,
    captioner: Captioner | None = None,
) -> pl.DataFrame:
    """Draw goals for transitions and compute the rewards.

    Args:
        transitions: a chunk of consecutive transitions from ``iterate_transitions``.
        goals: ``achieved_goal`` of all steps and, if the data has original goals, ``desired_goal``.
        settings: strategies, k, discount, seed and kind of reward.
        goal: the success test.
        captioner: draws instructions that are true of the goals, if given.

    Returns:
        The columns ``row``, ``<strategy>_goal_<draw>`` and ``<strategy>_reward_<draw>``; with a captioner also
        ``<strategy>_instruction_<draw>`` and ``<strategy>_instruction_reward_<draw>``.
    """
    labels = Labeller(transitions, goals["achieved_goal"], settings, goal)
    rows, rewards = [transitions["row"]], []
    for strategy in settings.strategies:
        chosen = goal_rows(transitions, strategy, settings.k, settings.seed, settings.discount)
        found = labels.at_rows(chosen) if strategy == RANDOM else map(labels.within_episode, chosen)
        for draw, (goal_row, reward) in enumerate(zip(chosen, found, strict=True)):
            rows.append(goal_row.alias(goal_column(strategy, draw)))
            rewards.append(pl.Series(reward_column(strategy, draw), reward))
            if captioner:
                rewards += labels.captioned(captioner, goal_row, [], (strategy, draw))
    rewards.append(pl.Series(reward_column("current"), labels.within_episode(rows[0])))
    if "desired_goal" in goals:
        original = labels.original(goals["desired_goal"])
        rewards.append(pl.Series(reward_column("original"), original))
        if captioner:
            desired = labels.desired(goals["desired_goal"])
            rewards += labels.captioned(captioner, None, desired, ("original", 0))
    return pl.DataFrame(rows + rewards)


def iterate_transitions(table: pl.DataFrame, chunk: int) -> Iterator[pl.DataFrame]:
    """All transitions of the episodes in order, in chunks.

    Args:
        table: one row per episode with ``first_row``, ``length`` and optionally ``task``.
        chunk: maximal number of transitions per chunk.

    Yields:
        Frames with the UInt32 columns ``row``, ``step``, ``length``, ``first_row`` and, if tasks are given,
        ``task_row`` and ``task_rows``; see ``strategies``.
    """
    episodes = table.select("length", "first_row", **_task_columns(table)).cast(pl.UInt32)
    # Number of transitions up to the end of each episode.
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
    """The first row and the number of rows of each episode's task; the episodes of a task are consecutive."""
    if "task" not in table.columns:
        return {}
    return {
        "task_row": pl.col("first_row").min().over("task"),
        "task_rows": (pl.col("length").cast(pl.UInt64) + 1).sum().over("task"),
    }
