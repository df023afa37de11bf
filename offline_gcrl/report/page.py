"""The page that a person opens after a run: one file, nothing fetched, the same bytes for the same inputs.

It holds no date and no commit: `dvc.lock` of the commit that it was made in identifies code and data,
and the fingerprints on the page identify the data themselves.
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
        style=(HERE / "page.css").read_text(),
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
    """All agents over all datasets that were judged, where there are several."""
    judged = [found for found in results.values() if found.agents]
    if len(judged) < 2:
        return None
    names = [agent for agent in judged[0].agents if all(agent in found.agents for found in judged)]
    outcomes = [
        paired_outcomes({agent: found.agents[agent].episodes for agent in names}, found.column)
        for found in judged
    ]
    return compare_outcomes(names, join_datasets(outcomes)) if names else None


def _embedded(results: Results) -> dict[Path, str]:
    """Videos as data URIs, the first seed of every agent before the next, until their sum is too large."""
    agents = [agent for found in results.values() for agent in found.agents.values()]
    by_seed = zip(*(agent.videos for agent in agents), strict=False)
    left, uris = MAX_VIDEO_BYTES, {}
    for path in (path for paths in by_seed for path in paths if path is not None):
        content = path.read_bytes()
        if len(content) <= left:
            left -= len(content)
            uris[path] = "data:video/mp4;base64," + base64.b64encode(content).decode()
    return uris


def _colours(agents: Iterable[str]) -> dict[str, int]:
    """The number of each agent's colour in the figures."""
    return {agent: number % len(PALETTE) for number, agent in enumerate(agents)}
