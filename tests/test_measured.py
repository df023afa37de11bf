"""Results of studies that are kept in the repository: tables in the docs are those of the kept episodes."""

from pathlib import Path

import measured
import polars as pl
import pytest
from conftest import ROOT

from offline_gcrl.config.outputs import LEARNING_CURVE
from offline_gcrl.config.published import load_published
from offline_gcrl.evaluation.results import EPISODE_COLUMNS
from offline_gcrl.report.exports import markdown

STUDIES = sorted(path.parent.name for path in (ROOT / measured.MEASURED).glob("*/episodes.parquet"))


@pytest.mark.parametrize("study", STUDIES)
def test_tables_of_the_docs_are_those_of_the_episodes(study: str) -> None:
    folder = ROOT / measured.MEASURED / study
    episodes = pl.read_parquet(folder / measured.EPISODES)
    page = (ROOT / "docs/results.md").read_text()
    numbers = load_published(study, ROOT / "docs/published")
    files = {measured.EPISODES}
    if measured.has_curves(numbers):
        files |= {measured.CURVES, measured.FIGURE}
        policies = (
            table.select(measured.POLICY).unique().sort(measured.POLICY)
            for table in (episodes, pl.read_parquet(folder / measured.CURVES))
        )
        assert next(policies).equals(next(policies))
        assert f"measured/{study}/{measured.FIGURE}" in page
    for table in measured.tables(episodes, numbers):
        assert "\n".join(markdown(table)[2:]) in page, (
            f"{table.name}: python docs/measured.py {study}"
        )
        for name, text in measured.files_of(table).items():
            assert (folder / name).read_text() == text
            files.add(name)
    assert {path.name for path in folder.iterdir()} == files


def test_results_of_a_further_part_are_added_and_those_of_the_same_seed_replaced(
    tmp_path: Path,
) -> None:
    def write(seed: int, returns: list[float], noise: float | None = None) -> None:
        folder = tmp_path / f"fetch-push/gofar/seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = {
            "episode": range(len(returns)),
            "success": True,
            "success_any": True,
            "final_distance": 0.02,
            "discounted_return": returns,
        }
        table = pl.DataFrame(rows, schema_overrides=EPISODE_COLUMNS).with_columns(
            pl.col("discounted_return").alias("return"), pl.lit(3).alias("steps_to_goal")
        )
        name = "episodes" if noise is None else "noisy"
        table = table if noise is None else table.with_columns(pl.lit(noise).alias("noise"))
        table.write_parquet(folder / f"{name}.parquet")

    write(0, [10.0, 20.0])
    first = list(measured.results_in(tmp_path))
    write(0, [30.0, 30.0])
    write(1, [40.0, 40.0])
    write(1, [5.0, 5.0], noise=0.5)
    episodes = measured.joined([*first, *measured.results_in(tmp_path)])
    plain, noisy = measured.tables(episodes, load_published("gofar", ROOT / "docs/published"))
    (row,) = plain.rows
    assert row[:2] == ["gofar", 2]
    assert [cell.mean for cell in row[2:5]] == pytest.approx([1.0, 2.0, 35.0])  # type: ignore[union-attr]
    assert row[5] == "18.9"
    assert noisy.rows[0][:3] == ["gofar", "0.5", 1]


def test_curves_of_a_further_seed_are_added_and_drawn_with_those_of_before(tmp_path: Path) -> None:
    def write(seed: int, rates: list[float]) -> None:
        folder = tmp_path / f"results/maze/hiql/seed-{seed}"
        folder.mkdir(parents=True)
        curve = pl.DataFrame({"update": [10, 20], "mean": rates, "low": 0.0, "high": 1.0, "episodes": 10})  # fmt: skip
        curve.write_parquet(folder / LEARNING_CURVE)
        measured.write_curves(tmp_path / "results", tmp_path)

    write(0, [0.0, 0.4])
    write(1, [0.2, 0.8])
    curves = pl.read_parquet(tmp_path / measured.CURVES)
    assert curves["training_seed"].to_list() == [0, 0, 1, 1]
    over, single = measured.curves_by_agent(curves)
    assert over["maze"]["hiql"]["mean"].to_list() == pytest.approx([0.1, 0.6])
    assert [len(curve) for curve in single["maze"]["hiql"]] == [2, 2]
    assert "hiql" in (tmp_path / measured.FIGURE).read_text()


def test_a_metric_that_no_episode_has_is_a_dash() -> None:
    episodes = pl.DataFrame(
        {
            "dataset": "ogbench-cube-single-play", "agent": "crl", "training_seed": 0, "noise": None,
            "episode": [0, 1], "success": False, "success_any": False, "final_distance": 1.0,
            "return": 0.0, "discounted_return": 0.0, "steps_to_goal": None,
        },
        schema_overrides={"noise": pl.Float64, "steps_to_goal": pl.Int32},
    )  # fmt: skip
    (table,) = measured.tables(episodes, load_published("ogbench", ROOT / "docs/published"))
    (row,) = table.rows
    assert row[:2] == ["crl", 1]
    assert row[3:] == ["-", "0.19 ± 0.02"]
