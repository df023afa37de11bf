"""Survival values: likelihoods and values by hand in NumPy, and what trains which network."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_agents import BATCH, make_agent, make_batch, make_settings, numpy_of

from offline_gcrl.networks.survival import SurvivalValue, interval_ends

CHANGED = {"representation_size": 4, "horizon": 12, "intervals": 6, "discount": 0.9}


def hazards_of(agent: Any, batch: dict[str, torch.Tensor], *inputs: str) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-numpy_of(agent, batch, "value", *inputs)))


def value_by_hand(
    hazards: NDArray[np.float64], ends: NDArray[np.int64], discount: float
) -> NDArray[np.float64]:
    """-sum_t gamma^t P(T > t) over 3,000 steps, with P constant until the end of an interval."""
    survival = np.cumprod(1.0 - hazards, axis=-1)
    steps = np.arange(3000)
    interval = np.searchsorted(ends, steps, side="right") - 1
    return -(survival[..., interval] * discount**steps).sum(-1)


def small_value(ends: NDArray[np.int64], discount: float) -> SurvivalValue:
    return SurvivalValue(5, 2, 4, ends, discount, [8], "gelu")


def test_intervals_are_single_steps_first_and_grow_to_the_horizon() -> None:
    ends = interval_ends(50, 1000)
    assert ends[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert ends[-1] == 1000
    lengths = np.diff(ends)
    assert (lengths > 0).all()
    assert lengths[-1] > 100
    assert interval_ends(100, 8).tolist() == list(range(9))


def test_the_loss_is_minus_the_likelihood_of_times_that_are_known_or_censored() -> None:
    agent, batch = make_agent("svl", CHANGED), make_batch()
    ends = interval_ends(6, 12)
    hazards = hazards_of(agent, batch, "observations", "value_goals")
    expected = 0.0
    times, left = batch["value_goal_steps"].tolist(), batch["steps_left"].tolist()
    assert {-1, 0} <= set(times)
    assert max(times) > 12
    assert max(left) > 12
    for row in range(BATCH):
        for head in range(2):
            start = -1
            for interval, end in enumerate(ends):
                chance = hazards[head, row, interval]
                if times[row] >= 0 and start < times[row] <= end:
                    expected -= np.log(chance)
                elif (left[row] if times[row] < 0 else times[row] - 1) >= end:
                    expected -= np.log(1.0 - chance)
                start = end
    loss = agent.value_loss(batch)[0].item()
    assert loss == pytest.approx(expected / BATCH, rel=1e-5)


def test_values_are_discounted_sums_of_survival_and_the_smaller_one_counts() -> None:
    agent, batch = make_agent("svl", CHANGED), make_batch()
    hazards = hazards_of(agent, batch, "observations", "value_goals")
    expected = value_by_hand(hazards, interval_ends(6, 12), 0.9)
    value = agent.state_value(batch["observations"], batch["value_goals"], batch["tasks"])
    np.testing.assert_allclose(value.numpy(), expected.min(0), rtol=1e-5)
    np.testing.assert_allclose(
        agent.disagreement(batch).detach().numpy(), np.abs(expected[0] - expected[1]), rtol=1e-3, atol=1e-5
    )  # fmt: skip


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_certain_time_has_the_value_of_as_many_rewards_of_minus_one(steps: int) -> None:
    value = small_value(interval_ends(100, 8), 0.9)
    logits = torch.full((2, 1, 9), -30.0)
    logits[..., steps] = 30.0
    torch.testing.assert_close(
        value.values(logits), torch.full((2, 1), -(1.0 - 0.9**steps) / 0.1), rtol=1e-5, atol=1e-5
    )


def test_the_most_likely_hazards_are_the_share_of_events_among_those_at_risk() -> None:
    """Maximum likelihood with censoring is the estimate of Kaplan and Meier (1958)."""
    value, random = small_value(interval_ends(100, 8), 0.9), np.random.default_rng(0)
    left = random.integers(1, 9, 400)
    times = np.where(random.random(400) < 0.5, random.integers(0, left + 1), -1)
    last_at_risk = np.where(times < 0, left, times)
    events = np.array([(times == step).sum() for step in range(9)])
    at_risk = np.array([(last_at_risk >= step).sum() for step in range(9)])
    share = torch.from_numpy(events / at_risk)
    logits = share.logit().expand(2, 400, 9).clone().requires_grad_()
    likelihood = value.double().log_likelihood(logits, *map(torch.from_numpy, (times, left)))
    (gradient,) = torch.autograd.grad(likelihood.sum(), logits)
    torch.testing.assert_close(gradient.sum(1), torch.zeros(2, 9, dtype=torch.float64))


def test_the_flat_policy_is_weighted_by_the_rise_of_the_smaller_value() -> None:
    agent, batch = make_agent("svl", {**CHANGED, "hierarchical": False}), make_batch()
    ends = interval_ends(6, 12)

    def v(states: str) -> NDArray[np.float64]:
        return value_by_hand(hazards_of(agent, batch, states, "actor_goals"), ends, 0.9).min(0)

    weight = np.minimum(np.exp(3.0 * (v("following_observations") - v("observations"))), 100.0)
    actions = numpy_of(agent, batch, "actor", "observations", "actor_goals")
    error = 0.5 * ((actions - batch["actions"].numpy()) ** 2).sum(1)
    assert agent.flat_loss(batch)[0].item() == pytest.approx((weight * error).mean(), rel=1e-4)


def test_subgoals_are_weighted_by_the_rise_of_the_smaller_value() -> None:
    agent, batch = make_agent("svl", {**CHANGED, "high_alpha": 2.0}), make_batch()
    ends = interval_ends(6, 12)

    def v(states: str) -> NDArray[np.float64]:
        return value_by_hand(hazards_of(agent, batch, states, "actor_goals"), ends, 0.9).min(0)

    with torch.no_grad():
        target = agent.value.representation(batch["observations"], batch["subgoals"])
        proposed = agent.actor.high(batch["observations"], batch["actor_goals"])
    weight = np.minimum(np.exp(2.0 * (v("subgoal_observations") - v("observations"))), 100.0)
    error = 0.5 * (proposed - target).square().sum(1).numpy()
    assert agent.high_loss(batch)[0].item() == pytest.approx((weight * error).mean(), rel=1e-4)


@pytest.mark.parametrize("hierarchical", [True, False])
def test_losses_of_policies_train_the_policies_alone(hierarchical: bool) -> None:
    agent, batch = make_agent("svl", {**CHANGED, "hierarchical": hierarchical}), make_batch()
    loss, _ = agent.loss(batch)
    value_loss, _ = agent.value_loss(batch)
    (loss - value_loss).backward()
    assert all(not p.grad.any() for p in agent.value.parameters() if p.grad is not None)
    assert all(p.grad.any() for p in agent.actor.parameters())


def test_values_without_goals_are_refused() -> None:
    with pytest.raises(ValueError, match="survival values are of the time to reach a goal, which"):
        make_settings("svl", {"conditioning": "one_hot"})


def test_original_goals_are_refused_because_their_steps_are_not_known() -> None:
    with pytest.raises(ValueError, match="'value_goals' cannot contain original goals"):
        make_settings("svl", {"value_goals": {"future": 0.5, "original": 0.5}})
