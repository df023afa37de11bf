"""The hindsight table: k goal rows with their rewards, for every transition and strategy.

The table depends only on the data, the strategies, k and the seed, and not on chunks, threads or the machine. Agents
choose mixtures of its columns, so all agents use the same table.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from offline_gcrl.config import Goal, Relabel, has_original_goals
from offline_gcrl.config.outputs import EPISODES, INSTRUCTIONS, STEPS, TABLE
from offline_gcrl.goals.instructions import Sentences
from offline_gcrl.hindsight.captions import Captioner
from offline_gcrl.hindsight.embedding import embedded_goals
from offline_gcrl.hindsight.labels import Labeller
from offline_gcrl.hindsight.stored import StoredGoals, goals_on_disk, mapped_goals, spool_once
from offline_gcrl.hindsight.strategies import RANDOM, goal_rows
from offline_gcrl.hindsight.table import goal_column, reward_column, write_table
from offline_gcrl.support.digests import digest_of, intact
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import atomic_file, write_json
from offline_gcrl.support.processes import with_callback
from offline_gcrl.support.tables import columns_of, parts_of, rows_of
from offline_gcrl.support.unfinished import Unfinished, link

TRANSITIONS_PER_CHUNK = 2**17
"""Size of a chunk; a column of this many numbers fits into a processor's cache."""
CODE = ("config", "episodes", "goals", "hindsight", "support")
"""Folders of the package that the files of a shard depend on."""


def relabel(
    episodes: Path,
    output: Path,
    settings: Relabel,
    goal: Goal,
    on_transitions: Callable[[int], None] = lambda transitions: None,
    chunk: int = TRANSITIONS_PER_CHUNK,
    sentences: Sentences | None = None,
    unfinished: Unfinished | None = None,
) -> None:
    """Write the hindsight table of an ingested dataset in chunks of transitions, in as many shards as the dataset has.

    Memory does not grow with the dataset. A temporary file contains the goals of all steps, with 4 bytes per number.

    Args:
        episodes: folder of the ingested dataset.
        output: folder of the table.
        settings: strategies, k, discount, seed and kind of reward.
        goal: the goal spec with its success test.
        on_transitions: called with the number of transitions after each chunk.
        chunk: number of transitions per chunk.
        sentences: sentences of the dataset; with rules that say which are true, instructions are drawn, too.
        unfinished: where finished shards are kept; if left out, in ``output``.

    Raises:
        DataError: the settings ask for dense rewards, but the recipe's goals have no distance, or for rewards of images,
            but the dataset has none or is in shards; or rows do not fit into 32 bits.
    """
    if settings.reward == "dense" and not goal.success.has_distance:
        raise DataError(
            f"relabel.reward: 'dense' needs goals with one distance, not '{goal.success.kind}'"
        )
    if sentences:
        write_json(output / INSTRUCTIONS, sentences.as_json())
    work = Relabelling(episodes, settings, goal, chunk, sentences)
    if intact(episodes / STEPS).is_dir():
        if settings.reward == "embedding":
            raise DataError(
                "relabel.reward: 'embedding' needs a dataset in one file; set a larger ingest.transitions_per_shard"
            )
        write_shards(work, output, unfinished or Unfinished(output / "unfinished"), on_transitions)
        if unfinished is None:
            Unfinished(output / "unfinished").remove()
        return
    if settings.reward == "embedding":
        work.write(
            output / TABLE, {"achieved_goal": embedded_goals(episodes, output)}, on_transitions
        )
        return
    with ExitStack() as stack:
        goals = {
            name: stack.enter_context(goals_on_disk(episodes / STEPS, column, output))
            for name, column in goal_columns(goal).items()
        }
        work.write(output / TABLE, goals, on_transitions)


@dataclass(frozen=True)
class Relabelling:
    """What all shards of a table have in common."""

    episodes: Path
    """Folder of the ingested dataset."""
    settings: Relabel
    goal: Goal
    chunk: int
    sentences: Sentences | None

    def table(self) -> pl.DataFrame:
        """The columns of ``episodes.parquet`` that the strategies need.

        Raises:
            DataError: the dataset has 2^32 rows or more.
        """
        path = self.episodes / EPISODES
        table = pl.read_parquet(intact(path), columns=episode_columns(self.settings))
        rows = int(table["length"].cast(pl.Int64).sum()) + len(table)
        if rows >= 2**32:
            raise DataError(
                f"{path}: has {rows:,} steps, and goals are numbers of steps below 2^32; use fewer episodes, or several "
                "datasets"
            )
        return table

    def write(
        self,
        path: Path,
        goals: dict[str, StoredGoals],
        on_transitions: Callable[[int], None] = lambda transitions: None,
        span: slice = slice(None),
    ) -> int:
        """Write the table of a span of the episodes; returns its number of transitions."""
        sentences, count = self.sentences, 0
        captioner = (
            Captioner(sentences, self.settings.seed) if sentences and sentences.captions else None
        )

        def counted(part: pl.DataFrame) -> None:
            nonlocal count
            count += len(part)
            on_transitions(len(part))

        parts = (
            label_transitions(transitions, goals, self.settings, self.goal, captioner)
            for transitions in iterate_transitions(self.table(), self.chunk, span)
        )
        write_table(with_callback(parts, counted), path)
        return count


def write_shards(
    work: Relabelling,
    output: Path,
    unfinished: Unfinished,
    on_transitions: Callable[[int], None],
) -> None:
    """Write a table with one file for each file of steps."""
    steps = parts_of(work.episodes / STEPS)
    ends = np.cumsum([rows_of(part) for part in steps])
    # The first episode of each file, and the number of episodes.
    bounds = [0, *np.searchsorted(work.table()["first_row"].to_numpy(), ends).tolist()]
    folder = unfinished.parts(_inputs(work), CODE)
    for name, column in goal_columns(work.goal).items():
        spool_once(work.episodes / STEPS, column, folder / name)
    spans = [
        (folder / part.name, *pair) for part, pair in zip(steps, pairwise(bounds), strict=True)
    ]
    missing = [span for span in spans if not span[0].exists()]
    on_transitions(sum(rows_of(path) for path, *_ in spans if path.exists()))
    for transitions in unfinished.map(partial(_write_shard, work), missing):
        on_transitions(transitions)
    (output / TABLE).mkdir()
    for path, *_ in spans:
        link(path, output / TABLE / path.name)


def _write_shard(work: Relabelling, span: tuple[Path, int, int]) -> int:
    path, first, stop = span
    fields = columns_of(work.episodes / STEPS)
    with ExitStack() as stack:
        partial_path = stack.enter_context(atomic_file(path))
        goals = {
            name: stack.enter_context(
                mapped_goals(path.with_name(name), fields.field(column).type.list_size)
            )
            for name, column in goal_columns(work.goal).items()
        }
        return work.write(partial_path, goals, span=slice(first, stop))


def _inputs(work: Relabelling) -> list[object]:
    """Everything that the files of shards depend on besides the code."""
    files = [*parts_of(work.episodes / STEPS), work.episodes / EPISODES]
    sentences = json.dumps(work.sentences.as_json()) if work.sentences else ""
    versions = [version(package) for package in ("numpy", "polars", "pyarrow")]
    settings = [work.settings.model_dump_json(), work.goal.model_dump_json(), sentences]
    return [*settings, *map(digest_of, files), *versions]


def episode_columns(settings: Relabel) -> list[str]:
    """The columns of ``episodes.parquet`` that the strategies need."""
    return ["first_row", "length", *(["task"] if RANDOM in settings.strategies else [])]


def goal_columns(goal: Goal) -> dict[str, str]:
    """The columns of ``steps.parquet`` with achieved goals and, if the data has them, original goals."""
    achieved = "observation" if goal.is_full_state else "achieved_goal"
    desired = {"desired_goal": "desired_goal"} if has_original_goals(goal) else {}
    return {"achieved_goal": achieved, **desired}


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


def iterate_transitions(
    table: pl.DataFrame, chunk: int, span: slice = slice(None)
) -> Iterator[pl.DataFrame]:
    """All transitions of the episodes in order, in chunks.

    Args:
        table: one row per episode with ``first_row``, ``length`` and optionally ``task``.
        chunk: maximal number of transitions per chunk.
        span: the episodes whose transitions are iterated; all by default.

    Yields:
        Frames with the UInt32 columns ``row``, ``step``, ``length``, ``first_row`` and, if tasks are given,
        ``task_row`` and ``task_rows``; see ``strategies``.
    """
    episodes = table.select("length", "first_row", **_task_columns(table)).cast(pl.UInt32)[span]
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
