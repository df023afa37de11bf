"""The content of the report page for one dataset, section by section.

A section is a function of this module and the template of the same name in ``sections/``. The function returns
the variables of the template, or None if the section is left out. ``SECTIONS`` lists them in the order of the page.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from offline_gcrl.config import Dataset, Params
from offline_gcrl.config.outputs import SCHEMA, STATS
from offline_gcrl.config.published import PublishedNumbers
from offline_gcrl.figures.goals import MAX_MAP_DIMENSIONS, can_map_goals
from offline_gcrl.figures.scenes import dataset_scene
from offline_gcrl.report.drawing import (
    aggregate_pictures,
    curve_pictures,
    goal_dimensions,
    goal_pictures,
    hindsight_pictures,
    success_picture,
)
from offline_gcrl.report.facts import (
    Folders,
    dataset_card,
    dataset_facts,
    described_agents,
    fingerprints,
    hindsight_table,
    settings_of_stages,
    settings_table,
    sources_table,
    success_distance,
)
from offline_gcrl.report.films import Film, shown_film
from offline_gcrl.report.findings import Findings
from offline_gcrl.report.multitask import page_content
from offline_gcrl.report.noise import noise_content
from offline_gcrl.report.published import numbers_of, published_content, seeds_table
from offline_gcrl.report.results import DatasetResults
from offline_gcrl.report.tables import comparison_table, metrics_table, tasks_table
from offline_gcrl.report.values import planning_content, value_pictures
from offline_gcrl.report.verdict import verdict
from offline_gcrl.support.digests import read_json

Content = dict[str, Any] | None


@dataclass(frozen=True)
class ReportedDataset:
    """A dataset with its settings, results and files."""

    params: Params
    dataset: Dataset
    results: DatasetResults
    folders: Folders
    films: Mapping[Path, Film]
    """Videos that are embedded in the page, by path."""
    findings: Findings
    """Results of the probes of each agent."""

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.dataset.name

    @cached_property
    def numbers(self) -> PublishedNumbers | None:
        """The printed numbers that the experiment is compared with."""
        return numbers_of(self.params, self.folders)


def summary(subject: ReportedDataset) -> Content:
    """The recommended agent, how certain that is, and the table of metrics."""
    results, name = subject.results, subject.name
    return {
        "verdict": verdict(results),
        "skipped": results.skipped,
        "picture": success_picture(name, results) if results.agents else None,
        "table": metrics_table(name, results) if results.agents else None,
    }


def published(subject: ReportedDataset) -> Content:
    """Measured numbers next to those of papers."""
    return published_content(subject.name, subject.results, subject.numbers)


def seeds(subject: ReportedDataset) -> Content:
    """The metrics of single training runs."""
    if not subject.results.agents:
        return None
    return {"table": seeds_table(subject.name, subject.results, subject.params.experiment.seeds)}


def tasks(subject: ReportedDataset) -> Content:
    """Success rate per task and agent, if there are several tasks."""
    if len(subject.results.tasks) < 2:
        return None
    return {"table": tasks_table(subject.name, subject.results)}


def multitask(subject: ReportedDataset) -> Content:
    """Transfer, forgetting, unseen goals and wrong identifiers."""
    return page_content(subject.name, subject.findings)


def agents(subject: ReportedDataset) -> Content:
    """The algorithm and the goal mixture of each agent."""
    if not subject.results.agents:
        return None
    return {"described": described_agents(subject.params, subject.name)}


def curves(subject: ReportedDataset) -> Content:
    """Learning curves, and the distance to the goal at the end of the evaluation episodes."""
    if not subject.results.agents:
        return None
    tolerance = success_distance(subject.dataset)
    return {"pictures": curve_pictures(subject.name, subject.results, tolerance)}


def goals(subject: ReportedDataset) -> Content:
    """Maps of reached and missed goals, or the reason why there are none."""
    results = subject.results
    if not results.agents:
        return None
    scene = dataset_scene(subject.dataset)
    notes = ["Grey areas are walls, drawn to scale."] if scene.walls else []
    notes += ["The grey area is the table from above, drawn to scale."] if scene.table_top else []
    notes += ["Hatched: goals that were held out from training."] if scene.held_out else []
    if goal_dimensions(results) == MAX_MAP_DIMENSIONS:
        notes.append("The map shows the first two of three dimensions.")
    return {
        "picture": goal_pictures(subject.name, results, scene, " ".join(notes)),
        "no_map": _why_no_map(results),
    }


def values(subject: ReportedDataset) -> Content:
    """Maps of the value of each agent over the positions of mazes."""
    picture = value_pictures(subject.dataset, subject.results)
    return {"picture": picture} if picture else None


def planning(subject: ReportedDataset) -> Content:
    """Success with and without a planner."""
    return planning_content(subject.name, subject.results, subject.findings, subject.films)


def noise(subject: ReportedDataset) -> Content:
    """Success and return with noise on the actions."""
    return noise_content(subject.name, subject.results, subject.findings, subject.numbers)


def rollouts(subject: ReportedDataset) -> Content:
    """Videos by training seed, each with the number of its episodes that reached the goal."""
    seeds = enumerate(subject.params.experiment.seeds)
    rows = {seed: videos for number, seed in seeds if (videos := _videos(subject, number))}
    return {"rows": rows} if rows else None


def aggregates(subject: ReportedDataset) -> Content:
    """Aggregates over training runs, and the comparison of each pair of agents."""
    found = subject.results.aggregates
    if found is None or not found.comparison.against_best:
        return None
    table = comparison_table(subject.name, subject.name, found)
    return {"table": table, "pictures": aggregate_pictures(subject.name, found, table.name)}


def data(subject: ReportedDataset) -> Content:
    """Facts of the dataset, its sources, and the figures of its card."""
    schema = read_json(subject.folders.parquet / subject.name / SCHEMA)
    card = dataset_card(subject.folders.cards / subject.name)
    return {
        "facts": dataset_facts(schema, subject.dataset) | card["facts"],
        "table": sources_table(subject.name, schema["counts"]["sources"]),
        "pictures": card["pictures"],
    }


def hindsight(subject: ReportedDataset) -> Content:
    """Statistics of the hindsight goals."""
    statistics = read_json(subject.folders.hindsight / subject.name / STATS)
    return {
        "transitions": statistics["transitions"],
        "table": hindsight_table(subject.name, statistics),
        "pictures": hindsight_pictures(subject.name, statistics),
    }


def settings(subject: ReportedDataset) -> Content:
    """All settings, and digests of the files that they produced."""
    params, name = subject.params, subject.name
    seeds = params.experiment.seeds
    return {
        "table": settings_table(params, name),
        "stages": settings_of_stages(params, name),
        "fingerprints": fingerprints(name, subject.results, subject.folders, seeds),
    }


SECTIONS: dict[str, Callable[[ReportedDataset], Content]] = {
    section.__name__: section
    for section in (
        summary, published, tasks, multitask, agents, curves, goals, values, planning, noise, rollouts, aggregates, seeds, data, hindsight, settings,
    )
}  # fmt: skip


def sections(subject: ReportedDataset) -> dict[str, dict[str, Any]]:
    """The content of each section by its name, in the order of the page, without empty sections."""
    return {name: content for name, section in SECTIONS.items() if (content := section(subject))}


def _why_no_map(results: DatasetResults) -> str | None:
    if all(map(can_map_goals, results.episodes.values())):
        return None
    dimensions = goal_dimensions(results)
    if dimensions > MAX_MAP_DIMENSIONS:
        return f"Goals have {dimensions} dimensions here, too many for a map of reached and missed goals."
    return "The goals belong to several tasks, which have no common map. See the success rates by task."


def _videos(subject: ReportedDataset, number: int) -> list[dict[str, Any]]:
    """The videos of all agents for one training seed, given by its position among the seeds."""
    results = subject.results
    count = subject.params.evaluate_for(subject.name).video.episodes
    videos = []
    for agent, found in results.agents.items():
        path = found.videos[number] if number < len(found.videos) else None
        if path is not None:
            shown = found.episodes[number][results.column][:count]
            seed = subject.params.experiment.seeds[number]
            text = f"seed {seed}: {int(shown.sum())} of {len(shown)} goals reached"
            videos.append(shown_film(agent, text, path, subject.films))
    return videos
