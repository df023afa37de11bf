"""Writes the report: the page, tables, figures, and numbers for ``dvc metrics`` and ``dvc plots``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offline_gcrl.config import Dataset, Params
from offline_gcrl.config.outputs import STATS
from offline_gcrl.evaluation.results import with_tasks
from offline_gcrl.figures.goals import can_map_goals, distances_figure, goals_figure
from offline_gcrl.figures.hindsight import hindsight_figure
from offline_gcrl.figures.scenes import dataset_scene
from offline_gcrl.figures.style import save
from offline_gcrl.figures.success import curves_figure, success_figure
from offline_gcrl.report.facts import Folders, success_distance
from offline_gcrl.report.findings import all_findings
from offline_gcrl.report.multitask import (
    draw_multitask,
    flat_task_metrics,
    markdown_multitask,
    task_metrics,
)
from offline_gcrl.report.page import render_page
from offline_gcrl.report.results import DatasetResults, Results, all_curves, all_metrics
from offline_gcrl.report.routing import draw_routing, flat_routing
from offline_gcrl.report.tables import (
    flat_comparisons,
    flat_curves,
    flat_metrics,
    headline_numbers,
    markdown_report,
    markdown_table,
)
from offline_gcrl.report.values import draw_values
from offline_gcrl.support.digests import read_json
from offline_gcrl.support.files import replaced_directory, write_json, write_text


def write_report(
    params: Params,
    datasets: Mapping[str, Dataset],
    results: Results,
    folders: Folders,
    output: Path,
) -> dict[str, Any]:
    """Write the page, tables and figures into ``output``, which is replaced at once.

    Returns:
        ``{dataset: {agent: {metric: {mean, low, high, episodes, seeds}}}}``. ``metrics.json`` also contains the
        metrics of each task.
    """
    metrics, curves, by_task = all_metrics(results), all_curves(results), task_metrics(results)
    findings = all_findings(params, datasets, results, folders.results)
    with replaced_directory(output) as folder:
        write_json(folder / "metrics.json", _with_tasks(metrics, by_task))
        write_json(folder / "headline.json", headline_numbers(results))
        write_text(folder / "table.md", markdown_table(results))
        write_text(folder / "report.md", markdown_report(results))
        write_text(folder / "table.csv", flat_metrics(metrics).write_csv())
        write_text(folder / "comparison.csv", flat_comparisons(results).write_csv())
        write_text(folder / "tasks.csv", flat_task_metrics(by_task).write_csv())
        write_text(folder / "routing.csv", flat_routing(findings).write_csv())
        write_text(folder / "multitask.md", markdown_multitask(findings))
        write_text(folder / "learning_curves.csv", flat_curves(curves).write_csv())
        figures = folder / "figures"
        figures.mkdir()
        _draw(datasets, results, folders, figures)
        draw_multitask(findings, figures)
        draw_routing(findings, figures)
        page = render_page(params, datasets, results, folders, findings)
        write_text(folder / "index.html", page)
    return metrics


def _draw(
    datasets: Mapping[str, Dataset], results: Results, folders: Folders, figures: Path
) -> None:
    """Write the figures of all agents, and those of each dataset."""
    metrics, curves = all_metrics(results), all_curves(results)
    if curves:
        evaluated = {name: agents for name, agents in metrics.items() if agents}
        headlines = {name: found.metric for name, found in results.items()}
        save(success_figure(evaluated, headlines), figures / "success.svg")
        save(curves_figure(curves), figures / "learning_curves.svg")
    for name, found in results.items():
        statistics = read_json(folders.hindsight / name / STATS)
        save(hindsight_figure(statistics), figures / f"hindsight-{name}.svg")
        _draw_episodes(datasets[name], found, figures)
        draw_values(datasets[name], found, figures)


def _with_tasks(metrics: Mapping[str, Any], by_task: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of all agents; the metrics of each task are under the key ``tasks`` of the agent."""
    return {
        dataset: {
            agent: with_tasks(values, by_task.get(dataset, {}).get(agent, {}))
            for agent, values in agents.items()
        }
        for dataset, agents in metrics.items()
    }


def _draw_episodes(dataset: Dataset, found: DatasetResults, figures: Path) -> None:
    """Write figures of where the evaluation episodes of a dataset ended."""
    if not found.agents:
        return
    distances = distances_figure(found.episodes, success_distance(dataset), found.unit)
    save(distances, figures / f"distances-{dataset.name}.svg")
    if all(map(can_map_goals, found.episodes.values())):
        goals = goals_figure(found.episodes, dataset_scene(dataset))
        save(goals, figures / f"goals-{dataset.name}.svg")
