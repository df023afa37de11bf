"""The list of all datasets: every recipe and suite with its origin, sizes and licence.

``make datasets`` prints the list. ``python -m offline_gcrl.commands.catalogue --markdown`` prints it as a Markdown table
for the documentation.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import offline_gcrl.environments.making  # noqa: F401  This import registers environments.
from offline_gcrl.config import (
    RECIPES,
    Dataset,
    Environment,
    Recipe,
    Source,
    recipe_names,
    resolve,
)
from offline_gcrl.config.resolving import read_recipes
from offline_gcrl.support.errors import OfflineGCRLError, SettingsError

UNKNOWN, AS_PUBLISHED = "-", "all"
WIDE = 150
"""Minimal width of a terminal, in columns, for the list to be printed as a table."""


@dataclass(frozen=True)
class Entry:
    """A dataset of the list, with all facts as text."""

    name: str
    title: str
    environment: str
    size: str
    """Default number of episodes, and the maximal number of steps per episode."""
    full_size: str
    """Size with ``collect.episodes: full``."""
    made: str
    """Whether the data is collected here, published, or both."""
    sources: str
    """The sources with the share of each."""
    tasks: str
    licence: str
    citation: str


HEADINGS = {
    "name": "dataset",
    "environment": "environment",
    "size": "size",
    "full_size": "full size",
    "made": "made",
    "sources": "sources",
    "tasks": "tasks",
    "licence": "licence",
    "citation": "citation",
}


def catalogue(folder: Path = RECIPES) -> list[Entry]:
    """All recipes and suites in a folder that can be used, sorted by name.

    Raises:
        SettingsError: the folder does not exist.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[list[Entry], list[str]]:
    """The entries, and why other recipes are left out."""
    names = recipe_names(folder)
    datasets, reasons = read_recipes(folder)
    entries = [describe(datasets[name], folder) for name in names if name in datasets]
    return entries, list(reasons.values())


def describe(dataset: Dataset, folder: Path = RECIPES) -> Entry:
    """The facts of one dataset as text."""
    recipes = dataset.recipes
    environments = (_environment(recipe.environment) for recipe in recipes)
    return Entry(
        name=dataset.name,
        title=dataset.title,
        environment=_several(environments),
        size=_size(recipes),
        full_size=_full_size(dataset.name, folder),
        made=_several(
            "here" if source.collect else "published"
            for recipe in recipes
            for source in recipe.sources
        ),
        sources=_sources([source for recipe in recipes for source in recipe.sources]),
        tasks=_several(dataset.tasks),
        licence=_several(recipe.licence for recipe in recipes),
        citation=_several(recipe.citation for recipe in recipes),
    )


def as_markdown(entries: Sequence[Entry]) -> str:
    """The list as a Markdown table, for the documentation."""
    headings = list(HEADINGS.values())
    rows = [headings, ["---"] * len(headings)]
    for entry in entries:
        cells = [str(getattr(entry, key)).replace("|", "\\|") for key in HEADINGS]
        rows.append([f"`{cells[0]}`", *cells[1:]])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def as_table(entries: Sequence[Entry]) -> Group:
    """The list as a table for a wide terminal; citations are numbered and listed below the table."""
    citations = list(dict.fromkeys(entry.citation for entry in entries if entry.citation != "none"))
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for key in HEADINGS:
        heading = "cite" if key == "citation" else HEADINGS[key]
        table.add_column(heading, overflow="fold", no_wrap=key in ("name", "size", "full_size"))
    for entry in entries:
        words = {key: str(getattr(entry, key)) for key in HEADINGS}
        number = citations.index(entry.citation) + 1 if entry.citation in citations else None
        words["citation"] = f"[{number}]" if number else UNKNOWN
        cells = [Text(word, style="bold" if key == "name" else "") for key, word in words.items()]
        table.add_row(*cells)
    notes = [Text(f"[{number}] {words}") for number, words in enumerate(citations, start=1)]
    return Group(table, *notes, Text(""))


def as_paragraphs(entries: Sequence[Entry]) -> Group:
    """The list with one paragraph per dataset, for a narrow terminal."""
    parts: list[Any] = []
    for entry in entries:
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold")
        for key, words in _facts(entry).items():
            facts.add_row(HEADINGS[key], Text(words))
        heading = Text.assemble((entry.name, "bold"), f"  {entry.title}")
        parts += [heading, Padding(facts, (0, 0, 1, 2))]
    return Group(*parts)


def main() -> None:
    """Print the list."""
    parser = argparse.ArgumentParser(
        prog="python -m offline_gcrl.commands.catalogue", description=__doc__
    )
    parser.add_argument("--markdown", action="store_true", help="a Markdown table")
    arguments = parser.parse_args()
    try:
        entries, reasons = _read(RECIPES)
        for reason in reasons:
            sys.stderr.write(f"left out: {reason}\n")
    except OfflineGCRLError as error:
        sys.exit(f"error: {error}")
    if arguments.markdown:
        sys.stdout.write(as_markdown(entries))
        return
    console = Console(highlight=False, emoji=False)
    console.print(as_table(entries) if console.width >= WIDE else as_paragraphs(entries))
    console.print(
        Text(
            f"{len(entries)} datasets; sizes are episodes x steps. To use one, add its name to experiment.datasets "
            "in params.yaml and run `make repro`. collect.episodes sets its size."
        )
    )


def _facts(entry: Entry) -> dict[str, str]:
    """All known facts of a dataset except its name."""
    words = {key: str(getattr(entry, key)) for key in list(HEADINGS)[1:]}
    return {key: value for key, value in words.items() if value != UNKNOWN}


def _several(words: Iterable[str]) -> str:
    """The distinct words, separated by commas."""
    return ", ".join(dict.fromkeys(words))


def _environment(environment: Environment | None) -> str:
    return environment.id if environment else "none"


def _sources(sources: Sequence[Source]) -> str:
    """Names of the sources, each with its share if that is known.

    Sources that are collected here have short names; others have their Minari ids. Sources of a suite with the same
    short name are combined.
    """
    episodes: Counter[str] = Counter()
    for source in sources:
        name = source.dataset.split("/")[-1] if source.collect else source.dataset
        episodes[name] += source.episodes or 0
    if len(episodes) == 1 or 0 in episodes.values():
        return _several(episodes)
    total = episodes.total()
    return _several(f"{count / total:.0%} {name}" for name, count in episodes.items())


def _full_size(name: str, folder: Path) -> str:
    """The published size; ``UNKNOWN`` if the recipe does not state it."""
    try:
        size = _size(resolve(name, "full", folder).recipes)
    except SettingsError:
        return UNKNOWN
    return UNKNOWN if size == AS_PUBLISHED else size


def _size(recipes: Sequence[Recipe]) -> str:
    """Number of episodes, with the maximal number of steps per episode if that is known and the same for all."""
    sources = [source for recipe in recipes for source in recipe.sources]
    if any(source.episodes is None for source in sources):
        return AS_PUBLISHED
    episodes = sum(source.episodes or 0 for source in sources)
    steps = {_longest(recipe) for recipe in recipes}
    made_here = all(source.collect for source in sources)
    if made_here and len(steps) == 1 and all(steps):
        return f"{episodes:,} x {max(steps):,}"
    return f"{episodes:,} episodes"


def _longest(recipe: Recipe) -> int:
    """The maximal number of steps per episode of the collecting environment; 0 if it is unknown."""
    if recipe.environment is None:
        return 0
    given = recipe.environment.kwargs.get("max_episode_steps")
    if isinstance(given, int):
        return given
    try:
        return gymnasium.spec(recipe.environment.id).max_episode_steps or 0
    except (gymnasium.error.Error, ModuleNotFoundError):  # The environment's package is missing.
        return 0


if __name__ == "__main__":
    main()
