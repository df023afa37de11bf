"""Numbers that papers print are next to the measured ones, with the numbers of single training seeds."""

import csv
import io
from pathlib import Path

import polars as pl
import pytest
from conftest import RECIPES, ROOT, SmallDataset
from matplotlib.figure import Figure
from test_report import MAZE, Elements, Project, curve, evaluated_episodes

from offline_gcrl.config import Params, load_params
from offline_gcrl.config.published import PrintedNumber, PublishedTable, load_published
from offline_gcrl.config.resolving import recipe_names
from offline_gcrl.figures.published import BELOW, published_figure
from offline_gcrl.report.exports import Table, as_csv, as_latex
from offline_gcrl.report.facts import Folders
from offline_gcrl.report.published import (
    compare,
    draw_published,
    flat_seeds,
    latex_report,
    published_content,
    published_tables,
    seeds_table,
)
from offline_gcrl.report.results import AgentResults, DatasetResults
from offline_gcrl.statistics.intervals import Estimate, wilson
from offline_gcrl.support.errors import SettingsError

FOLDER = ROOT / "docs/published"
PAPER = """
tables:
  - title: a paper
    metric: success_rate
    setting: as here
    spread: standard deviation over 8 seeds
    scale: 0.01
    values:
      pointmaze-umaze: {gciql: "90 ± 3", bc: "95.5 ± 1"}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, dataset: SmallDataset) -> Project:
    made = Project(tmp_path_factory.mktemp("published"), dataset)
    (made.root / "published").mkdir()
    (made.root / "published/paper.yaml").write_text(PAPER)
    made.folders = Folders(**{**made.folders.__dict__, "published": made.root / "published"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offline_gcrl.statistics.intervals.RESAMPLES", 100)
        made.add()
        yield made  # type: ignore[misc]


def compared(project: Project) -> Params:
    params = project.params()
    experiment = params.experiment.model_copy(update={"published": "paper"})
    return params.model_copy(update={"experiment": experiment})


# --------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("name", ["gofar", "ogbench"])
def test_the_numbers_of_a_study_are_of_its_datasets_and_agents(name: str, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/recipes").symlink_to(RECIPES)
    (tmp_path / "params.yaml").write_text((ROOT / f"docs/experiments/{name}.yaml").read_text())
    params = load_params(tmp_path / "params.yaml")
    numbers = load_published(name, FOLDER)
    agents = {agent for table in numbers.tables for own in table.values.values() for agent in own}
    assert params.experiment.published == name
    assert agents <= set(params.experiment.agents)
    for dataset in params.experiment.datasets:
        assert numbers.for_dataset(dataset), dataset


def test_numbers_are_found_by_dataset_agent_and_level_of_noise() -> None:
    gofar, ogbench = (load_published(name, FOLDER) for name in ("gofar", "ogbench"))
    assert set(gofar.tables[0].values) <= set(recipe_names(RECIPES))
    number = ogbench.tables[0].printed("ogbench-puzzle-3x3-play", "gciql")
    assert str(number) == "0.95 ± 0.01"
    assert str(gofar.tables[0].printed("fetch-slide", "gcsl")) == "1.80"
    assert gofar.tables[0].printed("fetch-slide", "gciql") is None
    noisy = gofar.tables[1]
    assert str(noisy.printed_with_noise("fetch-reach-random", 1.0, "gofar")) == "21.7"


def test_a_printed_number_keeps_the_digits_of_the_paper() -> None:
    assert str(PrintedNumber.of("63 ± 6", 0.01)) == "0.63 ± 0.06"
    assert str(PrintedNumber.of("11.9", 1.0)) == "11.9"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PAPER.replace("90 ± 3", "90 +- 3"), "values.pointmaze-umaze.gciql: "),
        (PAPER.replace("metric: success_rate", "metric: sucess"), "did you mean 'success_rate'?"),
        (
            PAPER + '    noise: {pointmaze-umaze: {high: {bc: "1"}}}\n',
            "'high' is no level of noise",
        ),
    ],
)
def test_a_number_that_cannot_be_read_is_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "paper.yaml").write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_published("paper", tmp_path)
    assert message in str(caught.value)


def test_an_unknown_file_of_numbers_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"gofra.yaml; did you mean 'gofar'\?"):
        load_published("gofra", FOLDER)


# -------------------------------------------------------------------------------------- the report


def test_printed_numbers_are_next_to_the_measured_ones(project: Project) -> None:
    params = compared(project)
    numbers = load_published("paper", project.folders.published)
    (table,) = published_tables(MAZE, project.results(params)[MAZE], numbers)
    (heading, *rows) = csv.reader(io.StringIO(as_csv(table)))
    found = {row[0]: dict(zip(heading, row, strict=True)) for row in rows}
    assert (found["gciql"]["printed"], found["gciql"]["minus printed"]) == ("0.90 ± 0.03", "+0.05")
    assert found["bc"]["minus printed"] == "\N{MINUS SIGN}0.86"
    assert found["gofar"]["printed"] == ""
    assert [found[agent]["rank"] for agent in ("gciql", "bc", "gofar")] == ["1", "2", ""]
    assert [found[agent]["printed rank"] for agent in ("gciql", "bc")] == ["2", "1"]
    assert float(found["gciql"]["success (last step) low"]) < 0.95
    assert "standard deviation over 8 seeds" in as_latex(table)


def test_the_page_and_the_latex_have_printed_numbers_and_single_seeds(project: Project) -> None:
    params = compared(project)
    text = Elements(project.page(params)).text
    assert "Compared with printed numbers" in text
    assert "and the printed ones of a paper." in text
    assert "0.96 ± 0.01" in text or "0.955 ± 0.010" in text
    assert "Metrics of each training run" in text
    numbers = load_published("paper", project.folders.published)
    latex = latex_report(project.results(params), params.experiment.seeds, numbers)
    assert [f"tab:{kind}-{MAZE}" in latex for kind in ("metrics", "published", "seeds")] == [
        True
    ] * 3


def test_the_figure_has_a_diamond_where_a_paper_has_a_number(project: Project) -> None:
    params = compared(project)
    found = project.results(params)[MAZE]
    numbers = load_published("paper", project.folders.published)
    panels = {MAZE: compare(MAZE, found, numbers.tables[0])}
    (axes,) = published_figure(panels, "success", is_rate=True).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gofar", "gciql", "bc"]
    diamonds = [bars.lines[0].get_xydata() for bars in axes.containers]  # type: ignore[union-attr]
    places = [number for points in diamonds for number in points[0]]
    assert places == pytest.approx([0.90, 1 + BELOW, 0.955, 2 + BELOW])
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == [
        found.metrics[name]["success_rate"]["mean"] for name in ("gofar", "gciql", "bc")
    ]
    drawn: dict[str, Figure] = {}
    draw_published({MAZE: found}, numbers, lambda figure, name: drawn.update({name: figure}))
    assert list(drawn) == [f"published-{MAZE}"]


def test_without_printed_numbers_there_is_no_comparison(project: Project) -> None:
    results = project.results(project.params())
    assert published_tables(MAZE, results[MAZE], None) == []
    assert published_content(MAZE, results[MAZE], None) is None
    assert published_tables(MAZE, results[MAZE], load_published("gofar", FOLDER)) == []


def test_every_training_seed_has_a_row(project: Project) -> None:
    params = project.params()
    results = project.results(params)
    table = seeds_table(MAZE, results[MAZE], params.experiment.seeds)
    assert [row[:2] for row in table.rows][:3] == [["gofar", 0], ["gofar", 1], ["gciql", 0]]
    flat = flat_seeds(results, params.experiment.seeds)
    one = flat.filter(agent="gciql", seed=1, metric="success_rate").to_dicts()
    own = results[MAZE].agents["gciql"].episodes[1]["success"].mean()
    assert one == [
        {"dataset": MAZE, "agent": "gciql", "seed": 1, "metric": "success_rate", "mean": own, "episodes": 40}
    ]  # fmt: skip


def last_evaluations(agent: AgentResults, snapshots: int) -> Table:
    """The table next to a paper that prints the mean of the last evaluations."""
    printed = PublishedTable(
        title="a paper", metric="success_rate", setting="as here", last_snapshots=snapshots,
        values={MAZE: {"bc": "0.4"}},
    )  # fmt: skip
    numbers = load_published("gofar", FOLDER).model_copy(update={"tables": (printed,)})
    (table,) = published_tables(MAZE, DatasetResults({"bc": agent}, {}), numbers)
    return table


def test_the_mean_of_the_last_evaluations_is_compared_if_the_paper_prints_it() -> None:
    episodes = [evaluated_episodes(0.5, seed=seed) for seed in (0, 1)]
    table = last_evaluations(AgentResults(episodes, [curve(), curve()]), 2)
    assert table.heading[1] == "success (last step), last 2 evaluations"
    assert round(table.rows[0][1].mean, 3) == 0.5  # type: ignore[union-attr]
    assert table.rows[0][3] == "+0.10"


def test_several_evaluations_on_the_same_episodes_count_as_one() -> None:
    def measured(snapshots: int, rates: list[float]) -> Estimate:
        curve = pl.DataFrame({"update": range(len(rates)), "mean": rates, "episodes": 20})
        table = last_evaluations(AgentResults([evaluated_episodes(0.5)], [curve]), snapshots)
        assert isinstance(table.rows[0][1], Estimate)
        return table.rows[0][1]

    assert measured(3, [0.5, 0.5, 0.5]) == measured(1, [0.5]) == wilson(10, 20)
    assert measured(3, [0.1, 0.45, 0.5, 0.5]).mean == pytest.approx(29 / 60)
