"""Aggregates over runs: optimality gaps, performance profiles, and a bootstrap that is stratified by dataset."""

import numpy as np
import pytest
from test_comparison import random_outcomes

from offline_gcrl.statistics.aggregates import (
    THRESHOLDS,
    aggregate,
    optimality_gap,
    performance_profile,
    resampled_datasets,
)
from offline_gcrl.statistics.comparison import resampled_scores, run_scores

ONE = random_outcomes(seeds=3, episodes=40, rates=[0.9, 0.3])
OTHER = random_outcomes(seeds=3, episodes=40, rates=[0.6, 0.5], seed=1)


def test_the_gap_is_what_is_missing_to_a_success_rate_of_one() -> None:
    scores = np.array([[[1.0, 0.5], [0.25, 1.2]]])  # (agents, seeds, tasks); 1.2 counts as 1.
    assert optimality_gap(scores).tolist() == [(0 + 0.5 + 0.75 + 0) / 4]


def test_a_profile_is_the_share_of_runs_above_each_threshold() -> None:
    scores = np.array([[0.2, 0.8], [0.8, 1.0]])
    profile = performance_profile(scores, np.array([0.0, 0.2, 0.5, 0.8, 1.0]))
    assert profile.tolist() == [1.0, 0.75, 0.75, 0.25, 0.0]


def test_each_dataset_is_resampled_with_draws_of_its_own() -> None:
    drawn = resampled_datasets([ONE, ONE], 200)
    assert drawn.shape == (200, 2, 3, 2)
    first, second = drawn[..., 0], drawn[..., 1]
    np.testing.assert_array_equal(first, resampled_scores(ONE, 200)[..., 0])
    correlation = np.corrcoef(first.mean((1, 2)), second.mean((1, 2)))[0, 1]
    assert abs(correlation) < 0.3


def test_aggregates_over_datasets_use_the_runs_of_all_of_them() -> None:
    found = aggregate(["good", "poor"], [ONE, OTHER])
    scores = np.concatenate([run_scores(ONE), run_scores(OTHER)], axis=2)
    assert found.runs == 6
    assert found.comparison.best == "good"
    for number, agent in enumerate(("good", "poor")):
        gap, profile = found.optimality_gap[agent], found.profiles[agent]
        assert gap.mean == pytest.approx(1 - scores[number].mean())
        assert gap.low < gap.mean < gap.high
        assert (profile.low <= profile.high).all()
        np.testing.assert_allclose(profile.mean[50], (scores[number] > THRESHOLDS[50]).mean())
        assert (np.diff(profile.mean) <= 0).all()


def test_runs_that_all_succeed_do_not_have_a_gap_without_an_interval() -> None:
    certain = [[np.ones((2, 20))] for _ in range(3)]
    gap = aggregate(["a", "b"], [certain]).optimality_gap["a"]
    assert (gap.mean, gap.low) == (0.0, 0.0)
    assert 0.02 < gap.high < 0.1
