"""Evaluation results of each dataset and agent, combined over training seeds."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from offline_gcrl.config import Dataset, Experiment
from offline_gcrl.config.outputs import (
    EPISODES,
    LEARNING_CURVE,
    PLANNED_ROLLOUTS,
    ROLLOUTS,
    SKIPPED,
    VALUE_MAP,
)
from offline_gcrl.evaluation.results import (
    HEADLINES,
    SUCCESS_COLUMNS,
    curve_across_seeds,
    summarise,
)
from offline_gcrl.statistics.aggregates import Aggregates, aggregate
from offline_gcrl.statistics.comparison import (
    Comparison,
    compare,
    paired_outcomes,
    task_names,
)
from offline_gcrl.statistics.intervals import Estimate, rate_across_seeds
from offline_gcrl.support.digests import intact, read_json
from offline_gcrl.support.errors import DataError

FEWEST_PAIRS = 6
"""Pairs of episodes from which a sign test can tell two agents apart at 5%: six equal signs have a probability of 2 / 2^6."""
METRES = re.compile(r"(PointMaze|AntMaze|Fetch|HandReach|ogbench:(point|ant)maze|.*MetaWorld)")
"""Pattern of the ids of environments whose goals are positions in metres."""


@dataclass(frozen=True)
class AgentResults:
    """Results of all training seeds of one agent on one dataset."""

    episodes: list[pl.DataFrame]
    curves: list[pl.DataFrame]
    videos: tuple[Path | None, ...] = ()
    """One video per seed; None for a seed without one."""
    planned_videos: tuple[Path, ...] = ()
    """Videos of episodes with a planner, of the seeds that have any."""
    value_map: pl.DataFrame | None = None
    """The value at the positions of mazes; None for agents or tasks without such maps."""

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Metrics with intervals across seeds."""
        return summarise(self.episodes)

    @cached_property
    def all_episodes(self) -> pl.DataFrame:
        """The evaluation episodes of all seeds in one table."""
        return pl.concat(self.episodes)

    @cached_property
    def curve(self) -> pl.DataFrame:
        """The learning curve over all seeds: update, mean, low, high."""
        return curve_across_seeds(self.curves)

    def success_by_task(self, column: str = "success") -> dict[str, Estimate]:
        """Success rate of each task over all seeds, for one of the success columns."""
        tables = [
            table.select(pl.col(column).alias("success"), task_names(table).alias("name"))
            for table in self.episodes
        ]
        names = pl.concat(tables)["name"].unique(maintain_order=True)
        return {
            name: _rate(
                [
                    table.filter(pl.col("name") == name)["success"].cast(pl.Float64).to_numpy()
                    for table in tables
                ]
            )
            for name in names
        }


@dataclass(frozen=True)
class DatasetResults:
    """Results of all agents on one dataset, and the reasons why agents were not evaluated."""

    agents: dict[str, AgentResults]
    skipped: dict[str, str]
    """Reasons by agent."""
    criterion: str = "last_step"
    """When success is measured: at the ``last_step`` or at ``any_step``."""
    unit: str = ""
    """Unit of distances between goals; empty if it is unknown."""

    @property
    def metric(self) -> str:
        """The name of the main success rate."""
        return HEADLINES[self.criterion]

    @property
    def column(self) -> str:
        """The column of episodes with the main success."""
        return SUCCESS_COLUMNS[self.criterion]

    @cached_property
    def episodes(self) -> dict[str, pl.DataFrame]:
        """All episodes of each agent; their column ``success`` is the main success."""
        success = pl.col(self.column).alias("success")
        return {
            name: found.all_episodes.with_columns(success) for name, found in self.agents.items()
        }

    @cached_property
    def aggregates(self) -> Aggregates | None:
        """The comparison of agents with further aggregates over their runs; None if no agent was evaluated."""
        return aggregate_datasets([self], list(self.agents)) if self.agents else None

    @property
    def comparison(self) -> Comparison | None:
        """The comparison of agents; None if no agent was evaluated."""
        return self.aggregates.comparison if self.aggregates else None

    @property
    def curves(self) -> dict[str, pl.DataFrame]:
        """The learning curve over all seeds, by agent."""
        return {agent: found.curve for agent, found in self.agents.items()}

    @property
    def seed_curves(self) -> dict[str, list[pl.DataFrame]]:
        """The learning curve of each training seed, by agent."""
        return {agent: found.curves for agent, found in self.agents.items()}

    @property
    def seed_rates(self) -> dict[str, list[float]]:
        """The main success rate of each training seed, by agent."""
        return {
            agent: [float(table[self.column].to_numpy().mean()) for table in found.episodes]
            for agent, found in self.agents.items()
        }

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics with intervals, by agent."""
        return {agent: result.metrics for agent, result in self.agents.items()}

    @property
    def tasks(self) -> list[str]:
        """The tasks that agents were evaluated on."""
        if not self.agents:
            return []
        tables = next(iter(self.agents.values())).episodes
        return list(pl.concat(task_names(table) for table in tables).unique(maintain_order=True))

    def fastest(self) -> str | None:
        """The agent that clearly needs the fewest steps among those level with the best.

        Agents are compared in the episodes that all of them solved, if there are enough. None if there is no such agent.
        """
        if self.comparison is None or not self.comparison.tied_with_best:
            return None
        level = [self.comparison.best, *self.comparison.tied_with_best]
        solved = _episodes_all_solve([self.agents[agent].episodes for agent in level], self.column)
        counts = [len(table) for table in solved[0]]
        if not all(counts) or sum(counts) < FEWEST_PAIRS:
            return None
        speeds = compare(dict(zip(level, solved, strict=True)), "speed")
        return None if speeds.tied_with_best else speeds.best


Results = dict[str, DatasetResults]
"""Results by dataset."""


def aggregate_datasets(datasets: Iterable[DatasetResults], agents: Sequence[str]) -> Aggregates:
    """Aggregates of agents over one or several datasets on which all of them were evaluated."""
    outcomes = [
        paired_outcomes({agent: found.agents[agent].episodes for agent in agents}, found.column)
        for found in datasets
    ]
    return aggregate(agents, outcomes)


def load_results(experiment: Experiment, datasets: Mapping[str, Dataset], root: Path) -> Results:
    """Read the results of all datasets and agents of an experiment.

    Args:
        experiment: names of the datasets and agents, and the seeds.
        datasets: resolved datasets by name.
        root: folder with all results.

    Raises:
        DataError: results are missing.
    """
    return {
        name: _load_dataset(root / name, experiment, datasets[name]) for name in experiment.datasets
    }


def distance_unit(dataset: Dataset) -> str:
    """``m`` if all goals are positions in metres, else an empty string."""
    evaluations = [recipe.evaluation for recipe in dataset.recipes]
    metres = all(found and METRES.match(found.environment.id) for found in evaluations)
    return "m" if metres else ""


def _load_dataset(folder: Path, experiment: Experiment, dataset: Dataset) -> DatasetResults:
    skipped = {
        agent: str(read_json(folder / agent / SKIPPED)["reason"])
        for agent in experiment.agents
        if (folder / agent / SKIPPED).exists()
    }
    evaluated = [agent for agent in experiment.agents if agent not in skipped]
    return DatasetResults(
        {agent: _load_agent(folder / agent, experiment.seeds) for agent in evaluated},
        skipped,
        dataset.criterion,
        distance_unit(dataset),
    )


def _load_agent(folder: Path, seeds: tuple[int, ...]) -> AgentResults:
    folders = [folder / f"seed-{seed}" for seed in seeds]
    for path in folders:
        if not (path / EPISODES).exists():
            raise DataError(f"{path}: no results; run `dvc repro` to make them")
    videos = [path / ROLLOUTS for path in folders]
    planned = (path / PLANNED_ROLLOUTS for path in folders)
    values = folder / VALUE_MAP
    return AgentResults(
        [pl.read_parquet(intact(path / EPISODES)) for path in folders],
        [pl.read_parquet(intact(path / LEARNING_CURVE)) for path in folders],
        tuple(video if video.exists() else None for video in videos),
        tuple(video for video in planned if video.exists()),
        pl.read_parquet(intact(values)) if values.exists() else None,
    )


def all_metrics(results: Results) -> dict[str, Any]:
    """``{dataset: {agent: {metric: {mean, low, high, episodes, seeds}}}}``, as in ``metrics.json``."""
    return {dataset: found.metrics for dataset, found in results.items()}


def all_curves(results: Results) -> Mapping[str, dict[str, pl.DataFrame]]:
    """Learning curves across seeds by dataset and agent, for datasets with results."""
    return {dataset: found.curves for dataset, found in results.items() if found.agents}


def _episodes_all_solve(agents: list[list[pl.DataFrame]], column: str) -> list[list[pl.DataFrame]]:
    """The episodes in which all agents succeed, with a column ``speed``: minus the steps to the goal.

    Tasks are merged into one, because a seed may have such episodes for some tasks only.
    """
    solved = []
    for tables in zip(*agents, strict=True):
        shared = np.all([table[column].to_numpy() for table in tables], axis=0)
        speed = -pl.col("steps_to_goal").cast(pl.Float64)
        solved.append(
            [
                table.filter(pl.Series(shared)).with_columns(
                    speed=speed, task=pl.lit("all"), task_id=pl.lit(None, pl.Int32)
                )
                for table in tables
            ]
        )
    return [list(tables) for tables in zip(*solved, strict=True)]


def _rate(groups: list[Any]) -> Estimate:
    """The success rate across the seeds that have any episodes."""
    return rate_across_seeds([group for group in groups if len(group)])
