"""Results of an evaluation: tables of episodes, metrics with intervals, learning curves."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config.outputs import EPISODES, LEARNING_CURVE, METRICS, TASK_CURVES
from offline_gcrl.statistics.intervals import across_seeds, rate_across_seeds, wilson
from offline_gcrl.support.files import write_json
from offline_gcrl.support.numbers import with_interval
from offline_gcrl.support.tables import write_parquet

SUCCESS_COLUMNS = {"last_step": "success", "any_step": "success_any"}
HEADLINES = {"last_step": "success_rate", "any_step": "success_any_rate"}
"""The column of episodes and the metric with the main success, by the recipe's criterion."""
EPISODE_COLUMNS: dict[str, Any] = {
    "update": pl.Int64,
    "episode": pl.Int32,
    "seed": pl.Int64,
    "task": pl.String,
    "task_id": pl.Int32,
    "start": pl.List(pl.Float64),
    "goal": pl.List(pl.Float64),
    "instruction": pl.String,
    "held_out": pl.Boolean,
    "success": pl.Boolean,
    "success_any": pl.Boolean,
    "final_distance": pl.Float64,
    "return": pl.Float64,
    "discounted_return": pl.Float64,
    "steps_to_goal": pl.Int32,
    "length": pl.Int32,
}


def episode_table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """The table of episodes from its rows."""
    return pl.DataFrame(list(rows), schema=EPISODE_COLUMNS)


Metrics = dict[str, dict[str, float | int | None]]
"""By metric: mean, low and high of the interval, and the number of episodes and seeds."""


@dataclass(frozen=True)
class SeedResult:
    """The results of one training seed."""

    episodes: pl.DataFrame
    curve: pl.DataFrame
    task_curves: pl.DataFrame = field(default_factory=pl.DataFrame)
    """The learning curve of each task; empty if there is only one task."""

    @functools.cached_property
    def metrics(self) -> Metrics:
        """Metrics with intervals."""
        return summarise([self.episodes])

    @functools.cached_property
    def by_task(self) -> dict[str, Metrics]:
        """Metrics of each task; empty if there is only one."""
        return summarise_by_task([self.episodes])

    def write(self, folder: Path) -> None:
        """Write ``episodes.parquet``, ``curve.parquet``, ``metrics.json`` and, for suites, ``task_curves.parquet``."""
        folder.mkdir(parents=True)
        write_parquet(self.episodes, folder / EPISODES)
        write_parquet(self.curve, folder / LEARNING_CURVE)
        if len(self.task_curves):
            write_parquet(self.task_curves, folder / TASK_CURVES)
        write_json(folder / METRICS, with_tasks(self.metrics, self.by_task))


@dataclass(frozen=True)
class Summary:
    """The results of several training seeds together."""

    episodes: pl.DataFrame
    curve: pl.DataFrame
    task_curves: pl.DataFrame
    metrics: Metrics
    by_task: dict[str, Metrics]

    def sentence(self, headline: str) -> str:
        """The main success rate as text, for the closing line of the stage."""
        rate = self.metrics[headline]
        success = with_interval(rate)
        return f"success {success}, {rate['seeds']} seed(s), {rate['episodes']} episodes"


def combine_seeds(results: Sequence[SeedResult]) -> Summary:
    """Combine the results of several seeds; intervals are across seeds."""
    tables = [result.episodes for result in results]
    return Summary(
        pl.concat(tables),
        curve_across_seeds([result.curve for result in results]),
        task_curves_across_seeds([result.task_curves for result in results]),
        summarise(tables),
        summarise_by_task(tables),
    )


def with_tasks(metrics: Metrics, by_task: Mapping[str, Metrics]) -> dict[str, Any]:
    """Metrics in the format of ``metrics.json``: the metrics of several tasks are under the key ``tasks``."""
    return {**metrics, "tasks": dict(by_task)} if by_task else dict(metrics)


def flat_metrics(result: SeedResult | Summary) -> dict[str, float]:
    """Metrics as ``name``, ``name_low`` and ``name_high``; the metrics of a task end in ``/<task>``."""
    found = flat(result.metrics)
    for task, metrics in result.by_task.items():
        found |= {f"{name}/{task}": value for name, value in flat(metrics).items()}
    return found


def flat(metrics: Metrics) -> dict[str, float]:
    """Metrics as ``name``, ``name_low`` and ``name_high``, without those that no episode has."""
    return {
        name if part == "mean" else f"{name}_{part}": float(value)
        for name, values in metrics.items()
        for part in ("mean", "low", "high")
        if (value := values[part]) is not None
    }


def _task_name(task: str, task_id: int | None) -> str:
    return task if task_id is None else f"{task}/{task_id}"


def summarise(tables: list[pl.DataFrame]) -> Metrics:
    """Metrics with 95% intervals over the episodes of one or several training seeds.

    Each metric has the number of its episodes. ``steps_to_goal`` uses only episodes that reached the goal. A metric of a
    single episode has no interval, because nothing is known of how much it varies; a rate has Wilson's.
    """
    counts = {"episodes": sum(map(len, tables)), "seeds": len(tables)}
    summary: Metrics = {}
    for name, column in (("success_rate", "success"), ("success_any_rate", "success_any")):
        groups = [table[column].cast(pl.Float64).to_numpy() for table in tables]
        summary[name] = {**rate_across_seeds(groups).__dict__, **counts}
    for name in ("final_distance", "return", "discounted_return", "steps_to_goal"):
        groups = [table[name].drop_nulls().cast(pl.Float64).to_numpy() for table in tables]
        groups = [group for group in groups if len(group)]
        used = {"episodes": sum(map(len, groups)), "seeds": len(groups)}
        summary[name] = {**_fields(groups), **used}
    return summary


def summarise_by_task(tables: list[pl.DataFrame]) -> dict[str, Metrics]:
    """``summarise`` for each task and each of its fixed tasks; empty if there is only one."""
    every = pl.concat(tables)
    keys = every.select("task", "task_id").unique(maintain_order=True).sort("task", "task_id")
    if len(keys) < 2:
        return {}
    return {
        _task_name(task, task_id): summarise(
            [
                table.filter(pl.col("task") == task, pl.col("task_id").eq_missing(task_id))
                for table in tables
            ]
        )
        for task, task_id in keys.iter_rows()
    }


def learning_curve(table: pl.DataFrame, success: str = "success") -> pl.DataFrame:
    """Success rate with Wilson's interval at each snapshot.

    Returns:
        Columns update, mean, low, high, episodes.
    """
    counts = (
        table.group_by("update")
        .agg(successes=pl.col(success).sum(), episodes=pl.len())
        .sort("update")
    )
    rows = [
        {"update": row["update"], **wilson(row["successes"], row["episodes"]).__dict__}
        | {"episodes": row["episodes"]}
        for row in counts.iter_rows(named=True)
    ]
    return pl.DataFrame(
        rows,
        schema={
            "update": pl.Int64,
            "mean": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "episodes": pl.Int64,
        },
    )


def task_curves(table: pl.DataFrame, success: str = "success") -> pl.DataFrame:
    """The learning curve of each task; empty if there is only one task.

    Returns:
        Columns task, update, mean, low, high, episodes.
    """
    tasks = table["task"].unique(maintain_order=True)
    if len(tasks) < 2:
        return pl.DataFrame()
    return pl.concat(
        learning_curve(table.filter(pl.col("task") == task), success).select(
            pl.lit(task).alias("task"), pl.all()
        )
        for task in tasks
    )


def task_curves_across_seeds(curves: list[pl.DataFrame]) -> pl.DataFrame:
    """The learning curve of each task across seeds: columns task, update, mean, low, high."""
    if not len(curves[0]):
        return pl.DataFrame()
    return pl.concat(
        curve_across_seeds([curve.filter(pl.col("task") == task) for curve in curves]).select(
            pl.lit(task).alias("task"), pl.all()
        )
        for task in curves[0]["task"].unique(maintain_order=True)
    )


def curve_across_seeds(curves: list[pl.DataFrame]) -> pl.DataFrame:
    """The learning curve across seeds, from the curve of each seed: columns update, mean, low, high."""
    rows = []
    for (update,), group in pl.concat(curves).group_by("update", maintain_order=True):
        rates = [
            outcomes_of_rate(row["mean"], row["episodes"]) for row in group.iter_rows(named=True)
        ]
        rows.append({"update": update, **rate_across_seeds(rates).__dict__})
    return pl.DataFrame(rows)


def outcomes_of_rate(rate: float, episodes: int) -> NDArray[np.float64]:
    """``episodes`` outcomes of 0 or 1 with the given mean; one of them is between if no number of successes has this mean."""
    outcomes: NDArray[np.float64] = np.clip(
        round(rate * episodes, 6) - np.arange(episodes), 0.0, 1.0
    )
    return outcomes


def _fields(groups: list[NDArray[np.float64]]) -> dict[str, float | None]:
    """Mean and interval of the values of each seed that has any."""
    if not groups:  # No episode reached its goal, so there are no steps to it.
        return {"mean": None, "low": None, "high": None}
    if sum(map(len, groups)) == 1:
        return {"mean": float(groups[0][0]), "low": None, "high": None}
    return dict(across_seeds(groups).__dict__)
