"""What evaluation left for each dataset and agent, gathered over training seeds."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from offline_gcrl.config import Dataset, Experiment
from offline_gcrl.config.outputs import EPISODES, LEARNING_CURVE, ROLLOUTS, SKIPPED
from offline_gcrl.evaluation.results import (
    HEADLINES,
    SUCCESS_COLUMNS,
    curve_across_seeds,
    summarise,
)
from offline_gcrl.statistics.comparison import Comparison, compare, task_names
from offline_gcrl.statistics.intervals import Estimate, rate_across_seeds
from offline_gcrl.support.errors import DataError

METRES = re.compile(r"(PointMaze|AntMaze|Fetch|HandReach|ogbench:(point|ant)maze|.*MetaWorld)")
"""Ids of environments whose goals are places, in metres."""


@dataclass(frozen=True)
class AgentResults:
    """All seeds of one dataset and agent."""

    episodes: list[pl.DataFrame]
    curves: list[pl.DataFrame]
    videos: tuple[Path | None, ...] = ()
    """One a seed, where it could be filmed."""

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Metrics with intervals across seeds."""
        return summarise(self.episodes)

    @cached_property
    def all_episodes(self) -> pl.DataFrame:
        """The episodes of all seeds."""
        return pl.concat(self.episodes)

    @cached_property
    def curve(self) -> pl.DataFrame:
        """The learning curve over all seeds: update, mean, low, high."""
        return curve_across_seeds(self.curves)

    def success_by_task(self, column: str = "success") -> dict[str, Estimate]:
        """Rate of a column of successes for each task, over all seeds."""
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
    """All agents of one dataset: those that were judged, and why others were not."""

    agents: dict[str, AgentResults]
    skipped: dict[str, str]
    """Reason by agent."""
    criterion: str = "last_step"
    """Which success is put first: at the ``last_step``, or at ``any_step``."""
    unit: str = ""
    """Of distances between goals, where they have one."""

    @property
    def metric(self) -> str:
        """The success rate that is put first."""
        return HEADLINES[self.criterion]

    @property
    def column(self) -> str:
        """The column of episodes that says of each whether it succeeded."""
        return SUCCESS_COLUMNS[self.criterion]

    @cached_property
    def episodes(self) -> dict[str, pl.DataFrame]:
        """All episodes of each agent, whose ``success`` is the one that is put first."""
        success = pl.col(self.column).alias("success")
        return {
            name: found.all_episodes.with_columns(success) for name, found in self.agents.items()
        }

    @cached_property
    def comparison(self) -> Comparison | None:
        """The agents beside each other; None where none was judged."""
        if not self.agents:
            return None
        tables = {agent: result.episodes for agent, result in self.agents.items()}
        return compare(tables, self.column)

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics with intervals, by agent."""
        return {agent: result.metrics for agent, result in self.agents.items()}

    @property
    def tasks(self) -> list[str]:
        """Tasks that the agents were judged on."""
        if not self.agents:
            return []
        tables = next(iter(self.agents.values())).episodes
        return list(pl.concat(task_names(table) for table in tables).unique(maintain_order=True))

    def fastest(self) -> str | None:
        """Of agents level with the best, the one that clearly arrives fastest where all of them arrive."""
        if self.comparison is None or not self.comparison.tied_with_best:
            return None
        level = [self.comparison.best, *self.comparison.tied_with_best]
        arrivals = _episodes_all_solve(
            [self.agents[agent].episodes for agent in level], self.column
        )
        if not all(len(table) for table in arrivals[0]):
            return None
        swiftness = compare(dict(zip(level, arrivals, strict=True)), "swiftness")
        return None if swiftness.tied_with_best else swiftness.best


Results = dict[str, DatasetResults]
"""By dataset."""


def load_results(experiment: Experiment, datasets: Mapping[str, Dataset], root: Path) -> Results:
    """The results of everything that an experiment names.

    Args:
        experiment: what ran.
        datasets: as they were resolved, by name.
        root: the folder of all results.

    Raises:
        DataError: some of them are missing.
    """
    return {
        name: _load_dataset(root / name, experiment, datasets[name]) for name in experiment.datasets
    }


def distance_unit(dataset: Dataset) -> str:
    """``m`` where all goals are places in a simulator that measures in metres, else nothing."""
    judged = [recipe.evaluation for recipe in dataset.recipes]
    metres = all(found and METRES.match(found.environment.id) for found in judged)
    return "m" if metres else ""


def _load_dataset(folder: Path, experiment: Experiment, dataset: Dataset) -> DatasetResults:
    skipped = {
        agent: str(json.loads((folder / agent / SKIPPED).read_text())["reason"])
        for agent in experiment.agents
        if (folder / agent / SKIPPED).exists()
    }
    judged = [agent for agent in experiment.agents if agent not in skipped]
    return DatasetResults(
        {agent: _load_agent(folder / agent, experiment.seeds) for agent in judged},
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
    return AgentResults(
        [pl.read_parquet(path / EPISODES) for path in folders],
        [pl.read_parquet(path / LEARNING_CURVE) for path in folders],
        tuple(video if video.exists() else None for video in videos),
    )


def all_metrics(results: Results) -> dict[str, Any]:
    """``{dataset: {agent: {metric: {mean, low, high, episodes, seeds}}}}``, as in ``metrics.json``."""
    return {dataset: found.metrics for dataset, found in results.items()}


def all_curves(results: Results) -> Mapping[str, dict[str, pl.DataFrame]]:
    """Learning curves over all seeds, of datasets with results."""
    return {
        dataset: {agent: result.curve for agent, result in found.agents.items()}
        for dataset, found in results.items()
        if found.agents
    }


def _episodes_all_solve(agents: list[list[pl.DataFrame]], column: str) -> list[list[pl.DataFrame]]:
    """The episodes in which all agents succeed, with how soon each did: minus its steps.

    Of all tasks together: a seed may have such episodes of some tasks only.
    """
    arrivals = []
    for tables in zip(*agents, strict=True):
        shared = np.all([table[column].to_numpy() for table in tables], axis=0)
        swiftness = -pl.col("steps_to_goal").cast(pl.Float64)
        arrivals.append(
            [
                table.filter(pl.Series(shared)).with_columns(
                    swiftness=swiftness, task=pl.lit("all"), task_id=pl.lit(None, pl.Int32)
                )
                for table in tables
            ]
        )
    return [list(tables) for tables in zip(*arrivals, strict=True)]


def _rate(groups: list[Any]) -> Estimate:
    """Over the seeds that have any of what is counted."""
    return rate_across_seeds([group for group in groups if len(group)])
