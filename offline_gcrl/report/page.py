"""The report page: one HTML file that loads nothing else, with the same bytes for the same inputs.

The page contains no date and no commit. ``dvc.lock`` of the commit that contains the page identifies code and data,
and the digests on the page identify the data.
"""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from offline_gcrl.config import Dataset, Params
from offline_gcrl.figures.style import PALETTE
from offline_gcrl.report.content import ReportedDataset, sections
from offline_gcrl.report.facts import Folders, versions
from offline_gcrl.report.findings import Findings, all_findings
from offline_gcrl.report.multitask import model_sentences
from offline_gcrl.report.results import Results
from offline_gcrl.report.verdict import interval, verdict
from offline_gcrl.statistics.comparison import (
    Comparison,
    compare_outcomes,
    join_datasets,
    paired_outcomes,
)

HERE = Path(__file__).parent
MAX_VIDEO_BYTES = 6_000_000
"""Limit for all embedded videos together; the page names the files of further videos."""


def render_page(
    params: Params,
    datasets: Mapping[str, Dataset],
    results: Results,
    folders: Folders,
    findings: Mapping[str, Findings] | None = None,
) -> str:
    """The page as HTML. Results of the probes are read from ``folders`` if ``findings`` is None."""
    if findings is None:
        findings = all_findings(params, datasets, results, folders.results)
    videos = _embedded(results)
    subjects = [
        ReportedDataset(params, datasets[name], found, folders, videos, findings[name])
        for name, found in results.items()
    ]
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["interval"] = interval
    return templates.get_template("page.html.jinja").render(
        experiment=params.experiment,
        datasets=[_dataset(subject) for subject in subjects],
        overall=_overall(results),
        sharing_models=model_sentences(findings),
        colours=_colours(params.experiment.agents),
        versions=versions(),
        style=(HERE / "page.css").read_text("utf-8"),
    )


def _dataset(subject: ReportedDataset) -> dict[str, Any]:
    recipes = subject.dataset.recipes
    return {
        "name": subject.name,
        "title": subject.dataset.title,
        "instructions": list(dict.fromkeys(recipe.instruction for recipe in recipes)),
        "headline": verdict(subject.results).headline,
        "sections": sections(subject),
    }


def _overall(results: Results) -> Comparison | None:
    """The comparison of agents over all evaluated datasets; None if there are fewer than two."""
    evaluated = [found for found in results.values() if found.agents]
    if len(evaluated) < 2:
        return None
    names = [
        agent for agent in evaluated[0].agents if all(agent in found.agents for found in evaluated)
    ]
    outcomes = [
        paired_outcomes({agent: found.agents[agent].episodes for agent in names}, found.column)
        for found in evaluated
    ]
    return compare_outcomes(names, join_datasets(outcomes)) if names else None


def _embedded(results: Results) -> dict[Path, str]:
    """Videos as data URIs by path, as many as fit into ``MAX_VIDEO_BYTES``: in the order of seeds, then with planner."""
    agents = [agent for found in results.values() for agent in found.agents.values()]
    by_seed = zip(*(agent.videos for agent in agents), strict=False)
    planned = (path for agent in agents for path in agent.planned_videos[:1])
    left, uris = MAX_VIDEO_BYTES, {}
    for path in (*(path for paths in by_seed for path in paths if path is not None), *planned):
        content = path.read_bytes()
        if len(content) <= left:
            left -= len(content)
            uris[path] = "data:video/mp4;base64," + base64.b64encode(content).decode()
    return uris


def _colours(agents: Iterable[str]) -> dict[str, int]:
    """The position of each agent's colour in the palette of the figures."""
    return {agent: number % len(PALETTE) for number, agent in enumerate(agents)}
