"""What a person looks at after a run: one table, a few figures, and numbers for ``dvc metrics``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from offline_gcrl.config import Dataset, Experiment
from offline_gcrl.errors import DataError
from offline_gcrl.evaluation import EPISODES, LEARNING_CURVE, summarise
from offline_gcrl.figures import (
    curves_figure,
    dataset_walls,
    goals_figure,
    has_places,
    hindsight_figure,
    save,
    success_figure,
)
from offline_gcrl.files import atomic_directory, write_json, write_text
from offline_gcrl.hindsight.relabel import STATS
from offline_gcrl.intervals import rate_across_seeds

COLUMNS = {
    "success_rate": "success (last step)",
    "success_any_rate": "success (any step)",
    "final_distance": "final distance",
    "discounted_return": "discounted return",
    "steps_to_goal": "steps to goal",
}


@dataclass(frozen=True)
class AgentResults:
    """All seeds of one dataset and agent."""

    episodes: list[pl.DataFrame]
    curves: list[pl.DataFrame]

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics with intervals across seeds."""
        return summarise(self.episodes)

    @property
    def curve(self) -> pl.DataFrame:
        """The learning curve over all seeds: update, mean, low, high."""
        rows = []
        for (update,), group in pl.concat(self.curves).group_by("update", maintain_order=True):
            rates = [_outcomes(row["mean"], row["episodes"]) for row in group.iter_rows(named=True)]
            rows.append({"update": update, **rate_across_seeds(rates).__dict__})
        return pl.DataFrame(rows)


Results = dict[str, dict[str, AgentResults]]
"""By dataset and agent."""


def load_results(experiment: Experiment, root: Path) -> Results:
    """The results of everything that an experiment names.

    Raises:
        DataError: some of them are missing.
    """
    return {
        dataset: {
            agent: _load_agent(root / dataset / agent, experiment.seeds)
            for agent in experiment.agents
        }
        for dataset in experiment.datasets
    }


def write_report(
    results: Results, datasets: dict[str, Dataset], hindsight: Path, output: Path
) -> dict[str, Any]:
    """Write tables and figures into ``output``.

    Returns:
        ``{dataset: {agent: {metric: {mean, low, high, episodes, seeds}}}}``, as in ``metrics.json``.
    """
    metrics = {
        dataset: {agent: result.metrics for agent, result in agents.items()}
        for dataset, agents in results.items()
    }
    write_json(output / "metrics.json", metrics)
    write_text(output / "table.md", markdown_table(metrics))
    write_text(output / "table.csv", _flat_table(metrics).write_csv())
    curves = {
        dataset: {agent: result.curve for agent, result in agents.items()}
        for dataset, agents in results.items()
    }
    write_text(output / "learning_curves.csv", _flat_curves(curves).write_csv())
    with atomic_directory(output / "figures") as figures:
        save(success_figure(metrics), figures / "success.svg")
        save(curves_figure(curves), figures / "learning_curves.svg")
        _draw_datasets(results, datasets, hindsight, figures)
    return metrics


def _draw_datasets(
    results: Results, datasets: dict[str, Dataset], hindsight: Path, figures: Path
) -> None:
    """The figures of each dataset."""
    for dataset, agents in results.items():
        episodes = {agent: pl.concat(result.episodes) for agent, result in agents.items()}
        if all(map(has_places, episodes.values())):
            walls = dataset_walls(datasets[dataset])
            save(goals_figure(episodes, walls), figures / f"goals-{dataset}.svg")
        statistics = json.loads((hindsight / dataset / STATS).read_text())
        save(hindsight_figure(statistics), figures / f"hindsight-{dataset}.svg")


def markdown_table(metrics: dict[str, Any]) -> str:
    """A table a dataset: a row an agent, each number with its 95% interval."""
    lines = []
    for dataset, agents in metrics.items():
        some = next(iter(agents.values()))["success_rate"]
        lines += [
            f"**{dataset}**: {some['seeds']} seeds, {some['episodes']} episodes, 95% intervals",
            "",
            f"| agent | {' | '.join(COLUMNS.values())} |",
            f"|---|{'---|' * len(COLUMNS)}",
        ]
        for agent, values in agents.items():
            cells = [_cell(values[column]) for column in COLUMNS]
            lines.append(f"| {agent} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _load_agent(folder: Path, seeds: tuple[int, ...]) -> AgentResults:
    folders = [folder / f"seed-{seed}" for seed in seeds]
    for path in folders:
        if not (path / EPISODES).exists():
            raise DataError(f"{path}: no results; run `dvc repro` to make them")
    return AgentResults(
        [pl.read_parquet(path / EPISODES) for path in folders],
        [pl.read_parquet(path / LEARNING_CURVE) for path in folders],
    )


def _outcomes(rate: float, episodes: int) -> Any:
    """Ones and zeros with this rate."""
    return (np.arange(episodes) < round(rate * episodes)).astype(np.float64)


def _cell(values: dict[str, Any]) -> str:
    if values["mean"] is None:
        return "none"
    digits = 1 if values["mean"] >= 10 else 2
    mean, low, high = (f"{values[part]:.{digits}f}" for part in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _flat_table(metrics: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"dataset": dataset, "agent": agent, "metric": metric, **values}
            for dataset, agents in metrics.items()
            for agent, by_metric in agents.items()
            for metric, values in by_metric.items()
        ]
    )


def _flat_curves(curves: dict[str, dict[str, pl.DataFrame]]) -> pl.DataFrame:
    """One row a dataset, agent and snapshot, for ``dvc plots``."""
    return pl.concat(
        curve.select(
            pl.lit(dataset).alias("dataset"),
            pl.lit(agent).alias("agent"),
            pl.lit(f"{dataset}: {agent}").alias("run"),
            "update",
            pl.col("mean").alias("success_rate"),
            "low",
            "high",
        )
        for dataset, agents in curves.items()
        for agent, curve in agents.items()
    )
