"""The report page: one HTML file that loads nothing else, with the same bytes for the same inputs.

Captions link to the files of tables and figures, which are next to the page. The page contains no date and no commit.
``dvc.lock`` of the commit that contains the page identifies code and data, and the digests on the page identify the data.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from offline_gcrl.config import Dataset, Params
from offline_gcrl.figures.style import PALETTE
from offline_gcrl.report.content import ReportedDataset, sections
from offline_gcrl.report.drawing import aggregate_pictures
from offline_gcrl.report.exports import cell_text
from offline_gcrl.report.facts import Folders, versions
from offline_gcrl.report.films import embedded_films
from offline_gcrl.report.findings import Findings
from offline_gcrl.report.multitask import sharing_pictures
from offline_gcrl.report.results import Results, aggregate_datasets
from offline_gcrl.report.sharing import model_sentences
from offline_gcrl.report.tables import comparison_table
from offline_gcrl.report.verdict import verdict
from offline_gcrl.statistics.aggregates import Aggregates

HERE = Path(__file__).parent
ALL = "all-datasets"
"""The end of the names of files that are about all datasets together."""


class Numbers:
    """Counts the figures, tables and videos of the page."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def next(self, kind: str) -> int:
        """The next number of a kind, from 1."""
        self._used[kind] += 1
        return self._used[kind]


def page_content(
    params: Params,
    datasets: Mapping[str, Dataset],
    results: Results,
    folders: Folders,
    findings: Mapping[str, Findings],
    overall: Aggregates | None,
) -> dict[str, Any]:
    """The variables of the template: everything that the page shows.

    Args:
        params: all settings.
        datasets: resolved datasets by name.
        results: results by dataset.
        folders: folders of the earlier stages.
        findings: results of the probes by dataset.
        overall: ``overall_aggregates`` of the results.
    """
    films = embedded_films(results)
    subjects = [
        ReportedDataset(params, datasets[name], found, folders, films, findings[name])
        for name, found in results.items()
    ]
    return {
        "experiment": params.experiment,
        "overall": _overall(overall),
        "datasets": [_dataset(subject) for subject in subjects],
        "sharing_models": model_sentences(findings),
        "sharing_pictures": sharing_pictures(findings),
        "colours": _colours(params.experiment.agents),
        "versions": versions(),
        "style": (HERE / "page.css").read_text("utf-8"),
    }


def render_page(content: Mapping[str, Any]) -> str:
    """The page as HTML."""
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["text"] = cell_text
    template = templates.get_template("page.html.jinja")
    return template.render(**content, numbers=Numbers())


def _dataset(subject: ReportedDataset) -> dict[str, Any]:
    recipes = subject.dataset.recipes
    return {
        "name": subject.name,
        "title": subject.dataset.title,
        "instructions": list(dict.fromkeys(recipe.instruction for recipe in recipes)),
        "headline": verdict(subject.results).headline,
        "sections": sections(subject),
    }


def overall_aggregates(results: Results) -> Aggregates | None:
    """The aggregates of agents over all evaluated datasets; None if there are fewer than two datasets or agents."""
    evaluated = [found for found in results.values() if found.agents]
    if len(evaluated) < 2:
        return None
    names = [
        agent for agent in evaluated[0].agents if all(agent in found.agents for found in evaluated)
    ]
    return aggregate_datasets(evaluated, names) if len(names) > 1 else None


def _overall(found: Aggregates | None) -> dict[str, Any] | None:
    if found is None:
        return None
    table = comparison_table(ALL, "all datasets", found)
    return {"table": table, "figures": aggregate_pictures(ALL, found, table.name)}


def _colours(agents: Iterable[str]) -> dict[str, int]:
    """The position of each agent's colour in the palette of the figures."""
    return {agent: number % len(PALETTE) for number, agent in enumerate(agents)}
