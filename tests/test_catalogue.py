"""The catalogue lists every recipe and suite, with all text on a narrow terminal."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import RECIPES, ROOT
from rich.console import Console

from offline_gcrl.commands.catalogue import (
    HEADINGS,
    as_markdown,
    as_paragraphs,
    as_table,
    catalogue,
    describe,
)
from offline_gcrl.config import load_recipe, recipe_names, resolve

CITATION = "Newton and Leibniz 1684, A new method for maxima and minima, Acta Eruditorum 3, 467"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recipes, one with an unavailable environment, and a suite of both."""
    made = yaml.safe_load((RECIPES / "pointmaze-umaze.yaml").read_text())
    elsewhere = {
        **made,
        "environment": {"id": "no_such_package:Elsewhere-v0"},
        "sources": [{"dataset": "elsewhere/data-v0", "kind": "demonstration"}],
        "task": "elsewhere",
        "citation": CITATION,
    }
    write(tmp_path, "made", {**made, "full_episodes": 1000})
    write(tmp_path, "elsewhere", elsewhere)
    write(tmp_path, "both", {"title": "Both together", "members": ["made", "elsewhere"]})
    return tmp_path


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


def printed(what: Any, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_recipe_of_the_project_is_listed() -> None:
    assert [entry.name for entry in catalogue(RECIPES)] == recipe_names(RECIPES)


def test_sizes_and_shares_are_those_of_the_recipe(folder: Path) -> None:
    entry = describe(resolve("made", folder=folder), folder)
    episodes = load_recipe("pointmaze-umaze", RECIPES).episodes
    assert entry.size == f"{episodes} x 1,000"
    assert entry.full_size == "1,000 x 1,000"
    assert entry.sources == "90% explore-v0, 10% waypoint-v0"
    assert entry.made == "here"


def test_sources_of_a_suite_with_the_same_name_are_combined() -> None:
    assert describe(resolve("fetch-suite", folder=RECIPES), RECIPES).sources == (
        "90% random-v0, 10% scripted-v0"
    )


def test_a_published_dataset_has_its_published_size(folder: Path) -> None:
    entry = describe(resolve("elsewhere", folder=folder), folder)
    assert (entry.size, entry.full_size) == ("all", "-")
    assert entry.sources == "elsewhere/data-v0"
    assert entry.made == "published"


def test_a_suite_lists_the_facts_of_its_members(folder: Path) -> None:
    entry = describe(resolve("both", folder=folder), folder)
    assert entry.environment == "PointMaze_UMaze-v3, no_such_package:Elsewhere-v0"
    assert entry.tasks == "pointmaze-umaze, elsewhere"
    assert entry.sources == "explore-v0, waypoint-v0, elsewhere/data-v0"
    assert entry.made == "here, published"


@pytest.mark.parametrize(
    ("draw", "width"), [(as_paragraphs, 60), (as_paragraphs, 80), (as_table, 160)]
)
def test_no_text_is_cut(folder: Path, draw: Any, width: int) -> None:
    entries = catalogue(folder)
    text = printed(draw(entries), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    assert set(CITATION.split()) <= set(text.split())


def test_the_markdown_table_has_one_row_per_dataset(folder: Path) -> None:
    lines = as_markdown(catalogue(folder)).splitlines()
    assert len(lines) == 2 + 3
    assert {line.count("|") for line in lines} == {len(HEADINGS) + 1}


def test_the_command_prints_to_a_pipe() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "offline_gcrl.commands.catalogue"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"COLUMNS": "80", "PYTHONPATH": str(ROOT)},
    )
    for name in recipe_names(RECIPES):
        assert name in answer.stdout
    assert answer.stderr == ""
