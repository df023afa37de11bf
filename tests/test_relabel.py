"""The hindsight table agrees with a brute-force oracle."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, SmallDataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from offline_gcrl.config import Goal, Relabel
from offline_gcrl.hindsight.draws import stream_key
from offline_gcrl.hindsight.relabel import iterate_transitions, relabel, relabel_transitions
from offline_gcrl.hindsight.statistics import describe
from offline_gcrl.hindsight.strategies import STRATEGY_NUMBERS
from offline_gcrl.support.bins import whole_number_edges
from offline_gcrl.support.errors import DataError

WORD = 2**64
NEARBY = Goal.model_validate_json('{"success": {"kind": "distance", "tolerance": 0.3}}')
SAME_STEP = Goal.model_validate_json('{"success": {"kind": "same_step"}}')


def random_word(seed: int, strategy: str, draw: int, row: int) -> int:
    state = (stream_key(seed, STRATEGY_NUMBERS[strategy], draw) + row * 0x9E3779B97F4A7C15) % WORD
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def oracle(
    lengths: list[int], tasks: list[str], steps: pl.DataFrame, asked: Relabel, goal: Goal
) -> list[dict[str, Any]]:
    """The complete table, computed transition by transition."""
    achieved, desired = steps["achieved_goal"].to_numpy(), steps["desired_goal"].to_numpy()
    table, first = [], 0

    def reward(row: int, goal_row: int, goals: Any) -> float:
        if goal.success.kind == "same_step":
            return 0 if row == goal_row else -1
        distance = math.dist(achieved[row + 1], goals[goal_row])
        return 0 if distance <= np.float32(goal.success.tolerance) else -1

    for task, length in zip(tasks, lengths, strict=True):
        start = sum(n + 1 for name, n in zip(tasks, lengths, strict=True) if name < task)
        rows = sum(n + 1 for name, n in zip(tasks, lengths, strict=True) if name == task)
        for step in range(length):
            row, left = first + step, length - step
            entry: dict[str, Any] = {"row": row}
            for strategy in asked.strategies:
                for draw in range(1 if strategy == "final" else asked.k):
                    word = random_word(asked.seed, strategy, draw, row)
                    unit = (word >> 11) * 2.0**-53
                    entry[f"{strategy}_goal_{draw}"] = {
                        "final": first + length,
                        "future": row + 1 + ((word >> 32) * left >> 32),
                        "geometric": row
                        + min(1 + math.floor(math.log(1 - unit) / math.log(asked.discount)), left),
                        "episode": first + ((word >> 32) * (length + 1) >> 32),
                        "random": start + ((word >> 32) * rows >> 32),
                    }[strategy]
            for column in [name for name in entry if name != "row"]:
                entry[column.replace("goal", "reward")] = reward(row, entry[column], achieved)
            entry["current_reward_0"] = reward(row, row, achieved)
            if goal.success.kind == "distance":
                entry["original_reward_0"] = reward(row, row, desired)
            table.append(entry)
        first += length + 1
    return table


def generated(lengths: list[int], seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Steps and episodes of a random walk."""
    random = np.random.default_rng(seed)
    rows = sum(lengths) + len(lengths)
    steps = pl.DataFrame(
        {
            "achieved_goal": random.normal(scale=0.2, size=(rows, 2)).cumsum(0).astype(np.float32),
            "desired_goal": random.normal(size=(rows, 2)).astype(np.float32),
        }
    )
    first = np.cumsum([0, *[length + 1 for length in lengths[:-1]]])
    tasks = ["a" if number < (len(lengths) + 1) // 2 else "b" for number in range(len(lengths))]
    return steps, pl.DataFrame({"first_row": first, "length": lengths, "task": tasks})


def relabelled(
    steps: pl.DataFrame, table: pl.DataFrame, asked: Relabel, goal: Goal, chunk: int
) -> pl.DataFrame:
    return pl.concat(
        relabel_transitions(part, steps, asked, goal) for part in iterate_transitions(table, chunk)
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 3),
    chunk=st.integers(1, 40),
    goal=st.sampled_from([NEARBY, SAME_STEP]),
)
def test_the_table_equals_the_oracle_for_chunks_of_any_size(
    lengths: list[int], seed: int, k: int, chunk: int, goal: Goal
) -> None:
    steps, table = generated(lengths, seed % 1000)
    asked = Relabel(k=k, seed=seed)
    ours = relabelled(steps, table, asked, goal, chunk)
    theirs = pl.DataFrame(oracle(lengths, table["task"].to_list(), steps, asked, goal))
    assert set(ours.columns) == set(theirs.columns)
    for column in theirs.columns:
        assert ours[column].to_list() == theirs[column].to_list(), column


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_goals_are_from_the_range_of_their_strategy(lengths: list[int], seed: int) -> None:
    steps, table = generated(lengths, seed)
    ours = relabelled(steps, table, Relabel(seed=seed), NEARBY, 1000)
    spans = pl.concat(iterate_transitions(table, 1000))
    row, first, last = ours["row"], spans["first_row"], spans["first_row"] + spans["length"]
    for draw in range(4):
        for strategy in ("future", "geometric"):
            goal = ours[f"{strategy}_goal_{draw}"]
            assert (goal > row).all()
            assert (goal <= last).all()
        assert ours[f"episode_goal_{draw}"].is_between(first, last).all()
        assert (ours[f"random_goal_{draw}"] < len(steps)).all()
    assert (ours["final_goal_0"] == last).all()


def test_future_goals_are_uniform_over_the_later_states() -> None:
    steps, table = generated([50] * 400, 0)
    ours = relabelled(steps, table, Relabel(), NEARBY, 10**6)
    step = pl.concat(iterate_transitions(table, 10**6))["step"].to_numpy()
    ahead = (ours["future_goal_0"].cast(pl.Int64) - ours["row"]).to_numpy()
    first = ahead[step == 0]
    assert chisquare(np.bincount(first, minlength=51)[1:]).pvalue > 1e-3
    # Dithered, the relative offset is uniform at every step of the episode.
    dither = np.random.default_rng(0).uniform(size=len(ahead))
    assert kstest((ahead - dither) / (50 - step), "uniform").pvalue > 1e-3


def test_geometric_goals_are_geometric_and_cut_at_the_end() -> None:
    steps, table = generated([200] * 100, 0)
    ours = relabelled(steps, table, Relabel(discount=0.9), NEARBY, 10**6)
    step = pl.concat(iterate_transitions(table, 10**6))["step"].to_numpy()
    ahead = (ours["geometric_goal_1"].cast(pl.Int64) - ours["row"]).to_numpy()
    early = ahead[step < 100]
    expected = 0.1 * 0.9 ** np.arange(20) * len(early)
    observed = np.bincount(early, minlength=21)[1:21]
    assert (
        chisquare(
            [*observed, len(early) - observed.sum()], [*expected, len(early) - expected.sum()]
        ).pvalue
        > 1e-3
    )
    assert (ahead <= 200 - step).all()
    assert (ahead[step == 199] == 1).all()


def test_draws_differ_between_strategies_and_between_draws() -> None:
    steps, table = generated([100] * 20, 0)
    ours = relabelled(steps, table, Relabel(), NEARBY, 10**6)
    columns = [name for name in ours.columns if name.startswith(("future_goal", "episode_goal"))]
    for place, column in enumerate(columns):
        for other in columns[place + 1 :]:
            assert (ours[column] == ours[other]).mean() < 0.2


def test_dense_rewards_are_minus_the_distance(dataset: SmallDataset, tmp_path: Path) -> None:
    relabel(dataset.parquet, tmp_path, Relabel(k=1, reward="dense"), dataset.recipe.goal)
    table = pl.read_parquet(tmp_path / "table.parquet")
    achieved = dataset.episodes.achieved_goal
    goal, row = table["future_goal_0"].to_numpy(), table["row"].to_numpy()
    expected = -np.linalg.norm(achieved[row + 1] - achieved[goal], axis=1)
    np.testing.assert_allclose(table["future_reward_0"], expected, rtol=1e-5, atol=1e-6)


def test_dense_rewards_need_a_distance(dataset: SmallDataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"relabel\.reward: 'dense' needs goals with one distance"):
        relabel(dataset.parquet, tmp_path, Relabel(reward="dense"), SAME_STEP)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    tables = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        relabel(dataset.parquet, folder, Relabel(k=3, seed=seed), dataset.recipe.goal)
        tables.append((folder / "table.parquet").read_bytes())
    assert tables[0] == tables[1] == (dataset.hindsight / "table.parquet").read_bytes()
    assert tables[0] != tables[2]


@pytest.mark.parametrize("chunk", [1, 7, 59, 100, 1000])
def test_the_size_of_chunks_does_not_change_a_byte(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("offline_gcrl.hindsight.table.ROWS_PER_GROUP", 128)
    tables = []
    for number, size in enumerate((chunk, 2**17)):
        folder = tmp_path / str(number)
        folder.mkdir()
        relabel(dataset.parquet, folder, dataset.relabel, dataset.recipe.goal, chunk=size)
        tables.append((folder / "table.parquet").read_bytes())
    assert tables[0] == tables[1]
    metadata = pq.read_metadata(tmp_path / "0/table.parquet")
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [128, 128, 128, 128, 9 * 60 - 4 * 128]


@pytest.mark.parametrize("region", [8, 4096, 2**26])
def test_goals_looked_up_on_disk_are_those_in_memory(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: int
) -> None:
    monkeypatch.setattr("offline_gcrl.hindsight.stored.REGION_BYTES", region)
    asked, goal = dataset.relabel, dataset.recipe.goal
    relabel(dataset.parquet, tmp_path, asked, goal, chunk=200)
    steps = pl.read_parquet(dataset.parquet / "steps.parquet")
    table = pl.read_parquet(dataset.parquet / "episodes.parquet")
    in_memory = relabelled(steps, table, asked, goal, 10**6)
    assert pl.read_parquet(tmp_path / "table.parquet").equals(in_memory)
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_progress_counts_every_transition_once(dataset: SmallDataset, tmp_path: Path) -> None:
    heard: list[int] = []
    relabel(dataset.parquet, tmp_path, Relabel(k=1), dataset.recipe.goal, heard.append, chunk=100)
    assert heard == [100, 100, 100, 100, 100, 40]


def test_the_number_of_threads_does_not_change_a_byte(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from offline_gcrl.config import Relabel, load_recipe\n"
        "from offline_gcrl.hindsight.relabel import relabel\n"
        "goal = load_recipe('pointmaze-umaze').goal\n"
        "relabel(Path(sys.argv[1]), Path(sys.argv[2]), Relabel(k=3), goal, chunk=100)"
    )
    tables = []
    for threads in ("1", "4"):
        folder = tmp_path / threads
        folder.mkdir()
        environment = {**os.environ, "POLARS_MAX_THREADS": threads}
        command = [sys.executable, "-c", program, str(dataset.parquet), str(folder)]
        subprocess.run(command, env=environment, cwd=ROOT, check=True)
        tables.append((folder / "table.parquet").read_bytes())
    assert tables[0] == tables[1]


def test_shares_of_exact_matches_are_the_analytic_ones(tmp_path: Path) -> None:
    """With distinct states and zero tolerance, HER's share is k H_T / (T (1 + k))."""
    length, episodes, k = 50, 200, 4
    steps, table = generated([length] * episodes, 0)
    steps = steps.with_columns(episode=pl.lit(0), step=pl.lit(0))
    steps.write_parquet(tmp_path / "steps.parquet")
    table.write_parquet(tmp_path / "episodes.parquet")
    exact = Goal.model_validate_json('{"success": {"kind": "distance", "tolerance": 1e-9}}')
    relabel(tmp_path, tmp_path, Relabel(k=k), exact)
    statistics = describe(tmp_path, tmp_path, Relabel(k=k), exact)
    harmonic = sum(1 / n for n in range(1, length + 1))
    assert statistics["her"]["expected_if_exact"] == pytest.approx(
        k * harmonic / (length * (1 + k))
    )
    for values in (statistics["her"], *statistics["strategies"].values()):
        if "expected_if_exact" in values:
            share = values["expected_if_exact"]
            noise = 4 * math.sqrt(share / (length * episodes))
            assert values["positive_share"] == pytest.approx(share, abs=noise)


def test_statistics_agree_with_the_table(dataset: SmallDataset) -> None:
    statistics = describe(dataset.parquet, dataset.hindsight, dataset.relabel, dataset.recipe.goal)
    table = pl.read_parquet(dataset.hindsight / "table.parquet")
    future = statistics["strategies"]["future"]
    columns = [f"future_reward_{draw}" for draw in range(3)]
    assert future["positive_share"] == pytest.approx((table[columns].to_numpy() == 0).mean())
    ahead = (table["future_goal_0"].cast(pl.Int64) - table["row"]).to_numpy()
    assert future["steps_ahead"]["mean"] == pytest.approx(ahead.mean(), rel=0.1)
    assert sum(future["steps_ahead"]["histogram"]["counts"]) == 3 * len(table)
    edges = np.array(future["steps_ahead"]["histogram"]["edges"])
    assert set(edges % 1) == {0.5}
    assert len(set(np.diff(edges))) == 1


@pytest.mark.parametrize(("low", "high"), [(1, 50), (-49, 49), (1, 1000), (7, 7)])
def test_every_bin_of_a_histogram_has_equally_many_whole_numbers(low: int, high: int) -> None:
    edges = whole_number_edges(low, high, 40)
    assert 1 < len(edges) <= 41
    assert edges[0] == low - 0.5
    assert edges[-2] < high < edges[-1]
    every = np.arange(low, edges[-1])
    assert len(set(np.histogram(every, edges)[0])) == 1
