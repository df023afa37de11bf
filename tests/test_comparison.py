"""Comparison of agents, checked with numbers from the literature, brute force, and simulation."""

from itertools import product

import numpy as np
import polars as pl
import pytest
from scipy.stats import mannwhitneyu

from offline_gcrl.statistics.comparison import (
    Outcomes,
    compare,
    compare_outcomes,
    interquartile_mean,
    join_datasets,
    paired_outcomes,
    paired_rate_difference,
    probability_of_improvement,
    resampled_scores,
    run_scores,
    score_interval,
    task_names,
)
from offline_gcrl.statistics.intervals import wilson
from offline_gcrl.support.errors import DataError


def pairs(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, ...]:
    counts = [both, only_first, only_second, neither]
    return np.repeat([1.0, 1.0, 0.0, 0.0], counts), np.repeat([1.0, 0.0, 1.0, 0.0], counts)


def table(success: list[int], first_seed: int = 0, **columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "seed": range(first_seed, first_seed + len(success)),
            "task": ["reach"] * len(success),
            "success": [bool(value) for value in success],
            **columns,
        }
    )


def random_outcomes(*, seeds: int, episodes: int, rates: list[float], seed: int = 0) -> Outcomes:
    random = np.random.default_rng(seed)
    rate = np.array(rates)[:, None]
    return [[(random.random((len(rates), episodes)) < rate).astype(float)] for _ in range(seeds)]


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        (
            (14, 5, 0, 22),
            0.011,
            0.226,
        ),  # Altman et al. 2000, Statistics with Confidence, chapter 6.
        ((36, 12, 2, 0), 0.057, 0.340),  # Newcombe 1998.
    ],
)
def test_the_interval_of_paired_rates_is_that_of_newcombe(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    interval = paired_rate_difference(*pairs(*counts), 0.95)
    assert interval.mean == pytest.approx((counts[1] - counts[2]) / sum(counts))
    assert (round(interval.low, 3), round(interval.high, 3)) == (low, high)


def test_the_difference_of_two_perfect_agents_has_an_interval_of_positive_width() -> None:
    interval = paired_rate_difference(*pairs(50, 0, 0, 0), 0.95)
    assert interval.mean == 0
    assert interval.low == pytest.approx(-interval.high)
    assert 0.05 < interval.high < 0.1


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (3, 3), (17, 40)])
def test_the_score_interval_is_that_of_wilson_for_integer_successes(
    successes: int, trials: int
) -> None:
    ours, theirs = score_interval(successes / trials, trials), wilson(successes, trials)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_the_probability_of_improvement_is_that_of_mann_and_whitney_averaged_over_tasks() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 6, (2, 5, 3)) / 5  # 5 runs, 3 tasks, with ties.
    by_task = [
        np.mean([(x > y) + (x == y) / 2 for x in first[:, task] for y in second[:, task]])
        for task in range(3)
    ]
    assert probability_of_improvement(first, second) == pytest.approx(np.mean(by_task))
    u = mannwhitneyu(first[:, 0], second[:, 0]).statistic
    assert by_task[0] == pytest.approx(u / 25)


def test_the_interquartile_mean_uses_the_middle_half_or_all_of_few_runs() -> None:
    assert interquartile_mean(np.arange(1.0, 9.0)[:, None]) == 4.5
    assert interquartile_mean(np.array([0.0, 0.1, 0.8])[:, None]) == pytest.approx(0.3)
    assert interquartile_mean(np.array([[0.0, 0.5], [0.6, 9.0]])) == pytest.approx(0.55)


def test_resamples_have_the_distribution_of_an_enumeration() -> None:
    outcomes: Outcomes = [[np.array([[0.0, 1.0]])], [np.array([[1.0, 1.0]])]]
    exact = []
    for seeds in product((0, 1), repeat=2):
        for episodes in product((0, 1), repeat=4):
            drawn = [
                outcomes[seed][0][0][list(episodes[2 * i : 2 * i + 2])].mean()
                for i, seed in enumerate(seeds)
            ]
            exact.append(np.mean(drawn))
    means = resampled_scores(outcomes, 40_000).mean((1, 2, 3))
    for value in np.unique(exact):
        assert np.mean(means == value) == pytest.approx(np.mean(exact == value), abs=0.01)


def test_every_agent_gets_the_same_draws_so_identical_agents_never_differ() -> None:
    one = random_outcomes(seeds=3, episodes=30, rates=[0.5])
    twins: Outcomes = [[np.concatenate([values, values]) for values in tasks] for tasks in one]
    resampled = resampled_scores(twins)
    assert (resampled[:, 0] == resampled[:, 1]).all()
    comparison = compare_outcomes(["one", "twin"], twins)
    assert comparison.tied_with_best == ["twin"]
    assert comparison.improvement["one"]["twin"].mean == 0.5
    assert [standing.rank for standing in comparison.ranking.values()] == [1, 1]


def test_tasks_are_strata_of_equal_weight() -> None:
    always, never = np.ones((1, 50)), np.zeros((1, 10))
    outcomes: Outcomes = [[always, never], [always, never]]
    assert run_scores(outcomes).tolist() == [[[1.0, 0.0], [1.0, 0.0]]]
    assert np.unique(resampled_scores(outcomes)[..., 0]).tolist() == [1.0]
    assert np.unique(resampled_scores(outcomes).mean((2, 3))).tolist() == [0.5]


def test_a_large_difference_is_clear_and_a_small_one_is_not() -> None:
    outcomes = random_outcomes(seeds=3, episodes=100, rates=[0.5, 0.95, 0.9])
    comparison = compare_outcomes(["low", "high", "near"], outcomes)
    assert list(comparison.ranking) == ["high", "near", "low"]
    assert comparison.against_best["low"].is_clearly_lower
    assert comparison.tied_with_best == ["near"]
    standing = comparison.ranking["low"]
    assert (standing.rank, standing.rank_low, standing.rank_high) == (3, 3, 3)
    assert comparison.ranking["near"].rank_low == 1


def test_probabilities_of_improvement_of_a_pair_add_up() -> None:
    outcomes = random_outcomes(seeds=4, episodes=20, rates=[0.5, 0.6])
    improvement = compare_outcomes(["a", "b"], outcomes).improvement
    there, back = improvement["a"]["b"], improvement["b"]["a"]
    assert there.mean + back.mean == pytest.approx(1)
    assert there.low + back.high == pytest.approx(1)


def test_three_runs_per_agent_never_make_an_improvement_certain() -> None:
    outcomes = random_outcomes(seeds=3, episodes=100, rates=[0.1, 0.9])
    chance = compare_outcomes(["low", "high"], outcomes).improvement["high"]["low"]
    assert chance.mean == 1
    assert chance.low == pytest.approx(wilson(3, 3).low)


def test_joint_intervals_widen_with_the_number_of_agents() -> None:
    two = random_outcomes(seeds=3, episodes=50, rates=[0.9, 0.6])
    four = [[np.concatenate([values, values[1:], values[1:]]) for values in seed] for seed in two]
    alone = compare_outcomes(["a", "b"], two).against_best["b"].difference
    jointly = compare_outcomes(["a", "b", "c", "d"], four).against_best["b"].difference
    assert jointly.low < alone.low < alone.high < jointly.high


def test_the_interval_of_a_difference_has_its_coverage_on_new_trainings() -> None:
    random = np.random.default_rng(1)
    caught = 0
    for _ in range(60):
        outcomes: Outcomes = []
        for _ in range(3):
            rates = np.array([0.8, 0.9]) + random.normal(0, 0.03, 2)  # Trainings differ.
            shared = random.random(100)  # So do episodes, for both agents alike.
            hardness = np.where(random.random((2, 100)) < 0.5, shared, random.random((2, 100)))
            outcomes.append([(hardness < rates[:, None]).astype(float)])
        comparison = compare_outcomes(["a", "b"], outcomes, resampled_scores(outcomes, 400))
        agent, against = next(iter(comparison.against_best.items()))
        truth = -0.1 if agent == "a" else 0.1
        caught += against.difference.low <= truth <= against.difference.high
    assert caught >= 52


def test_agents_evaluated_on_different_episodes_are_not_compared() -> None:
    with pytest.raises(DataError, match="b was evaluated on other episodes than a"):
        compare({"a": [table([1, 0])], "b": [table([1, 0], first_seed=5)]})


def test_equal_rates_share_a_rank_whatever_the_order_of_their_sums() -> None:
    """The mean of 0.1, 0.2 and 0.3 differs from that of 0.3, 0.2 and 0.1 by a rounding error."""
    first = [np.arange(10) < count for count in (1, 2, 3)]
    outcomes = [
        [np.stack([one, other]).astype(float)]
        for one, other in zip(first, reversed(first), strict=True)
    ]
    ranking = compare_outcomes(["a", "b"], outcomes).ranking
    assert [own.rank for own in ranking.values()] == [1, 1]


def test_tables_are_paired_by_seed_and_task() -> None:
    tasks = {"task": ["reach", "push", "reach"]}
    tables = {"a": [table([1, 0, 1], **tasks)], "b": [table([0, 1, 1], **tasks)]}
    (((reach), (push)),) = paired_outcomes(tables)
    assert reach.tolist() == [[1, 1], [0, 1]]
    assert push.tolist() == [[0], [1]]


def test_a_task_is_named_with_the_number_of_its_fixed_task() -> None:
    assert task_names(table([1, 0])).to_list() == ["reach", "reach"]
    assert task_names(table([1, 0], task_id=[3, None])).to_list() == ["reach/3", "reach"]
    empty = table([1]).with_columns(task_id=pl.lit(None, pl.Int32))
    assert task_names(empty).to_list() == ["reach"]


def test_joined_datasets_have_the_tasks_of_each() -> None:
    one = random_outcomes(seeds=2, episodes=5, rates=[0.2, 0.8])
    merged = join_datasets([one, one])
    assert run_scores(merged).shape == (2, 2, 2)
    assert compare_outcomes(["a", "b"], merged).episodes == 20
