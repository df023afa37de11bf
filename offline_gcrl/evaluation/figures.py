"""Figures of the evaluation of one agent, and of its policies."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from offline_gcrl.config import Dataset
from offline_gcrl.evaluation.jobs import FINAL
from offline_gcrl.evaluation.plan import EvaluationPlan
from offline_gcrl.evaluation.results import SeedResult, Summary
from offline_gcrl.evaluation.value_maps import write_value_maps
from offline_gcrl.figures.goals import can_map_goals, goals_figure
from offline_gcrl.figures.gradients import draw_gradients
from offline_gcrl.figures.routing import write_routing
from offline_gcrl.figures.scenes import dataset_scene
from offline_gcrl.figures.style import save
from offline_gcrl.figures.success import curves_figure


def draw_results(
    results: Mapping[int, SeedResult], summary: Summary, dataset: Dataset, agent: str, folder: Path
) -> None:
    """Write the figures of an agent over all seeds into ``folder``, and those of each seed into ``seed-<n>``."""
    draw_result(summary.episodes, summary.curve, dataset, agent, folder)
    for seed, result in results.items():
        draw_result(result.episodes, result.curve, dataset, agent, folder / f"seed-{seed}")


def draw_result(
    episodes: pl.DataFrame, curve: pl.DataFrame, dataset: Dataset, agent: str, folder: Path
) -> None:
    """Write the map of reached and missed goals, if a map can show them, and the learning curve."""
    if can_map_goals(episodes):
        save(goals_figure({agent: episodes}, dataset_scene(dataset)), folder / "goals.svg")
    save(curves_figure({dataset.name: {agent: curve}}), folder / "learning_curve.svg")


def draw_policies(
    policies: Mapping[int, Path], plan: EvaluationPlan, agent: str, folder: Path
) -> None:
    """Write figures of the gradients of tasks, routing weights, and maps of the value of the first seed's policy.

    Args:
        policies: the folder of each training seed.
        plan: evaluation episodes of the policies.
        agent: name of the agent, for titles.
        folder: folder of the results of the agent.
    """
    draw_gradients(policies.values(), folder)
    write_routing(policies, folder)
    write_value_maps(plan[next(iter(policies)), FINAL], agent, folder)
