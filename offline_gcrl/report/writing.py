"""Writes the report: the page, tables, figures, and numbers for ``dvc metrics`` and ``dvc plots``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offline_gcrl.config import Dataset, Params
from offline_gcrl.config.outputs import STATS
from offline_gcrl.evaluation.results import with_tasks
from offline_gcrl.figures.aggregates import (
    aggregates_figure,
    improvement_figure,
    profiles_figure,
)
from offline_gcrl.figures.goals import can_map_goals, distances_figure, goals_figure
from offline_gcrl.figures.hindsight import hindsight_figure
from offline_gcrl.figures.scenes import dataset_scene
from offline_gcrl.figures.success import curves_figure, success_figure
from offline_gcrl.report.exports import TABLES, Save, saving, write_tables
from offline_gcrl.report.facts import Folders, success_distance
from offline_gcrl.report.findings import all_findings
from offline_gcrl.report.flat import (
    episodes_csv,
    flat_comparisons,
    flat_curves,
    flat_metrics,
    headline_numbers,
    profiles_csv,
)
from offline_gcrl.report.multitask import (
    draw_multitask,
    flat_task_metrics,
    markdown_multitask,
    task_metrics,
)
from offline_gcrl.report.noise import draw_noise
from offline_gcrl.report.page import ALL, overall_aggregates, page_content, render_page
from offline_gcrl.report.published import draw_published, flat_seeds, latex_report, numbers_of
from offline_gcrl.report.results import DatasetResults, Results, all_curves, all_metrics
from offline_gcrl.report.routing import draw_routing, flat_routing
from offline_gcrl.report.tables import markdown_report, markdown_table
from offline_gcrl.report.values import draw_values
from offline_gcrl.statistics.aggregates import Aggregates
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
    overall = overall_aggregates(results)
    with replaced_directory(output) as folder:
        write_json(folder / "metrics.json", _with_tasks(metrics, by_task))
        write_json(folder / "headline.json", headline_numbers(results))
        write_text(folder / "table.md", markdown_table(results))
        write_text(folder / "report.md", markdown_report(results))
        write_text(folder / "table.csv", flat_metrics(metrics).write_csv())
        numbers, seeds = numbers_of(params, folders), params.experiment.seeds
        write_text(folder / "table.tex", latex_report(results, seeds, numbers))
        write_text(folder / "seeds.csv", flat_seeds(results, seeds).write_csv())
        write_text(folder / "comparison.csv", flat_comparisons(results).write_csv())
        write_text(folder / "tasks.csv", flat_task_metrics(by_task).write_csv())
        write_text(folder / "routing.csv", flat_routing(findings).write_csv())
        write_text(folder / "multitask.md", markdown_multitask(findings))
        write_text(folder / "learning_curves.csv", flat_curves(curves).write_csv())
        save = saving(folder)
        _draw(datasets, results, folders, save)
        if overall:
            _draw_aggregates(overall, ALL, save)
        draw_multitask(findings, save)
        draw_routing(findings, save)
        draw_published(results, numbers, save)
        draw_noise(results, findings, numbers, save)
        content = page_content(params, datasets, results, folders, findings, overall)
        write_tables(content, folder / TABLES)
        _write_data(results, overall, folder / TABLES)
        write_text(folder / "index.html", render_page(content))
    return metrics


def _draw(datasets: Mapping[str, Dataset], results: Results, folders: Folders, save: Save) -> None:
    """Write the figures of all agents, and those of each dataset."""
    evaluated = {name: found for name, found in results.items() if found.agents}
    if evaluated:
        _draw_rates(evaluated, "", save)
    for name, found in results.items():
        statistics = read_json(folders.hindsight / name / STATS)
        save(hindsight_figure(statistics), f"hindsight-{name}")
        if found.aggregates:
            _draw_rates({name: found}, f"-{name}", save)
            _draw_episodes(datasets[name], found, save)
            draw_values(datasets[name], found, save)
            if found.aggregates.comparison.against_best:
                _draw_aggregates(found.aggregates, name, save)


def _draw_rates(results: Results, suffix: str, save: Save) -> None:
    """Write success rates and learning curves of datasets in one figure each."""
    headlines = {name: found.metric for name, found in results.items()}
    seeds = {name: found.seed_rates for name, found in results.items()}
    save(success_figure(all_metrics(results), headlines, seeds), f"success{suffix}")
    seed_curves = {name: found.seed_curves for name, found in results.items()}
    save(curves_figure(all_curves(results), seed_curves), f"learning_curves{suffix}")


def _draw_aggregates(found: Aggregates, name: str, save: Save) -> None:
    save(aggregates_figure(found), f"aggregates-{name}")
    save(profiles_figure(found), f"profiles-{name}")
    save(improvement_figure(found), f"improvement-{name}")


def _write_data(results: Results, overall: Aggregates | None, folder: Path) -> None:
    """Write the numbers that figures are drawn from, beyond those of the tables."""
    for name, found in {ALL: overall, **{k: v.aggregates for k, v in results.items()}}.items():
        if found is not None:
            write_text(folder / f"profiles-{name}.csv", profiles_csv(found))
    for name, own in results.items():
        if own.agents:
            write_text(folder / f"episodes-{name}.csv", episodes_csv(own))


def _with_tasks(metrics: Mapping[str, Any], by_task: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of all agents; the metrics of each task are under the key ``tasks`` of the agent."""
    return {
        dataset: {
            agent: with_tasks(values, by_task.get(dataset, {}).get(agent, {}))
            for agent, values in agents.items()
        }
        for dataset, agents in metrics.items()
    }


def _draw_episodes(dataset: Dataset, found: DatasetResults, save: Save) -> None:
    """Write figures of where the evaluation episodes of a dataset ended."""
    distances = distances_figure(found.episodes, success_distance(dataset), found.unit)
    save(distances, f"distances-{dataset.name}")
    if all(map(can_map_goals, found.episodes.values())):
        goals = goals_figure(found.episodes, dataset_scene(dataset))
        save(goals, f"goals-{dataset.name}")
