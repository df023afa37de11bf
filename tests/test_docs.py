"""The pages build without warnings, their links resolve, and their contents agree with the code."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlparse

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from agent_files import table_of as files_table
from api_pages import write_reference
from batch_fields import table_of as fields_table
from conftest import RECIPES, ROOT, SmallDataset
from playwright.sync_api import sync_playwright
from settings_tables import table_of
from sphinx.cmd.build import build_main
from test_architecture import FOLDERS

from offline_gcrl import load_policy
from offline_gcrl.agents import settings_type
from offline_gcrl.collect.published import fetch_published
from offline_gcrl.config import (
    Section,
    agent_settings,
    algorithm_names,
    load_dataset,
    load_params,
    load_recipe,
    resolve,
)
from offline_gcrl.config.outputs import TABLE
from offline_gcrl.environments.making import check_environments
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.reading import read_episode
from offline_gcrl.episodes.schema import EPISODES_SCHEMA, frames_schema, steps_schema
from offline_gcrl.evaluation.results import EPISODE_COLUMNS
from offline_gcrl.report.results import load_results
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.imports import PRELOADED
from offline_gcrl.support.processes import process_pool
from offline_gcrl.training.batches.fields import FIELDS
from offline_gcrl.training.speed import accelerator

DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
# Building the pages takes as long as the machine is busy.
pytestmark = [pytest.mark.long(seconds=70), pytest.mark.timeout(600)]


# ---------------------------------------------------------------------------------------- the site


class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given["href"])
        elif "src" in given:
            self.loaded.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """All pages, built as `make docs` builds them."""
    folder = tmp_path_factory.mktemp("site")
    with process_pool(1) as pool:  # Its worker has imported most of what the build imports.
        status, warnings = pool.submit(build_site, folder).result()
    assert status == 0, warnings
    return {path: Page(path) for path in (folder / "html").rglob("*.html")}


def build_site(folder: Path) -> tuple[int, str]:
    """Build all pages in ``folder/html``; the exit status of Sphinx, and its warnings."""
    options = ["--fresh-env", "--fail-on-warning", "--keep-going", "--quiet"]
    places = ["-d", str(folder / ".doctrees"), str(DOCS), str(folder / "html")]
    with redirect_stderr(io.StringIO()) as warnings:
        status = build_main([*options, *places])
    return status, warnings.getvalue()


def test_every_link_leads_to_a_page_and_an_anchor_that_are_there(site: dict[Path, Page]) -> None:
    broken = []
    for path, page in site.items():
        for link in page.links:
            url = urlparse(link)
            if url.scheme or not (url.path or url.fragment):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            anchors = site[target].anchors if target in site else set()
            if not target.exists() or not {unquote(url.fragment)} <= anchors | {""}:
                broken.append(f"{path.name}: {link}")
    assert not broken
    assert sum(len(page.links) for page in site.values()) > 500


def test_links_out_of_the_pages_are_whole(site: dict[Path, Page]) -> None:
    outward = {link for page in site.values() for link in page.links if urlparse(link).scheme}
    for link in outward:
        url = urlparse(link)
        assert url.scheme == "https", link
        assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]{2,}", url.netloc), link


def test_pages_need_no_network(site: dict[Path, Page]) -> None:
    for path, page in site.items():
        for address in page.loaded:
            assert not urlparse(address).netloc, f"{path.name} loads {address}"
    home = next(path for path in site if path.name == "index.html" and "api" not in path.parts)
    styles = "".join(path.read_text() for path in home.parent.rglob("*.css"))
    assert not re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//[^)'\"]+", styles)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_search_and_the_copy_buttons_work_in_pages_opened_from_files(
    site: dict[Path, Page],
) -> None:
    home = next(path for path in site if path.name == "search.html").parent
    problems: list[str] = []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((home / "search.html").as_uri() + "?q=relabelling")
        page.get_by_role("link", name="Glossary").first.wait_for()
        page.goto((home / "getting-started.html").as_uri())
        button = page.locator("div.highlight-console button.copybtn").first
        assert button.get_attribute("data-clipboard-target")
        browser.close()
    assert not problems


def test_equations_are_mathml(site: dict[Path, Page]) -> None:
    pages = {path.name: path.read_text() for path in site}
    assert pages["gofar.html"].count("<math") > 10
    assert not any("MathJax" in text for text in pages.values())


def test_every_algorithm_is_on_the_pages_and_in_the_readme() -> None:
    names = algorithm_names()
    rows = re.findall(r"^\| `(\w+)` \| \[`agents/\1\.py`\]", (ROOT / "README.md").read_text(), re.M)
    assert sorted(rows) == names
    index, contents, settings = (
        (DOCS / page).read_text() for page in ("algorithms/index.md", "index.md", "settings.md")
    )
    for name in names:
        page = (DOCS / f"algorithms/{name}.md").read_text()
        assert f"```{{settings}} offline_gcrl.agents.{name}.Settings" in page
        assert f"| [{name}]({name}.md) |" in index
        assert f"\nalgorithms/{name}\n" in contents
        assert f"[{name}](algorithms/{name}.md#settings)" in settings


def test_every_module_is_in_the_reference_once(tmp_path: Path) -> None:
    write_reference("offline_gcrl", [str(ROOT / "offline_gcrl")], tmp_path)
    listed = re.findall(r"automodule:: (\S+)", "".join(p.read_text() for p in tmp_path.iterdir()))
    files = {path.relative_to(ROOT) for path in (ROOT / "offline_gcrl").rglob("*.py")}
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert sorted(listed) == sorted(modules - {"offline_gcrl", "offline_gcrl.convert.__main__"})


def test_the_architecture_lists_the_folders_in_the_order_of_imports() -> None:
    assert tuple(first_column("architecture.md", "## The folders of the package")) == FOLDERS


def test_the_architecture_names_files_that_exist() -> None:
    text = (DOCS / "architecture.md").read_text().split("## Where to add things")[1]
    paths = [path for path in re.findall(r"`([\w./]+/[\w./]*)`", text) if "<" not in path]
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / "offline_gcrl" / path).exists(), path


# ------------------------------------------------------------------------------- tables of settings


class Example(Section):
    rate: float  # how fast
    size: int = 3
    """How many."""
    silent: bool = False
    mode: Literal["slow", "fast"] = (
        "slow"  # which of the two, in a declaration of several lines, as the formatter writes it
    )


def test_a_table_of_settings_has_the_meanings_of_the_code_and_of_the_page() -> None:
    lines = table_of(Example, {"silent": "Explained on the page."})
    assert lines[2:] == [
        "| `rate` | *required* | number | How fast. |",
        "| `size` | `3` | integer | How many. |",
        "| `silent` | `false` | true or false | Explained on the page. |",
        "| `mode` | `slow` | `slow`, `fast` | Which of the two, in a declaration of several lines, as the formatter writes it. |",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'silent' has no meaning in the code or on the page"),
        ({"silent": "Yes.", "gone": "No."}, "'gone' is not a field"),
        ({"silent": "Yes.", "size": "Twice."}, "'size' has a meaning in the code"),
    ],
)
def test_a_meaning_that_is_missing_or_superfluous_ends_the_build(
    given: dict[str, str], message: str
) -> None:
    with pytest.raises(LookupError, match=message):
        table_of(Example, given)


# ------------------------------------------------------------------------------- the fields of batches


def test_the_table_of_agents_files_has_the_lines_of_each(tmp_path: Path) -> None:
    (tmp_path / "bc.py").write_text("a = 1\nb = 2\n")
    assert files_table([tmp_path / "bc.py"])[-1] == "| `agents/bc.py` | 2 |"


def test_the_table_of_batch_fields_has_the_shape_and_the_settings_of_each() -> None:
    lines = dict(line[3:].split("` | ", 1) for line in fields_table(FIELDS)[2:])
    assert list(lines) == list(FIELDS)
    assert lines["observations"].startswith("(batch, observation) |  |")
    assert lines["rewards"].startswith("(batch,) | `value_goals`, `n_step`, `discount`, `reward` |")
    assert lines["subgoals"].startswith("(batch, goal) | `actor_goals`, `subgoal_steps` |")


def test_a_field_without_a_shape_ends_the_build() -> None:
    def pixels() -> None:
        """The picture."""

    with pytest.raises(LookupError, match="'pixels' does not begin with a shape"):
        fields_table({"pixels": pixels})


# ------------------------------------------------------------------------------------------ the data


def first_column(page: str, heading: str) -> list[str]:
    """The first column of the first table below a heading."""
    below = (DOCS / page).read_text().split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None
    return re.findall(r"^\| `([^`]+)` \|", table.group(0), re.MULTILINE)


def test_every_column_of_the_data_is_described(dataset: SmallDataset) -> None:
    sizes = dict.fromkeys(("observation", "achieved_goal", "desired_goal", "action"), 1)
    page = "data-model.md"
    assert first_column(page, "### steps.parquet") == steps_schema(sizes).names
    assert first_column(page, "### episodes.parquet") == EPISODES_SCHEMA.names
    assert first_column(page, "### frames.parquet") == frames_schema(1).names
    of_some = {"images", "shards"}
    described = [key for key in first_column(page, "### schema.json") if key not in of_some]
    assert described == list(dataset.episodes.schema)
    assert first_column(page, "### episodes.parquet of results") == list(EPISODE_COLUMNS)


def test_every_column_of_the_hindsight_table_is_described(dataset: SmallDataset) -> None:
    described = first_column("data-model.md", "## Hindsight")
    patterns = [re.sub(r"<\w+>", r"\\w+", name) for name in described]
    for name in pl.read_parquet_schema(dataset.hindsight / TABLE):
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_recipes_on_the_page_are_valid(tmp_path: Path) -> None:
    shutil.copytree(RECIPES, tmp_path, dirs_exist_ok=True)
    shown = blocks("adding-datasets.md", "yaml")
    recipes = [block for block in shown if block.startswith("# datasets/recipes/")]
    assert len(recipes) == 3
    for number, recipe in enumerate(recipes):
        (tmp_path / f"page-{number}.yaml").write_text(recipe)
        assert resolve(f"page-{number}", folder=tmp_path).title


def test_no_two_examples_of_the_page_write_the_same_recipe_or_dataset() -> None:
    page = (DOCS / "adding-datasets.md").read_text()
    commands = re.findall(
        r"^\$ python -m offline_gcrl\.convert .* (\S+) --recipe (\S+)", page, re.M
    )
    datasets = [dataset for dataset, _ in commands]
    datasets += re.findall(r"create_dataset_from_buffers\(\s*\"(\S+)\"", page)
    recipes = [recipe for _, recipe in commands]
    recipes += re.findall(r"# datasets/recipes/(\S+)\.yaml", page)
    assert len(commands) >= 6
    for names in (datasets, recipes):
        assert len(set(names)) == len(names), names


# ---------------------------------------------------------------------------------------- the errors


def changed(folder: Path, change: Callable[[str], str]) -> None:
    """Read a changed ``params.yaml``, as ``check`` does."""
    shutil.copytree(RECIPES, folder / "datasets/recipes")
    text = (ROOT / "params.yaml").read_text()
    assert change(text) != text
    (folder / "params.yaml").write_text(change(text))
    params = load_params(folder / "params.yaml")
    for agent, section in params.agents.items():
        agent_settings(params, agent, "pointmaze-umaze", settings_type(section["algorithm"]))


def replaced(old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: changed(folder, lambda text: text.replace(old, new, 1))


def wrong_environment(folder: Path) -> None:
    recipe = load_recipe("pointmaze-umaze-d4rl", RECIPES)
    assert recipe.environment is not None
    environment = recipe.environment.model_copy(update={"id": "PointMaze_Umaze-v3"})
    wrong = recipe.model_copy(update={"environment": environment})
    check_environments(wrong, "datasets/recipes/pointmaze-umaze-d4rl.yaml")


def not_downloaded(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        fetch_published("D4RL/pointmaze/umaze-v2", folder)


def other_format(folder: Path) -> None:
    place = folder / "datasets/parquet/pointmaze-umaze"
    place.mkdir(parents=True)
    (place / "schema.json").write_text('{"format": 0}')
    open_episodes(place)


def broken_data(folder: Path) -> None:
    recipe = load_recipe("pointmaze-umaze", RECIPES)
    actions = np.zeros((9, 2))
    actions[7] = np.nan
    observations = {
        "observation": np.zeros((10, 4)),
        "achieved_goal": np.zeros((10, 2)),
        "desired_goal": np.zeros((10, 2)),
    }
    ends = {key: np.zeros(9, dtype=bool) for key in ("terminations", "truncations")}
    raw = {"observations": observations, "actions": actions, "rewards": np.zeros(9), "infos": {}}
    where = f"dataset '{recipe.sources[0].dataset}', episode 3"
    read_episode(raw | ends, recipe.goal, None, where)  # type: ignore[arg-type]


def no_gpu(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        accelerator("gpu")


ERRORS: dict[str, Callable[[Path], object]] = {
    "unknown key": replaced("    alpha: 3.0", "    alpha: 3.0\n    expectil: 0.9"),
    "a number that is text": replaced("learning_rate: 1.0e-3", "learning_rate: 0,001"),
    "unknown recipe": replaced("[pointmaze-umaze]", "[pointmaze-umaz]"),
    "a strategy that is not relabelled": replaced(
        "[final, future, geometric, episode, random]", "[future]"
    ),
    "no YAML": replaced("collect:\n", "collect\n"),
    "uneven snapshots": replaced("updates: 2400", "updates: 2500"),
    "an environment that is not registered": wrong_environment,
    "a dataset that is not here": not_downloaded,
    "a script started too early": lambda folder: load_dataset(
        "pointmaze-umaze", folder / "datasets/resolved"
    ),
    "another version's data": other_format,
    "broken data": broken_data,
    "no GPU": no_gpu,
    "no policy": lambda folder: load_policy(folder / "models/x"),
    "no results": lambda folder: load_results(
        load_params(ROOT / "params.yaml").experiment,
        {"pointmaze-umaze": resolve("pointmaze-umaze", folder=RECIPES)},
        folder / "results",
    ),
}


def said(case: str, folder: Path) -> str:
    """The message of an error that is caused."""
    folder.mkdir(exist_ok=True)
    with pytest.raises(OfflineGCRLError) as raised:
        ERRORS[case](folder)
    return str(raised.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("case", ERRORS)
def test_messages_of_the_code_are_on_the_page(case: str, tmp_path: Path) -> None:
    message = said(case, tmp_path)
    patterns = [".*".join(map(re.escape, pieces)) for pieces in explained_messages()]
    assert any(re.match(pattern, message) for pattern in patterns), message


def explained_messages() -> list[list[str]]:
    """The messages on the page, each in the pieces between the parts that vary."""
    text = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^(?:`([^`]+)`|``(.+?) ?``)\n: ", text, re.MULTILINE)
    return [(short or long).split("...") for short, long in messages]


def test_messages_on_the_page_are_those_of_the_code(tmp_path: Path) -> None:
    files = [ROOT / "Makefile", *(ROOT / "pipelines").glob("*.py")]
    files += (ROOT / "offline_gcrl").rglob("*.py")
    text = "\n".join(path.read_text() for path in files)
    # Strings of several lines in one piece, without the styles of the terminal.
    code = re.sub(r'"\s*\n?\s*f?"|\[/?[a-z]+\]', "", text)
    real = [said(case, tmp_path / str(number)) for number, case in enumerate(ERRORS)]
    messages = explained_messages()
    assert len(messages) > 60
    for pieces in messages:
        in_code = all(piece.strip(" ;:,.'") in code for piece in pieces)
        message = "...".join(pieces)
        assert in_code or any(example.startswith(message) for example in real), message


# ----------------------------------------------------------------------------------- adding an agent


def copy_of_the_project(folder: Path) -> Path:
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in tracked.stdout.split():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_environment_of_the_page_passes_the_checks_of_the_pipeline(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path)
    (source,) = (
        block
        for block in blocks("adding-datasets.md", "python")
        if block.startswith("# environments/my_env.py")
    )
    (recipe,) = (
        block
        for block in blocks("adding-datasets.md", "yaml")
        if block.startswith("# datasets/recipes/my-point.yaml")
    )
    (project / "environments/my_env.py").write_text(source)
    (project / "datasets/recipes/my-point.yaml").write_text(recipe)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["experiment"] |= {"datasets": ["my-point"], "agents": ["gcbc", "gciql"]}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    answer = subprocess.run(
        [sys.executable, "pipelines/check.py"], cwd=project, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (project / "datasets/resolved/my-point.json").is_file()


def test_an_agent_added_by_the_page_is_checked_and_conforms(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path)
    (source,), (section,), (change,) = (
        blocks("adding-agents.md", language) for language in ("python", "yaml", "diff")
    )
    (project / "offline_gcrl/agents/marwil.py").write_text(source)
    params = project / "params.yaml"
    params.write_text(params.read_text() + section)
    assert yaml.safe_load(params.read_text())["agents"]["marwil"]["algorithm"] == "marwil"
    suite = project / "tests/test_agents.py"
    start, added = change.splitlines()
    assert start[1:] in suite.read_text()
    suite.write_text(suite.read_text().replace(start[1:], f"{start[1:]}\n{added[1:]}", 1))

    def run(*command: str) -> str:
        environment = {  # The tests of this project share nothing with those that run here.
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")},
            PRELOADED: "offline_gcrl.collect.collector",  # All that the workers of these tests use.
            "PYTHONPATH": str(project),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        answer = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    run(sys.executable, "pipelines/check.py")
    run("ruff", "check", "offline_gcrl/agents/marwil.py")
    run("ruff", "format", "--check", "offline_gcrl/agents/marwil.py")
    (command,) = re.findall(
        r"^\$ (pytest .*)$", "".join(blocks("adding-agents.md", "console")), re.M
    )
    said = run(sys.executable, "-m", *command.split(), "-n", "0")
    assert re.search(r"\b[67] passed|^\.{6,7}", said, re.MULTILINE), said
