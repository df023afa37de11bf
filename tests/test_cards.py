"""The numbers of a card agree with a slow count, and the same data gives the same card."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import RECIPES, SmallDataset, as_dataset
from matplotlib import pyplot as plt

from offline_gcrl.cards import measure as measuring
from offline_gcrl.cards.card import (
    card_metrics,
    card_params,
    success_sentence,
    task_scene,
    write_card,
)
from offline_gcrl.cards.coverage import BINS, Coverage
from offline_gcrl.cards.drawing import episodes_figure
from offline_gcrl.cards.measure import ACTION_BINS, MOVING, IngestedDataset, measure, summarise
from offline_gcrl.cards.replay import Replay
from offline_gcrl.config import Dataset, Part, Success, load_recipe
from offline_gcrl.config.outputs import CARD, PAGE
from offline_gcrl.episodes.ingest import ingest

REPLAYS = {"somewhere/data-v0": Replay("not replayable", reason="no seed is recorded")}


@pytest.fixture(scope="module")
def card(dataset: SmallDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    write_card(dataset.resolved, dataset.parquet, REPLAYS, folder)
    return folder


def slow_counts(dataset: SmallDataset, source: str) -> dict[str, float]:
    """Shares of the transitions of a source, counted one by one."""
    episodes, counts = dataset.episodes, {"idle": 0, "moving": 0, "still_moving": 0}
    total = 0
    for row in episodes.table.filter(pl.col("source") == source).iter_rows(named=True):
        first, length = row["first_row"], row["length"]
        achieved = episodes.achieved_goal[first : first + length + 1].astype(np.float64)
        desired = episodes.desired_goal[first : first + length + 1].astype(np.float64)
        moves = []
        for step in range(length):
            distances = [np.linalg.norm(achieved[step + i] - desired[step]) for i in (0, 1)]
            counts["idle"] += max(distances) <= 0.45
            moves.append(np.linalg.norm(achieved[step + 1] - achieved[step]) > MOVING * 0.45)
        counts["moving"] += sum(moves)
        counts["still_moving"] += sum(any(moves[step:]) for step in range(length))
        total += length
    return {key: count / total for key, count in counts.items()}


def test_shares_are_those_of_a_slow_count(dataset: SmallDataset, card: Path) -> None:
    content = json.loads((card / CARD).read_text())
    for source in dataset.recipe.sources:
        for key, share in slow_counts(dataset, source.dataset).items():
            assert content["sources"][source.dataset][f"{key}_share"] == pytest.approx(share), key


def test_chunks_of_any_size_give_the_same_numbers(
    dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = IngestedDataset(dataset.parquet, dataset.resolved)
    whole = measure(data)
    monkeypatch.setattr(
        measuring, "NUMBERS_PER_CHUNK", 7 * 6
    )  # Seven rows of two goals and an action.
    chunks = list(data.chunks())
    assert {len(chunk.step) for chunk in chunks[:-1]} == {7}
    parts = measure(data)
    assert summarise(data, parts) == summarise(data, whole)
    np.testing.assert_array_equal(parts.actions, whole.actions)
    np.testing.assert_array_equal(parts.coverage.achieved, whole.coverage.achieved)
    np.testing.assert_array_equal(parts.coverage.desired, whole.coverage.desired)


def test_every_state_goal_and_action_is_counted_once(dataset: SmallDataset) -> None:
    measures = measure(IngestedDataset(dataset.parquet, dataset.resolved))
    transitions = [6 * 60, 3 * 60]
    assert measures.coverage.achieved.sum((1, 2)).tolist() == [6 * 61, 3 * 61]
    assert measures.coverage.desired is not None
    assert measures.coverage.desired.sum((1, 2)).tolist() == transitions
    assert measures.actions.sum(2).tolist() == [[count] * 2 for count in transitions]


def test_actions_are_counted_from_bound_to_bound(dataset: SmallDataset) -> None:
    measures = measure(IngestedDataset(dataset.parquet, dataset.resolved))
    rows = dataset.episodes.transition_rows()
    for dimension in range(2):
        expected, _ = np.histogram(
            dataset.episodes.action[rows, dimension], np.linspace(-1, 1, ACTION_BINS + 1)
        )
        difference = np.abs(measures.actions.sum(0)[dimension] - expected)
        assert difference.sum() <= 2  # What lies on an edge may fall to either side.


def test_totals_are_those_of_the_sources(dataset: SmallDataset, card: Path) -> None:
    content = json.loads((card / CARD).read_text())
    sources = content["sources"].values()
    assert (
        content["all"]["transitions"] == sum(source["transitions"] for source in sources) == 9 * 60
    )
    assert content["tasks"] == {"pointmaze-umaze": content["all"]}
    demonstrations = content["sources"][dataset.recipe.sources[1].dataset]
    reached = dataset.episodes.table.filter(kind="demonstration")["success"].sum()
    assert demonstrations["success"]["mean"] == reached / 3
    assert demonstrations["success"]["low"] < reached / 3 <= demonstrations["success"]["high"]


def test_the_same_data_gives_the_same_bytes(
    dataset: SmallDataset, card: Path, tmp_path: Path
) -> None:
    write_card(dataset.resolved, dataset.parquet, REPLAYS, tmp_path)
    names = sorted(path.name for path in card.iterdir())
    figures = [f"{name}.{kind}" for name in ("actions", "coverage", "episodes") for kind in ("pdf", "svg")]  # fmt: skip
    assert names == sorted([*figures, CARD, PAGE])
    for name in names:
        assert (tmp_path / name).read_bytes() == (card / name).read_bytes(), name


def test_the_page_names_sources_licence_threshold_and_replay(
    dataset: SmallDataset, card: Path
) -> None:
    page = (card / PAGE).read_text()
    for source in dataset.recipe.sources:
        assert source.dataset in page
    for words in (
        f"Licence: {dataset.recipe.licence}",
        "1% of the tolerance (0.0045)",
        "no seed is recorded",
    ):
        assert words in page
    for name in ("coverage", "actions", "episodes"):
        assert f"({name}.svg)" in page


def test_logged_metrics_are_over_the_complete_dataset(card: Path) -> None:
    content = json.loads((card / CARD).read_text())
    metrics = card_metrics(content)
    assert metrics["transitions"] == 540
    assert metrics["success_low"] < metrics["success_mean"] < metrics["success_high"]
    assert card_params(content)["replay"] == "not replayable"


def full_state(dataset: SmallDataset) -> Dataset:
    """The same data with complete observations as goals, and without original goals."""
    state = (Part(key="observation"),)
    success = Success(kind="same_step")
    goal = dataset.recipe.goal.model_copy(
        update={"achieved": state, "desired": None, "success": success}
    )
    return as_dataset(dataset.recipe.model_copy(update={"goal": goal, "evaluation": None}))


def test_full_states_are_shown_along_their_principal_axes(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    resolved = full_state(dataset)
    ingest(resolved, dataset.minari, tmp_path)
    coverage = measure(IngestedDataset(tmp_path, resolved)).coverage
    assert coverage.kind == "principal"
    states = dataset.episodes.observation.astype(np.float64)
    standard = (states - states.mean(0)) / states.std(0)
    values = np.linalg.svd(standard, compute_uv=False) ** 2
    np.testing.assert_allclose(coverage.axes.explained, (values / values.sum())[:2], rtol=1e-4)
    points = coverage.axes.points(dataset.episodes.observation)
    np.testing.assert_allclose(np.corrcoef(points.T)[0, 1], 0.0, atol=1e-6)
    inside = np.abs(points) <= 4 * points.std(0)
    assert coverage.achieved.sum() == pytest.approx(inside.all(1).sum(), abs=2)


def test_without_original_goals_the_idle_share_is_unknown(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    resolved = full_state(dataset)
    (tmp_path / "data").mkdir()
    ingest(resolved, dataset.minari, tmp_path / "data")
    content = write_card(resolved, tmp_path / "data", {}, tmp_path / "card")
    assert content["all"]["idle_share"] is None
    assert content["all"]["success"] is None
    assert "not known" in (tmp_path / "card" / PAGE).read_text()


def test_goals_of_many_numbers_are_shown_per_dimension(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    columns = (Part(key="observation", columns=(0, 1, 2, 3)), Part(key="achieved_goal"))
    goals = {"achieved": columns, "desired": columns}
    recipe = dataset.recipe.model_copy(
        update={"goal": dataset.recipe.goal.model_copy(update=goals), "evaluation": None}
    )
    (tmp_path / "data").mkdir()
    ingest(as_dataset(recipe), dataset.minari, tmp_path / "data")
    data = IngestedDataset(tmp_path / "data", as_dataset(recipe))
    coverage = measure(data).coverage
    assert coverage.kind == "dimensions"
    assert coverage.achieved.shape == (2, 6, BINS)
    assert (coverage.achieved.sum(2) == np.array([[6 * 61], [3 * 61]])).all()
    write_card(as_dataset(recipe), tmp_path / "data", {}, tmp_path / "card")
    assert (tmp_path / "card/coverage.svg").exists()


def test_each_task_of_a_suite_has_its_own_numbers_and_range(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    recipe = dataset.recipe
    first, second = (
        recipe.model_copy(update={"task": task, "sources": (source,), "evaluation": None})
        for task, source in zip(("wander", "show"), recipe.sources, strict=True)
    )
    suite = as_dataset(first, second)
    (tmp_path / "data").mkdir()
    ingest(suite, dataset.minari, tmp_path / "data")
    content = write_card(suite, tmp_path / "data", {}, tmp_path / "card")
    assert content["tasks"]["show"] == content["sources"][recipe.sources[1].dataset]
    assert "## Tasks" in (tmp_path / "card" / PAGE).read_text()
    coverage: Coverage = measure(IngestedDataset(tmp_path / "data", suite)).coverage
    assert not np.array_equal(coverage.axes.low[0], coverage.axes.low[1])


def test_values_that_are_the_same_in_every_episode_are_not_drawn(dataset: SmallDataset) -> None:
    data = IngestedDataset(dataset.parquet, dataset.resolved)
    drawn = episodes_figure(data)
    assert drawn is not None
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["return"]
    plt.close(drawn)
    data.episodes = data.episodes.with_columns(pl.lit(0.0, pl.Float32).alias("return"))
    assert episodes_figure(data) is None


@pytest.mark.parametrize(
    ("recipe", "walls"),
    [("ogbench-pointmaze-medium-navigate", 38), ("ogbench-cube-single-play", 0)],
)
def test_walls_of_ogbench_mazes_are_found(recipe: str, walls: int) -> None:
    pytest.importorskip("ogbench")
    assert len(task_scene(load_recipe(recipe, RECIPES)).walls) == walls


def test_figures_are_closed(card: Path) -> None:
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("success", "words"),
    [
        (
            {"kind": "distance", "tolerance": 0.3, "parts": (7, 1)},
            "for each of its parts (7, 1 numbers), the distance to the achieved goal is at most 0.3",
        ),
        ({"kind": "per_dimension", "tolerances": (0.1, 0.2)}, "its tolerance (0.1, 0.2)"),
        (
            {"kind": "predicate", "predicate": "above", "dimensions": (0,), "tolerance": 0.0},
            "if the achieved goal is above it in dimension 0",
        ),
        ({"kind": "same_step"}, "only at the step that it was taken from"),
    ],
)
def test_the_success_test_is_described_in_words(success: dict[str, Any], words: str) -> None:
    assert words in success_sentence(Success.model_validate(success))
