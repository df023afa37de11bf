"""Evaluation with noise on the actions: the same episodes, the same noise for every agent, and its place in the report."""

from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import polars as pl
import pytest
from conftest import SmallDataset, as_dataset, small_recipe
from matplotlib.figure import Figure
from pydantic import ValidationError
from test_planner import saved
from test_report import MAZE, Elements, Project, evaluated_episodes

from offline_gcrl.config import Evaluate
from offline_gcrl.config.outputs import NOISY_EPISODES
from offline_gcrl.config.published import PublishedNumbers, PublishedTable
from offline_gcrl.evaluation.jobs import FINAL, EpisodeJob, episode_job
from offline_gcrl.evaluation.plan import plan_evaluation, seed_result
from offline_gcrl.evaluation.probes import plan_probes, run_probes
from offline_gcrl.evaluation.results import EPISODE_COLUMNS
from offline_gcrl.evaluation.rollouts import as_action, run_episode
from offline_gcrl.report.findings import all_findings
from offline_gcrl.report.noise import draw_noise, noise_content, noise_table
from offline_gcrl.tracking.probes import probe_metrics

LEVELS = (0.5, 2.0)
SETTINGS = Evaluate(episodes=3, curve_episodes=1, action_noise=LEVELS)


@pytest.fixture(scope="module")
def policy(dataset: SmallDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("bc", dataset, tmp_path_factory.mktemp("noise"))


def job(policy: Path, noise: float) -> EpisodeJob:
    return replace(episode_job(policy, small_recipe(), SETTINGS, 0, seed=3), action_noise=noise)


def test_noise_is_normal_in_units_of_the_largest_action_and_then_clipped() -> None:
    space = gymnasium.spaces.Box(-2.0, 2.0, (3,))
    action = np.array([0.1, -1.9, 0.5], dtype=np.float32)
    drawn = np.random.default_rng([7, 4]).standard_normal(3)
    noisy = as_action(action, space, 0.5, np.random.default_rng([7, 4]))
    np.testing.assert_allclose(noisy, np.clip(action + 0.5 * 2.0 * drawn, -2.0, 2.0), rtol=1e-6)
    assert noisy in space
    assert (as_action(action, space) == action).all()


def test_an_episode_with_noise_has_the_same_start_and_goal_and_depends_on_its_seed_alone(
    policy: Path,
) -> None:
    quiet, noisy, again = (run_episode(job(policy, noise)) for noise in (0.0, 2.0, 2.0))
    assert noisy == again
    assert (noisy["start"], noisy["goal"]) == (quiet["start"], quiet["goal"])
    assert noisy["final_distance"] != quiet["final_distance"]


def test_the_final_episodes_are_repeated_at_each_level(policy: Path, tmp_path: Path) -> None:
    folder = policy.parent
    (folder / "snapshots").mkdir(exist_ok=True)
    data = as_dataset(small_recipe())
    plan = plan_evaluation({0: folder}, data, SETTINGS)
    rows = [run_episode(own) for own in plan[0, FINAL]]
    final = pl.DataFrame(rows, schema=EPISODE_COLUMNS)
    results = {0: seed_result(final, final.clear(), plan[0, FINAL])}
    probes = run_probes(plan_probes(tmp_path, data, SETTINGS, plan, results), workers=1)
    table = probes.noisy[0]
    assert table["noise"].to_list() == [0.5] * 3 + [2.0] * 3
    assert table["seed"].to_list() == final["seed"].to_list() * 2
    metrics = probe_metrics(results, probes, "success_rate")[None]
    at_two = table.filter(pl.col("noise") == 2.0)["success"].cast(pl.Float64)
    assert metrics["noise/2"] == at_two.mean()
    (tmp_path / "seed-0").mkdir()
    probes.write(tmp_path)
    assert pl.read_parquet(tmp_path / "seed-0" / NOISY_EPISODES).equals(table)


def test_levels_are_positive_distinct_and_no_part_of_evaluations_without_noise() -> None:
    assert "action_noise" not in Evaluate().identity
    assert SETTINGS.identity["action_noise"] == LEVELS
    for levels in ((0.0,), (0.5, 0.5)):
        with pytest.raises(ValidationError):
            Evaluate(action_noise=levels)


def test_the_report_has_a_table_and_a_figure_of_the_levels(
    tmp_path: Path, dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_gcrl.statistics.intervals.RESAMPLES", 100)
    project = Project(tmp_path, dataset)
    project.add(rates={"gofar": 0.9, "bc": 0.5}, seeds=1)
    for agent, rate in (("gofar", 0.7), ("bc", 0.2)):
        table = evaluated_episodes(rate).with_columns(noise=pl.lit(0.5))
        table.write_parquet(project.folders.results / MAZE / agent / "seed-0" / NOISY_EPISODES)
    params = project.params(agents=("gofar", "bc"), seeds=1)
    text = Elements(project.page(params)).text
    assert "With noise on the actions" in text
    assert "gofar 0.5 0.70 [" in text
    results = project.results(params)
    findings = all_findings(params, project.datasets(params), results, project.folders.results)
    printed = PublishedTable(
        title="a paper", metric="discounted_return", setting="as here",
        values={MAZE: {"bc": "9.5"}}, noise={MAZE: {"0.5": {"gofar": "26.6"}}},
    )  # fmt: skip
    numbers = PublishedNumbers(tables=(printed,))
    found = noise_table(MAZE, results[MAZE], findings[MAZE], numbers)
    assert [(*row[:2], row[-1]) for row in found.rows] == [
        ("gofar", "0", None), ("gofar", "0.5", "26.6"), ("bc", "0", "9.5"), ("bc", "0.5", None),
    ]  # fmt: skip
    section = noise_content(MAZE, results[MAZE], findings[MAZE], numbers)
    assert section is not None
    assert section["picture"].caption.endswith("Dashed lines with diamonds are printed numbers.")
    drawn: list[Figure] = []
    draw_noise(results, findings, numbers, lambda figure, _: drawn.append(figure))
    _, returns = drawn[0].axes
    _, labels = returns.get_legend_handles_labels()
    assert labels == ["gofar", "gofar, printed", "bc", "bc, printed"]
