"""The page that a person opens after a run: one file, nothing fetched, the same bytes for the same inputs.

It holds no date and no commit: `dvc.lock` of the commit that it was made in identifies code and data,
and the fingerprints on the page identify the data themselves.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from offline_gcrl.comparison import Comparison, compare_outcomes, over_datasets, paired_outcomes
from offline_gcrl.config import Dataset, Params
from offline_gcrl.episodes.schema import SCHEMA
from offline_gcrl.figures import MOST_DRAWN, PALETTE, dataset_scene, has_places
from offline_gcrl.hindsight.relabel import STATS
from offline_gcrl.report.drawing import (
    Picture,
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
    settings_of_agents,
    settings_of_stages,
    success_distance,
    versions,
)
from offline_gcrl.report.findings import Findings, all_findings
from offline_gcrl.report.multitask import models_said, page_parts
from offline_gcrl.report.results import DatasetResults, Results
from offline_gcrl.report.tables import COLUMNS, cell, rank_text
from offline_gcrl.report.verdict import interval, verdict

MOST_VIDEO_BYTES = 6_000_000
"""Videos beyond this sum are named on the page, and not put into it."""


def render_page(
    params: Params,
    datasets: Mapping[str, Dataset],
    results: Results,
    folders: Folders,
    findings: Mapping[str, Findings] | None = None,
) -> str:
    """The whole page as HTML; findings of the probes are read where they are not given."""
    if findings is None:
        findings = all_findings(params, datasets, results, folders.results)
    videos = _embedded(results)
    told = [
        _dataset(params, datasets[name], found, folders, videos)
        | {"multitask": page_parts(name, findings[name])}
        for name, found in results.items()
    ]
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["interval"] = interval
    return templates.get_template("page.html.jinja").render(
        experiment=params.experiment,
        datasets=told,
        overall=_overall(results),
        sharing_models=models_said(findings),
        colours=_colours(params.experiment.agents),
        versions=versions(),
        style=(Path(__file__).parent / "page.css").read_text(),
    )


def _dataset(
    params: Params,
    dataset: Dataset,
    results: DatasetResults,
    folders: Folders,
    videos: Mapping[Path, str],
) -> dict[str, Any]:
    """All that the page says of one dataset."""
    name = dataset.name
    schema = json.loads((folders.parquet / name / SCHEMA).read_text())
    statistics = json.loads((folders.hindsight / name / STATS).read_text())
    return {
        "name": name,
        "title": dataset.title,
        "instructions": list(dict.fromkeys(recipe.instruction for recipe in dataset.recipes)),
        "success": {"last_step": "at the last step", "any_step": "at any step"}[results.criterion],
        "verdict": verdict(results),
        "skipped": results.skipped,
        "agents": _agent_rows(results),
        "comparison": results.comparison,
        "tasks": _task_rows(results),
        "pictures": _pictures(dataset, results, statistics),
        "no_map": _why_no_map(results),
        "map_key": _map_key(dataset, results),
        "rollouts": _rollouts(params, name, results, videos),
        "facts": dataset_facts(schema, dataset),
        "sources": schema["counts"]["sources"],
        "card": dataset_card(folders.cards / name),
        "hindsight": statistics,
        "described": described_agents(params, name),
        "settings": settings_of_stages(params, name),
        "agent_settings": settings_of_agents(params, name),
        "fingerprints": fingerprints(name, results, folders, params.experiment.seeds),
    }


def _agent_rows(results: DatasetResults) -> list[dict[str, Any]]:
    """The headline table, the best agent first."""
    comparison = results.comparison
    if comparison is None:
        return []
    return [
        {
            "name": agent,
            "rank": rank_text(standing.rank, standing.rank_low, standing.rank_high),
            "middle": standing.interquartile_mean,
            "rival": comparison.rivals.get(agent),
            "success": cell(results.metrics[agent][results.metric]),
            "numbers": {name: cell(results.metrics[agent][name]) for name in COLUMNS},
        }
        for agent, standing in comparison.standings.items()
    ]


def _task_rows(results: DatasetResults) -> list[dict[str, Any]]:
    """Success for each task, where there is more than one."""
    if len(results.tasks) < 2:
        return []
    rates = {
        agent: found.success_by_task(results.column) for agent, found in results.agents.items()
    }
    return [
        {"name": task, "rates": {agent: by_task[task] for agent, by_task in rates.items()}}
        for task in results.tasks
    ]


def _overall(results: Results) -> Comparison | None:
    """All agents over all datasets that were judged, where there are several."""
    judged = [found for found in results.values() if found.agents]
    if len(judged) < 2:
        return None
    names = [agent for agent in judged[0].agents if all(agent in found.agents for found in judged)]
    outcomes = [
        paired_outcomes({agent: found.agents[agent].episodes for agent in names}, found.column)
        for found in judged
    ]
    return compare_outcomes(names, over_datasets(outcomes)) if names else None


def _pictures(
    dataset: Dataset, results: DatasetResults, statistics: Mapping[str, Any]
) -> dict[str, list[Picture]]:
    name = dataset.name
    hindsight = hindsight_pictures(name, statistics)
    if not results.agents:
        return {"success": [], "curves": [], "goals": [], "hindsight": hindsight}
    return {
        "success": [success_picture(name, results)],
        "curves": curve_pictures(name, results, success_distance(dataset)),
        "goals": goal_pictures(name, results, dataset_scene(dataset)),
        "hindsight": hindsight,
    }


def _why_no_map(results: DatasetResults) -> str | None:
    if all(map(has_places, results.episodes.values())):
        return None
    dimensions = goal_dimensions(results)
    if dimensions > MOST_DRAWN:
        return f"A goal here is {dimensions} numbers: too many to draw as a map of reached and missed goals."
    return "The goals are of several tasks, each in a place of its own: see success by task."


def _map_key(dataset: Dataset, results: DatasetResults) -> str:
    """What the maps show beside the goals."""
    if not results.agents:
        return ""
    scene = dataset_scene(dataset)
    said = ["Grey: the walls, to scale."] if scene.walls else []
    said += ["Grey: the table from above, to scale."] if scene.table_top else []
    said += ["Hatched: goals that were held out from training."] if scene.held_out else []
    if goal_dimensions(results) == MOST_DRAWN:
        said.append("Drawn in the first two of three dimensions.")
    return " ".join(said)


def _embedded(results: Results) -> dict[Path, str]:
    """Videos as data URIs, the first seed of every agent before the next, until their sum is too large."""
    agents = [agent for found in results.values() for agent in found.agents.values()]
    by_seed = zip(*(agent.videos for agent in agents), strict=False)
    left, uris = MOST_VIDEO_BYTES, {}
    for path in (path for paths in by_seed for path in paths if path is not None):
        content = path.read_bytes()
        if len(content) <= left:
            left -= len(content)
            uris[path] = "data:video/mp4;base64," + base64.b64encode(content).decode()
    return uris


def _rollouts(
    params: Params, name: str, results: DatasetResults, videos: Mapping[Path, str]
) -> list[dict[str, Any]]:
    """Videos by seed, each with how many of its episodes reached the goal."""
    filmed = params.evaluate_for(name).video.episodes
    rows = []
    for number, seed in enumerate(params.experiment.seeds):
        films = []
        for agent, found in results.agents.items():
            path = found.videos[number] if number < len(found.videos) else None
            if path is not None:
                reached = int(found.episodes[number][results.column][:filmed].sum())
                shown = min(filmed, len(found.episodes[number]))
                films.append(
                    {
                        "agent": agent,
                        "path": path.as_posix(),
                        "uri": videos.get(path),
                        "said": f"{reached} of {shown} goals reached",
                    }
                )
        if films:
            rows.append({"seed": seed, "films": films})
    return rows


def _colours(agents: Iterable[str]) -> dict[str, int]:
    """The number of each agent's colour in the figures."""
    return {agent: number % len(PALETTE) for number, agent in enumerate(agents)}
