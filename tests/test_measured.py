"""Results of studies that are kept in the repository: tables in the docs are those of the kept episodes."""

import sys
from dataclasses import dataclass
from pathlib import Path

import measured
import polars as pl
import pytest
import yaml
from conftest import RECIPES, ROOT

from offline_gcrl.config.outputs import LEARNING_CURVE
from offline_gcrl.config.published import load_published
from offline_gcrl.evaluation.results import EPISODE_COLUMNS
from offline_gcrl.report.exports import markdown
from offline_gcrl.support.errors import DataError

STUDIES = sorted(path.parent.name for path in (ROOT / measured.MEASURED).glob("*/episodes.parquet"))


@pytest.mark.parametrize("study", STUDIES)
def test_tables_of_the_docs_are_those_of_the_episodes(study: str) -> None:
    folder = ROOT / measured.MEASURED / study
    episodes = pl.read_parquet(folder / measured.EPISODES)
    page = (ROOT / "docs/results.md").read_text()
    numbers = load_published(study, ROOT / "docs/published")
    found = measured.summaries(episodes, numbers)
    files = {measured.EPISODES, *measured.figures(found, numbers)}
    for name in files - {measured.EPISODES}:
        assert f"measured/{study}/{name}" in page
    seeds = pl.read_csv(folder / measured.SEEDS)
    assert seeds["success"].to_list() == pytest.approx(
        measured.by_seed(episodes)["success"].to_list(), abs=1e-4
    )
    files.add(measured.SEEDS)
    if measured.has_curves(numbers):
        files |= {measured.CURVES, measured.FIGURE}
        policies = (
            table.select(measured.POLICY).unique().sort(measured.POLICY)
            for table in (episodes, pl.read_parquet(folder / measured.CURVES))
        )
        assert next(policies).equals(next(policies))
        assert f"measured/{study}/{measured.FIGURE}" in page
    for table in measured.tables(found, numbers):
        assert "\n".join(markdown(table)[2:]) in page, (
            f"{table.name}: python docs/measured.py {study}"
        )
        for name, text in measured.files_of(table).items():
            assert (folder / name).read_text() == text
            files.add(name)
    assert {path.name for path in folder.iterdir()} == files


@dataclass(frozen=True)
class Project:
    """A project with results of the agent gofar in FetchPush, after three updates, in episodes of one step."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def settings(self, episodes: int = 2, published: str | None = "gofar") -> None:
        """Write ``params.yaml``."""
        recipes = self.folder / "datasets/recipes"
        if not recipes.exists():
            recipes.parent.mkdir(parents=True)
            recipes.symlink_to(RECIPES)
        params = yaml.safe_load((ROOT / "docs/experiments/gofar.yaml").read_text())
        params["experiment"]["published"] = published
        params["train"] = {"updates": 3, "batch_size": 4, "snapshots": 1}
        params["evaluate"] = {"episodes": episodes, "curve_episodes": 1}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    def policy(self, seed: int, returns: list[float], noise: float | None = None) -> None:
        """Write the episodes of a training seed."""
        rows = {"update": 3, "episode": range(len(returns)), "success": True, "success_any": True,
                "final_distance": 0.02, "discounted_return": returns}  # fmt: skip
        table = pl.DataFrame(rows, schema_overrides=EPISODE_COLUMNS).with_columns(
            pl.col("discounted_return").alias("return"), pl.lit(3).alias("steps_to_goal")
        )
        folder = self.results / f"fetch-push/gofar/seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        if noise is None:
            table.write_parquet(folder / "episodes.parquet")
        else:
            noisy = table.with_columns(pl.lit(noise).alias("noise"))
            noisy.write_parquet(folder / "noisy.parquet")

    def add(self) -> pl.DataFrame:
        """Add the results to those of the study ``gofar``."""
        policies = measured.policies_in(self.results, "gofar")
        return measured.add(measured.episodes_of(policies), self.folder / "kept.parquet")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.settings()
    return made


def test_results_of_a_further_part_are_added_and_those_of_the_same_seed_replaced(
    project: Project,
) -> None:
    project.policy(0, [10.0, 20.0])
    project.add()
    project.policy(0, [30.0, 30.0])
    project.policy(1, [40.0, 40.0])
    project.policy(1, [5.0, 5.0], noise=0.5)
    numbers = load_published("gofar", ROOT / "docs/published")
    found = measured.summaries(project.add(), numbers)
    plain, noisy = measured.tables(found, numbers)
    assert set(measured.figures(found, numbers)) == {measured.COMPARISON, measured.NOISE}
    (row,) = plain.rows
    assert row[:2] == ["gofar", 2]
    assert [cell.mean for cell in row[2:5]] == pytest.approx([1.0, 2.0, 35.0])  # type: ignore[union-attr]
    assert row[5] == "18.9"
    assert noisy.rows[0][:3] == ["gofar", "0.5", 1]


def test_a_policy_that_is_trained_again_replaces_all_episodes_of_the_one_before(
    project: Project,
) -> None:
    project.settings(episodes=3)
    project.policy(0, [1.0, 1.0, 1.0])
    project.policy(0, [1.0, 1.0], noise=0.5)
    assert len(project.add()) == 5
    project.settings(episodes=2)
    project.policy(0, [7.0, 7.0])
    (project.results / "fetch-push/gofar/seed-0/noisy.parquet").unlink()
    assert project.add()["return"].to_list() == [7.0, 7.0]


def test_results_of_other_settings_are_not_added(project: Project) -> None:
    project.policy(0, [1.0, 1.0])
    project.settings(episodes=3)
    with pytest.raises(
        DataError, match=r"seed-0: is not of 3 episodes after 3 updates, as .*params"
    ):
        project.add()
    project.settings(published=None)
    with pytest.raises(DataError, match=r"published in .* is None, not gofar; `make study NAME="):
        project.add()


def test_results_of_other_datasets_are_not_added(project: Project) -> None:
    project.policy(0, [1.0, 1.0])
    (project.results / "fetch-push").rename(project.results / "pointmaze-umaze")
    with pytest.raises(DataError, match=r"kept.parquet: no such file, and there are no results"):
        project.add()


def test_kept_results_survive_a_full_disk(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.policy(0, [1.0, 1.0])
    kept = project.add()

    def half_written(table: pl.DataFrame, path: Path) -> None:
        path.write_bytes(b"PAR1")
        raise OSError("No space left on device")

    monkeypatch.setattr(measured, "write_parquet", half_written)
    project.policy(1, [1.0, 1.0])
    with pytest.raises(OSError, match="No space"):
        project.add()
    assert pl.read_parquet(project.folder / "kept.parquet").equals(kept)


def test_a_study_that_does_not_exist_is_an_error_that_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["measured.py", "gofr"])
    with pytest.raises(SystemExit):
        measured.main()
    assert "no file docs/published/gofr.yaml; did you mean 'gofar'?" in capsys.readouterr().err
    assert not (ROOT / "docs/measured/gofr").exists()


def test_curves_of_a_further_seed_are_added_and_drawn_with_those_of_before(tmp_path: Path) -> None:
    def write(seed: int, rates: list[float]) -> None:
        folder = tmp_path / f"results/maze/hiql/seed-{seed}"
        folder.mkdir(parents=True)
        curve = pl.DataFrame({"update": [10, 20], "mean": rates, "low": 0.0, "high": 1.0, "episodes": 10})  # fmt: skip
        curve.write_parquet(folder / LEARNING_CURVE)
        measured.write_curves({("maze", "hiql", seed): folder}, tmp_path)

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
    numbers = load_published("ogbench", ROOT / "docs/published")
    (table,) = measured.tables(measured.summaries(episodes, numbers), numbers)
    (row,) = table.rows
    assert row[:2] == ["crl", 1]
    assert row[3:] == ["-", "0.19 ± 0.02"]
