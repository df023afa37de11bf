"""The report: its sentences about the numbers, and its page, which is one accessible file."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest
from conftest import RECIPES, ROOT, SmallDataset

from offline_gcrl.config import Dataset, Params, load_params, resolve
from offline_gcrl.evaluation.results import EPISODE_COLUMNS, SeedResult, learning_curve
from offline_gcrl.figures.scenes import dataset_scene
from offline_gcrl.figures.style import STYLE, colours, dashes, grid
from offline_gcrl.figures.success import curves_figure, success_figure
from offline_gcrl.hindsight.statistics import describe
from offline_gcrl.report import films as films_module
from offline_gcrl.report.drawing import NumberedFigure, hindsight_pictures, inline_svg
from offline_gcrl.report.exports import cell_text, saving
from offline_gcrl.report.facts import Folders, settings_of_agents
from offline_gcrl.report.findings import all_findings
from offline_gcrl.report.flat import flat_comparisons, flat_curves, headline_numbers
from offline_gcrl.report.multitask_figures import task_curves_figure
from offline_gcrl.report.page import overall_aggregates, page_content, render_page
from offline_gcrl.report.results import (
    AgentResults,
    DatasetResults,
    Results,
    all_curves,
    load_results,
)
from offline_gcrl.report.tables import markdown_report, metrics_table
from offline_gcrl.report.values import draw_values
from offline_gcrl.report.verdict import Verdict, verdict
from offline_gcrl.report.writing import write_report
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import write_json

MAZE = "pointmaze-umaze"
RATES = {"gofar": 0.6, "gciql": 0.95, "bc": 0.1}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Intervals of a few resamples: their texts are tested here, not their width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offline_gcrl.statistics.intervals.RESAMPLES", 100)
        yield


@pytest.fixture(scope="module", autouse=True)
def hindsight_figures_drawn_once() -> Iterator[dict[str, list[NumberedFigure]]]:
    """All pages here have the same statistics of hindsight goals, whose figures are drawn once per name and layout."""
    drawn: dict[str, list[NumberedFigure]] = {}

    def pictures(dataset: str, statistics: Mapping[str, Any]) -> list[NumberedFigure]:
        key = json.dumps([dataset, statistics, STYLE["figure.constrained_layout.use"]])
        if key not in drawn:
            drawn[key] = hindsight_pictures(dataset, statistics)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offline_gcrl.report.content.hindsight_pictures", pictures)
        yield drawn


@pytest.fixture
def plain_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without the layout that makes room for all labels, for tests of the text around the figures."""
    monkeypatch.setitem(STYLE, "figure.constrained_layout.use", False)


def evaluated_episodes(
    rate: float,
    *,
    seed: int = 0,
    episodes: int = 40,
    dimensions: int = 2,
    tasks: Sequence[str] = (MAZE,),
    steps: int = 50,
) -> pl.DataFrame:
    """Evaluation episodes with this success rate, equally many for each task."""
    random = np.random.default_rng([seed, round(1000 * rate)])
    rounds = episodes // len(tasks)
    succeeds = random.permutation(np.arange(rounds) < round(rate * rounds))
    rows = []
    for number in range(episodes):
        success = bool(succeeds[number // len(tasks)])
        start, goal = random.uniform(-1, 1, (2, dimensions))
        rows.append(
            {
                "update": 40,
                "episode": number,
                "seed": 1000 * seed + number,
                "task": tasks[number % len(tasks)],
                "task_id": None,
                "start": start.tolist(),
                "goal": goal.tolist(),
                "success": success,
                "success_any": success,
                "final_distance": float(random.uniform(0.0, 0.4) + (not success)),
                "return": float(success),
                "discounted_return": float(success) * 0.99**steps,
                "steps_to_goal": steps if success else None,
                "length": 50,
            }
        )
    return pl.DataFrame(rows, schema=EPISODE_COLUMNS)


def curve() -> pl.DataFrame:
    snapshots = [
        evaluated_episodes(rate, episodes=10).with_columns(update=u)
        for u, rate in ((20, 0.2), (40, 0.8))
    ]
    return learning_curve(pl.concat(snapshots))


class Project:
    """The small dataset under any name, with invented results."""

    def __init__(self, root: Path, dataset: SmallDataset) -> None:
        self.folders = Folders(
            root / "parquet", root / "hindsight", root / "results", root / "cards"
        )
        self.root, self.dataset = root, dataset

    def add(
        self, name: str = MAZE, rates: Mapping[str, float] = RATES, seeds: int = 2, **how: Any
    ) -> None:
        """A dataset with results of every agent; ``how`` as ``evaluated_episodes`` takes it."""
        self.add_data(name)
        for agent, rate in rates.items():
            for seed in range(seeds):
                result = SeedResult(evaluated_episodes(rate, seed=seed, **how), curve())
                result.write(self.folders.results / name / agent / f"seed-{seed}")

    def add_data(self, name: str) -> None:
        shutil.copytree(self.dataset.parquet, self.folders.parquet / name)
        shutil.copytree(self.dataset.hindsight, self.folders.hindsight / name)
        data = self.dataset
        statistics = describe(data.parquet, data.hindsight, data.relabel, data.recipe.goal)
        write_json(self.folders.hindsight / name / "stats.json", statistics)

    def params(
        self,
        datasets: Sequence[str] = (MAZE,),
        agents: Sequence[str] = tuple(RATES),
        seeds: int = 2,
    ) -> Params:
        params = load_params(ROOT / "params.yaml")
        changes = {
            "datasets": tuple(datasets),
            "agents": tuple(agents),
            "seeds": tuple(range(seeds)),
        }
        return params.model_copy(
            update={"experiment": params.experiment.model_copy(update=changes)}
        )

    def datasets(self, params: Params) -> dict[str, Dataset]:
        return {name: resolve(name, folder=RECIPES) for name in params.experiment.datasets}

    def results(self, params: Params) -> Results:
        return load_results(params.experiment, self.datasets(params), self.folders.results)

    def page(self, params: Params | None = None) -> str:
        params = params or self.params()
        return self.rendered(params, self.datasets(params))

    def rendered(self, params: Params, datasets: Mapping[str, Dataset]) -> str:
        results = self.results(params)
        findings = all_findings(params, datasets, results, self.folders.results)
        overall = overall_aggregates(results)
        return render_page(page_content(params, datasets, results, self.folders, findings, overall))


@pytest.fixture
def project(tmp_path: Path, dataset: SmallDataset) -> Project:
    return Project(tmp_path, dataset)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, dataset: SmallDataset) -> Project:
    """Three agents on one dataset; tests only read it."""
    made = Project(tmp_path_factory.mktemp("usual"), dataset)
    made.add()
    return made


@pytest.fixture(scope="module")
def page(usual: Project) -> str:
    """The page of the usual project."""
    return usual.page()


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data + " "

    def values(self, attribute: str) -> list[str]:
        return [value for _, found in self.elements if (value := found.get(attribute))]


# ------------------------------------------------------------------------------------ the verdict


def verdict_of(rates: Mapping[str, float], seeds: int = 3, **how: Any) -> Verdict:
    agents = {
        agent: AgentResults(
            [evaluated_episodes(rate, seed=seed, **how) for seed in range(seeds)], []
        )
        for agent, rate in rates.items()
    }
    return verdict(DatasetResults(agents, {}))


def test_a_clear_lead_is_a_recommendation_with_rate_lead_and_probability() -> None:
    summary = verdict_of(RATES)
    assert summary.is_clear
    assert summary.headline == "Use gciql."
    assert "It reached 95% of the goals (95% interval" in summary.text
    assert (
        "clearly more than any other agent: gofar, the next best, differs by \N{MINUS SIGN}35 percentage points ("
        in summary.text
    )
    confidence = " ".join(summary.confidence)
    assert "gciql scored higher than gofar in 100% of the pairs of training runs" in confidence
    assert "(95% interval of this probability: 44% to 100%)" in confidence
    assert "Each agent was trained with 3 seeds and evaluated on 120 episodes." in confidence
    assert "With so few training runs, the intervals are rough." in confidence


def test_agents_without_a_clear_difference_are_called_level() -> None:
    summary = verdict_of({"gofar": 0.85, "gciql": 0.9, "bc": 0.1})
    assert not summary.is_clear
    assert summary.headline == "gciql or gofar: there is no clear difference between the two."
    assert "gofar differs by \N{MINUS SIGN}5 percentage points (\N{MINUS SIGN}" in summary.text
    assert "which may be chance" in summary.text
    assert "bc was clearly lower." in summary.text
    assert "Use " not in summary.text


def test_among_agents_with_equal_success_the_one_with_the_fewest_steps_is_named() -> None:
    agents = {
        agent: AgentResults(
            [evaluated_episodes(1.0, seed=seed, steps=steps) for seed in range(3)], []
        )
        for agent, steps in (("slow", 40), ("fast", 10))
    }
    summary = verdict(DatasetResults(agents, {}))
    assert summary.headline == "slow or fast: there is no clear difference between the two."
    assert "fast was level with it (\N{MINUS SIGN}" in summary.text
    assert (
        "In the episodes that all of them solved, fast clearly needed the fewest steps."
        in summary.text
    )


def test_agents_with_the_same_numbers_share_a_sentence() -> None:
    agents = {
        agent: AgentResults([evaluated_episodes(1.0, seed=seed) for seed in range(3)], [])
        for agent in ("gciql", "gofar", "bc")
    }
    summary = verdict(DatasetResults(agents, {}))
    assert summary.sentences[1].startswith("gofar and bc were level with it (")
    assert summary.text.count("level with it") == 1


def test_the_fastest_agent_is_named_even_if_a_seed_solves_only_some_tasks() -> None:
    agents = {}
    for agent, steps in (("slow", 40), ("fast", 10)):
        both = evaluated_episodes(1.0, steps=steps, tasks=("near", "far"))
        near = both.with_columns(success=pl.col("task") == "near")
        agents[agent] = AgentResults([both, near], [])
    assert DatasetResults(agents, {}).fastest() == "fast"


def test_no_agent_is_called_the_fastest_after_a_few_episodes() -> None:
    for episodes, fastest in ((5, None), (6, "fast")):
        agents = {
            agent: AgentResults([evaluated_episodes(1.0, steps=steps, episodes=episodes)], [])
            for agent, steps in (("slow", 11), ("fast", 10))
        }
        assert DatasetResults(agents, {}).fastest() == fastest


def test_agents_that_reach_nothing_are_not_recommended() -> None:
    summary = verdict_of({"gofar": 0.02, "bc": 0.0}, episodes=50)
    assert summary.headline == "No agent reaches the goals yet."
    assert "The best agent, gofar, reached 2% of the goals" in summary.text


def test_an_only_agent_is_not_called_better() -> None:
    summary = verdict_of({"bc": 0.5})
    assert summary.headline == "bc is the only agent."
    assert "There is no other agent to compare it with. The agent was trained" in summary.text


def test_one_training_run_does_not_show_how_much_runs_differ() -> None:
    confidence = verdict_of(RATES, seeds=1).confidence
    assert confidence[0] == "Each agent was trained with one seed and evaluated on 40 episodes."
    assert "not how much training runs differ" in confidence[1]


def test_five_training_runs_need_no_warning() -> None:
    summary = verdict_of(RATES, seeds=5)
    assert (
        summary.confidence[0]
        == "Each agent was trained with 5 seeds and evaluated on 200 episodes."
    )
    assert "rough" not in summary.text


def test_a_dataset_that_was_not_evaluated_has_the_reason() -> None:
    summary = verdict(DatasetResults({}, {"bc": "there is no evaluation environment"}))
    assert summary.text == "Not evaluated. There is no evaluation environment."


# --------------------------------------------------------------------------------------- the page


def test_the_page_is_one_file_that_fetches_nothing(page: str) -> None:
    elements = Elements(page)
    links = [*elements.values("src"), *elements.values("href"), *elements.values("xlink:href")]
    assert len(links) > 20
    fetched = [
        link
        for tag, found in elements.elements
        for name, link in found.items()
        if link and (name in ("src", "poster", "xlink:href") or (name == "href" and tag != "a"))
    ]
    assert {link.split(":")[0].split("#")[0] for link in fetched} <= {"", "data"}
    assert not [link for link in links if re.match(r"(https?:)?//", link)]
    assert not [
        tag for tag, found in elements.elements if tag == "link" and found["href"] != "data:,"
    ]
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]+)\)", page))
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)


@pytest.mark.usefixtures("plain_layout")
def test_every_reference_has_its_target_and_no_id_occurs_twice(project: Project) -> None:
    project.add()
    project.add("fetch-reach", dimensions=3, tasks=("fetch-reach",))
    page = project.page(project.params([MAZE, "fetch-reach"]))
    ids = Elements(page).values("id")
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_the_page_shows_agents_rates_and_verdict(usual: Project, page: str) -> None:
    text = Elements(page).text
    metrics = usual.results(usual.params())[MAZE].metrics
    for agent in RATES:
        rate = metrics[agent]["success_rate"]
        assert f"{agent} " in text
        assert f"{rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]" in text
    assert "Use gciql." in text
    assert text.index("gciql 1 0.95") < text.index("gofar 2 0.6") < text.index("bc 3 0.1")
    assert "Behaviour cloning" in text
    assert "make repro" in text
    for setting in ("discriminator_learning_rate", "batch_size", "0.2 original, 0.8 geometric"):
        assert setting in text


def test_the_same_inputs_give_the_same_page(
    usual: Project, page: str, hindsight_figures_drawn_once: dict[str, list[NumberedFigure]]
) -> None:
    hindsight_figures_drawn_once.clear()
    assert usual.page() == page


@pytest.mark.usefixtures("plain_layout")
def test_pictures_and_videos_have_descriptions_for_screen_readers(project: Project) -> None:
    project.add()
    film = project.folders.results / MAZE / "gciql/seed-0/rollouts.mp4"
    film.write_bytes(b"film")
    elements = Elements(project.page()).elements
    plots = [found for tag, found in elements if tag == "svg" and found.get("class") == "plot"]
    assert len(plots) == 1 + 2 + 3 + 4 + 2  # Success, curves, maps, aggregates, hindsight.
    assert all(found["role"] == "img" and found["aria-label"] for found in plots)
    (video,) = [found for tag, found in elements if tag == "video"]
    assert video["aria-label"] == "gciql, seed 0: 4 of 4 goals reached"
    assert video["src"] == "data:video/mp4;base64,ZmlsbQ=="
    assert "poster" not in video  # It cannot be decoded.
    assert "autoplay" not in video
    assert {found.get("scope") for tag, found in elements if tag == "th"} == {"col", "row"}


@pytest.mark.usefixtures("plain_layout")
def test_videos_beyond_the_limit_are_named_and_not_embedded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add()
    for agent in RATES:
        for seed in (0, 1):
            path = project.folders.results / MAZE / agent / f"seed-{seed}/rollouts.mp4"
            path.write_bytes(bytes(10))
    monkeypatch.setattr(films_module, "MAX_VIDEO_BYTES", 45)
    page = project.page()
    assert page.count("data:video/mp4") == 4  # The first seed of all three, then one more.
    too_large = re.findall(r"Too large for this page: <code>\S+/(\w+)/(\S+)/rollouts.mp4", page)
    assert too_large == [("gciql", "seed-1"), ("bc", "seed-1")]


def test_figures_take_their_colours_from_the_theme_of_the_page(page: str) -> None:
    plots = re.findall(r'<svg class="plot".*?</svg>', page, flags=re.DOTALL)
    assert plots
    for plot in plots:
        assert not re.search(r"(?<!, )#(000000|ffffff|e6e6e6)", plot)


def test_names_of_curves_do_not_overlap_and_are_within_the_axes() -> None:
    ends = {"bc": 0.0, "gcbc": 0.0, "gofar": 0.99, "gciql": 1.0}
    curves = {
        agent: pl.DataFrame(
            {"update": [1, 2], "mean": [0.5, end], "low": [0.4, end], "high": [0.6, end]}
        )
        for agent, end in ends.items()
    }
    figure = curves_figure({MAZE: curves})
    names: Any = figure.axes[0].texts
    plt.close(figure)
    heights = sorted(float(name.xyann[1]) for name in names)
    assert 0.03 < heights[0] < heights[-1] < 0.97
    assert min(np.diff(heights)) >= 0.069
    lines = {name.get_text(): float(name.xy[1]) for name in names if name.arrow_patch}
    # From the ends of the curves to the names that are not next to them.
    assert lines == {"bc": 0.0, "gofar": 0.99}


@pytest.mark.parametrize("updates", [2_400, 20_000, 99_000, 200_000, 1_000_000])
def test_labels_of_updates_in_small_panels_do_not_touch(updates: int) -> None:
    curve = pl.DataFrame({"update": [1, updates], "mean": 0.5, "low": 0.4, "high": 0.6})
    figure = task_curves_figure({"bc": dict.fromkeys("abcd", curve)}, {})
    figure.draw_without_rendering()
    extents = [
        label.get_window_extent()
        for axes in figure.axes
        for label in axes.get_xticklabels()
        if label.get_position()[0] <= axes.get_xlim()[1]
    ]
    plt.close(figure)
    gaps = [right.x0 - left.x1 for left, right in pairwise(extents)]
    assert min(gaps) >= 4  # half a digit


def test_panels_fill_their_rows() -> None:
    sizes = {1: (1, 1), 3: (1, 3), 4: (2, 2), 5: (2, 3), 6: (2, 3), 7: (3, 3), 9: (3, 3)}
    assert {panels: grid(panels, 3) for panels in sizes} == sizes


def test_an_agent_has_the_same_colour_in_the_learning_curves_of_all_datasets() -> None:
    curve = pl.DataFrame({"update": [1, 2], "mean": 0.5, "low": 0.4, "high": 0.6})
    figure = curves_figure({MAZE: {"bc": curve, "gciql": curve}, "other": {"gciql": curve}})
    (_, first), (second,) = (axes.lines for axes in figure.axes)
    assert first.get_color() == second.get_color()
    plt.close(figure)


def test_labels_of_rates_near_0_and_1_stay_within_the_axes() -> None:
    rates = {name: {"mean": rate, "low": rate, "high": rate} for name, rate in (("a", 1.0), ("b", 0.5), ("c", 0.0))}  # fmt: skip
    metrics = {MAZE: {name: {"success_rate": rate} for name, rate in rates.items()}}
    figure = success_figure(metrics, seeds={MAZE: {"a": [1.0, 1.0], "b": [0.4, 0.6], "c": [0.0]}})
    figure.draw_without_rendering()
    (axes,) = figure.axes
    inside = axes.get_window_extent()
    extents = [text.get_window_extent() for text in axes.texts]
    plt.close(figure)
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.50", "0.00"]
    assert min(extent.x0 for extent in extents) >= inside.x0 - 5
    assert max(extent.x1 for extent in extents) <= inside.x1 + 5


def test_lengths_in_figures_are_rounded_but_text_is_not() -> None:
    figure, axes = plt.subplots()
    axes.set_title("0.0012345")
    svg = inline_svg(figure, "cut", "a number")
    assert ">0.0012345<" in svg
    assert not re.search(r"<path[^>]+\d\.\d{3}", svg)


@pytest.mark.usefixtures("plain_layout")
def test_datasets_without_an_environment_say_so_and_others_are_evaluated(project: Project) -> None:
    project.add()
    project.add_data("fetch-reach")
    for agent in RATES:
        folder = project.folders.results / "fetch-reach" / agent
        folder.mkdir(parents=True)
        write_json(folder / "skipped.json", {"reason": "the recipe names no environment"})
    params = project.params([MAZE, "fetch-reach"])
    text = Elements(project.page(params)).text
    assert "Not evaluated. The recipe names no environment." in text
    assert "bc was not evaluated: the recipe names no environment" in text
    assert "Use gciql." in text
    assert headline_numbers(project.results(params))["fetch-reach"] == {}
    assert "bc: not evaluated; the recipe names no environment" in markdown_report(
        project.results(params)
    )


def test_missing_results_are_an_error_that_says_what_to_do(project: Project) -> None:
    project.add()
    with pytest.raises(DataError, match=r"seed-2: no results; run `dvc repro`"):
        project.results(project.params(seeds=3))


@pytest.mark.usefixtures("plain_layout")
def test_several_tasks_have_a_table_of_success_by_task(project: Project) -> None:
    project.add(tasks=("near", "far"))
    params = project.params()
    by_task = project.results(params)[MAZE].agents["gofar"].success_by_task()
    assert {task: rate.mean for task, rate in by_task.items()} == {"near": 0.6, "far": 0.6}
    text = Elements(project.page(params)).text
    assert "Success by task" in text
    assert "far 0.60 [" in text
    assert "| far | 0.60 [" in markdown_report(project.results(params))


@pytest.mark.usefixtures("plain_layout")
def test_goals_of_several_tasks_have_no_common_map(project: Project) -> None:
    project.add(tasks=("near", "far"))
    page = project.page()
    assert "Map of goals for" not in page
    assert "The goals belong to several tasks" in page


def test_a_dataset_measured_by_success_at_any_step_is_reported_by_it(project: Project) -> None:
    project.add()
    params = project.params()
    for agent in RATES:  # bc passes every goal, and stays at few.
        for seed in (0, 1):
            path = project.folders.results / MAZE / agent / f"seed-{seed}/episodes.parquet"
            table = pl.read_parquet(path)
            any_step = pl.lit(True) if agent == "bc" else pl.col("success")
            table.with_columns(success_any=any_step).write_parquet(path)
    results = project.results(params)[MAZE]
    by_any = DatasetResults(results.agents, {}, "any_step")
    assert verdict(results).headline == "Use gciql."
    assert verdict(by_any).headline != verdict(results).headline
    assert "bc reached 100% of the goals" in verdict(by_any).text
    left = "bc leaves goals again: it reached 100% of them at some step, and was at"
    assert left in verdict(results).text
    assert "leaves goals again" not in verdict(by_any).text
    assert headline_numbers({MAZE: by_any})[MAZE]["bc"]["success_rate"] == 1
    summary = markdown_report({MAZE: by_any})
    assert "| agent | success (any step) | success (last step) |" in summary


def test_one_task_has_no_table_of_tasks(page: str) -> None:
    assert "Success by task" not in page


@pytest.mark.usefixtures("plain_layout")
@pytest.mark.parametrize("dimensions", [1, 3])
def test_goals_are_mapped_where_they_can_be_drawn(project: Project, dimensions: int) -> None:
    project.add(dimensions=dimensions)
    page = project.page()
    assert page.count("Map of goals for") == 3
    assert ("The map shows the first two of three dimensions." in page) == (dimensions == 3)


@pytest.mark.usefixtures("plain_layout")
def test_goals_of_many_dimensions_have_no_map_and_the_page_says_why(project: Project) -> None:
    project.add(dimensions=29)
    page = project.page()
    assert "Map of goals for" not in page
    assert "Goals have 29 dimensions here, too many for a map" in page


def test_the_table_of_fetch_is_drawn_to_scale() -> None:
    scene = dataset_scene(resolve("fetch-reach", folder=RECIPES))
    assert scene.table_top == pytest.approx((1.05, 0.4, 0.5, 0.7))
    assert not scene.walls


def test_walls_are_those_of_the_maze_and_a_suite_of_several_has_none() -> None:
    umaze = resolve(MAZE, folder=RECIPES)
    assert len(dataset_scene(umaze).walls) == 18
    two = umaze.model_copy(update={"recipes": (*umaze.recipes, *umaze.recipes)})
    assert dataset_scene(two).walls == ()


@pytest.mark.usefixtures("plain_layout")
def test_a_dataset_card_is_shown_where_there_is_one(project: Project) -> None:
    project.add()
    folder = project.folders.cards / MAZE
    summary = {
        "facts": {"idle transitions": "0.75%"},
        "figures": {"starts": "Where episodes start"},
    }
    write_json(folder / "card.json", summary)
    (folder / "starts.svg").write_text(
        '<?xml version="1.0"?><svg width="72pt" height="36pt" viewBox="0 0 72 36" '
        'xmlns="http://www.w3.org/2000/svg"><path id="p" d="M0 0" style="stroke: #000000"/></svg>'
    )
    page = project.page()
    assert "Where episodes start" in page
    assert '<path d="M0 0" style="stroke: currentColor"/>' in page
    assert "idle transitions 0.75%" in Elements(page).text


@pytest.mark.usefixtures("plain_layout")
def test_names_from_recipes_cannot_break_the_page(usual: Project) -> None:
    params = usual.params()
    dataset = usual.datasets(params)[MAZE].model_copy(update={"title": "a <b> & c"})
    page = usual.rendered(params, {MAZE: dataset})
    assert "a &lt;b&gt; &amp; c" in page


# -------------------------------------------------------------------------------- all files


def test_agents_of_the_same_colour_have_different_lines() -> None:
    agents = [str(number) for number in range(24)]
    lines = list(zip(colours(agents).values(), dashes(agents).values(), strict=True))
    assert len(set(lines)) == len(agents)
    assert {dash for _, dash in lines[:8]} == {"-"}


def test_a_report_has_tables_figures_and_numbers(project: Project) -> None:
    project.add()
    params = project.params()
    output = project.root / "reports"
    metrics = write_report(
        params, project.datasets(params), project.results(params), project.folders, output
    )
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert json.loads((output / "headline.json").read_text())[MAZE]["bc"]["success_rate"] == 0.1
    assert "**Use gciql.**" in (output / "report.md").read_text()
    assert "| gciql | 1 | 0.95 [" in (output / "report.md").read_text()
    figures = {
        f"{name}-{MAZE}"
        for name in (
            "success", "learning_curves", "goals", "distances", "hindsight", "aggregates", "profiles", "improvement",
        )
    } | {"success", "learning_curves"}  # fmt: skip
    for kind in ("figures", "pdf"):
        assert {path.stem for path in (output / kind).iterdir()} == figures
    comparison = pl.read_csv(output / "comparison.csv").rows_by_key(
        "agent", named=True, unique=True
    )
    assert {agent: row["rank"] for agent, row in comparison.items()} == {
        "gciql": 1,
        "gofar": 2,
        "bc": 3,
    }
    assert comparison["gciql"]["difference_to_best"] is None
    assert comparison["bc"]["difference_to_best_high"] < 0
    assert_links_lead_to_files(output)


def assert_links_lead_to_files(output: Path) -> None:
    """Those to files of earlier stages are left out."""
    links = set(Elements((output / "index.html").read_text()).values("href"))
    files = {link for link in links if not link.startswith(("#", "data:", "../"))}
    assert len(files) > 20
    assert not [file for file in files if not (output / file).is_file()]


@pytest.mark.usefixtures("plain_layout")
def test_several_datasets_have_tables_and_figures_of_their_own_and_of_all_together(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_fonts(figure: Any, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch()  # Embedding fonts takes most of the time of a report; another test does it.

    monkeypatch.setattr("offline_gcrl.report.exports.save_for_paper", without_fonts)
    project.add(tasks=("near", "far"))
    project.add("fetch-reach", dimensions=3, tasks=("fetch-reach",))
    params = project.params([MAZE, "fetch-reach"])
    output = project.root / "reports"
    write_report(params, project.datasets(params), project.results(params), project.folders, output)
    assert_links_lead_to_files(output)
    rows = pl.read_csv(output / "tables/comparison-all-datasets.csv")
    assert rows["agent"].to_list() == ["gciql", "gofar", "bc"]
    assert rows["optimality gap"].to_list() == pytest.approx([0.05, 0.4, 0.9], abs=0.01)
    assert pl.read_csv(output / f"tables/tasks-{MAZE}.csv")["task"].to_list() == ["near", "far"]
    episodes = pl.read_csv(output / "tables/episodes-fetch-reach.csv")
    assert len(episodes) == 3 * 2 * 40
    assert len(episodes["goal"][0].split()) == 3
    text = Elements((output / "index.html").read_text()).text
    for kind in ("Figure", "Table"):
        numbers = [int(number) for number in re.findall(rf"{kind} (\d+)\. [A-Z]", text)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 8


def test_the_caption_explains_why_a_curve_ends_elsewhere_than_the_number_of_the_table(
    page: str,
) -> None:
    text = Elements(page).text
    assert (
        "so the last point and the table differ: gofar 0.80 and 0.60, gciql 0.80 and 0.95" in text
    )


def test_differences_have_the_same_signs_in_the_text_and_in_the_table(usual: Project) -> None:
    results = usual.results(usual.params())[MAZE]
    (row,) = (row for row in metrics_table(MAZE, results).rows if row[0] == "gofar")
    in_table = cell_text(row[3])
    points = re.search(
        r"gofar, the next best, differs by (\S+) percentage points", verdict(results).text
    )
    assert points is not None
    assert in_table.startswith("\N{MINUS SIGN}0.35")
    assert points[1] == "\N{MINUS SIGN}35"


def test_values_are_drawn_over_the_maze_and_planned_episodes_have_their_own_rows(
    project: Project,
) -> None:
    project.add(rates={"gciql": 0.5, "bc": 0.1})
    folder = project.folders.results / MAZE / "gciql"
    constant = {"task": MAZE, "goal_x": 1.0, "goal_y": 0.0, "unit": "discounted sum of rewards"}
    places = [(x / 4, y / 4) for x in range(-4, 5) for y in range(-4, 5)]
    rows = [{**constant, "x": x, "y": y, "value": -abs(x) - 9.0} for x, y in places]
    pl.DataFrame(rows).write_parquet(folder / "value_map.parquet")
    for seed in range(2):
        planned = evaluated_episodes(0.9, seed=seed)
        planned.write_parquet(folder / f"seed-{seed}" / "planned.parquet")
    params = project.params(agents=("gciql", "bc"))
    results = project.results(params)[MAZE]
    page = project.page(params)
    text = Elements(page).text
    assert "Map of the value of gciql" in page
    assert "value: discounted sum of rewards" in text
    assert "because their value is no number of steps: bc" in text
    heading = "agent without planner with planner difference"
    found = re.search(rf"{heading} gciql (0.\d+) .*?(0.\d+) \[", text)
    assert found is not None
    assert found.groups() == ("0.50", "0.90")
    assert results.metrics["gciql"]["success_rate"]["mean"] == 0.5
    draw_values(project.datasets(params)[MAZE], results, saving(project.root))
    assert (project.root / f"figures/values-{MAZE}.svg").exists()
    assert (project.root / f"pdf/values-{MAZE}.pdf").exists()


def test_a_comparison_without_results_is_an_empty_table() -> None:
    assert flat_comparisons({MAZE: DatasetResults({}, {"bc": "why not"})}).height == 0


def test_the_template_of_dvc_plots_uses_existing_columns(usual: Project) -> None:
    columns = flat_curves(all_curves(usual.results(usual.params()))).columns
    template = json.loads((ROOT / ".dvc/plots/learning_curves.json").read_text())
    fields: list[str] = []

    def collect(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else ():
            fields.extend([value] if key == "field" else [])
            collect(value)
        for value in node if isinstance(node, list) else ():
            collect(value)

    collect(template)
    known = {*columns, "rev", "<DVC_METRIC_X>", "<DVC_METRIC_Y>"}
    assert {"low", "high", "agent", "dataset"} <= set(fields) <= known


# ----------------------------------------------------------------------------- layout in a browser


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., str]:
    """Runs Chromium on a page and returns the document after its scripts have run."""
    if CHROMIUM is None:
        pytest.skip("no Chromium found to lay the page out")

    def run(content: str) -> str:
        path = tmp_path / "wrapped.html"
        path.write_text(content)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        options += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'chromium'}"]
        answer = subprocess.run(
            [CHROMIUM, *options, "--dump-dom", "--virtual-time-budget=3000", path.as_uri()],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return answer.stdout

    return run


def test_nothing_is_wider_than_the_screen_of_phone_or_desk(
    project: Project, browser: Callable[[str], str]
) -> None:
    project.add(tasks=("near", "far"))
    project.add("fetch-reach", dimensions=3, tasks=("fetch-reach",))
    (project.folders.results / MAZE / "gciql/seed-0/rollouts.mp4").write_bytes(b"film")
    content = html.escape(project.page(project.params([MAZE, "fetch-reach"])))
    frames = [
        f'<iframe width={width} height=900 style="border: 0" srcdoc="{content}"></iframe>'
        for width in (320, 390, 1280)
    ]
    script = """
      onload = () => {
        document.title = [...document.querySelectorAll("iframe")].map(frame => {
          const inside = frame.contentDocument;
          inside.querySelectorAll("details").forEach(part => { part.open = true; });
          const root = inside.documentElement;
          return root.clientWidth + ":" + Math.max(root.scrollWidth, inside.body.scrollWidth);
        }).join(" ");
      };
    """
    shown = browser(f"<!doctype html><title>?</title><script>{script}</script>{''.join(frames)}")
    found = re.search(r"<title>([\d: ]+)</title>", shown)
    assert found, shown[:300]
    widths = [tuple(map(int, pair.split(":"))) for pair in found[1].split()]
    assert len(widths) == 3
    for screen, (inside, needed) in zip((320, 390, 1280), widths, strict=True):
        assert screen - 20 <= inside <= screen  # Less a scroll bar.
        assert needed <= inside


@pytest.mark.usefixtures("plain_layout")
def test_training_settings_of_single_agents_are_shown(project: Project) -> None:
    params = project.params(agents=("gciql", "bc"))
    assert not any(name.startswith("train.") for name in settings_of_agents(params, MAZE))
    special = {"per_agent": {"bc": {"precision": "bf16"}}}
    params = params.model_copy(update={"train": params.train | special})
    rows = settings_of_agents(params, MAZE)
    own = {name: values for name, values in rows.items() if name.startswith("train.")}
    assert own == {"train.precision": {"gciql": "fp32", "bc": "bf16"}}
