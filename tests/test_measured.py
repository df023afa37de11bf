"""Results of studies that are kept in the repository: tables in the docs are those of the kept episodes."""

from pathlib import Path

import measured
import polars as pl
import pytest
from conftest import ROOT

from offline_gcrl.config.published import load_published
from offline_gcrl.evaluation.results import EPISODE_COLUMNS
from offline_gcrl.report.exports import markdown

STUDIES = sorted(path.parent.name for path in (ROOT / measured.MEASURED).glob("*/episodes.parquet"))


@pytest.mark.parametrize("study", STUDIES)
def test_tables_of_the_docs_are_those_of_the_episodes(study: str) -> None:
    folder = ROOT / measured.MEASURED / study
    episodes = pl.read_parquet(folder / measured.EPISODES)
    page = (ROOT / "docs/results.md").read_text()
    files = {measured.EPISODES}
    for table in measured.tables(episodes, load_published(study, ROOT / "docs/published")):
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
