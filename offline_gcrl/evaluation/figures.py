"""Figures of one evaluated agent."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from offline_gcrl.config import Dataset
from offline_gcrl.evaluation.results import SeedResult, Summary
from offline_gcrl.figures.goals import can_map_goals, goals_figure
from offline_gcrl.figures.scenes import dataset_scene
from offline_gcrl.figures.style import save
from offline_gcrl.figures.success import curves_figure


def draw_results(
    results: Mapping[int, SeedResult], over: Summary, dataset: Dataset, agent: str, folder: Path
) -> None:
    """Draw how one agent was judged: over all seeds, and below it each seed."""
    draw_result(over.episodes, over.curve, dataset, agent, folder)
    for seed, result in results.items():
        draw_result(result.episodes, result.curve, dataset, agent, folder / f"seed-{seed}")


def draw_result(
    episodes: pl.DataFrame, curve: pl.DataFrame, dataset: Dataset, agent: str, folder: Path
) -> None:
    """Draw how one agent was judged: where goals were reached and missed, and its learning curve."""
    if can_map_goals(episodes):
        save(goals_figure({agent: episodes}, dataset_scene(dataset)), folder / "goals.svg")
    save(curves_figure({dataset.name: {agent: curve}}), folder / "learning_curve.svg")
