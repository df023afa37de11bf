"""GCIVL: its losses against a version by hand in NumPy, and what each network learns from."""

import numpy as np
import pytest
import torch
from test_agents import make_agent, make_batch, numpy_of


def test_the_values_regress_on_their_own_targets_and_share_one_weight() -> None:
    agent, batch = make_agent("gcivl", {"expectile": 0.8}), make_batch()
    with torch.no_grad():  # A target that is read instead of its source must show.
        for parameter in agent.target_value.parameters():
            parameter.add_(0.1 * torch.sin(torch.arange(parameter.numel())).view_as(parameter))
    v = numpy_of(agent, batch, "value", "observations", "value_goals")
    target_v = numpy_of(agent, batch, "target_value", "observations", "value_goals")
    next_v = numpy_of(agent, batch, "target_value", "next_observations", "value_goals")
    target = batch["rewards"].numpy() + 0.9 * batch["masks"].numpy() * next_v
    below = target.min(0) < target_v.mean(0)
    weight = np.where(below, 0.2, 0.8)
    expected = sum((weight * (target[head] - v[head]) ** 2).mean() for head in range(2))
    assert 0 < below.sum() < len(below)
    assert agent.value_loss(batch)[0].item() == pytest.approx(expected, rel=1e-5)


def test_actions_are_weighted_by_how_much_the_mean_value_rises_in_one_step() -> None:
    agent, batch = make_agent("gcivl", {"alpha": 2.0, "max_weight": 1.5}), make_batch()
    v = numpy_of(agent, batch, "value", "observations", "actor_goals").mean(0)
    next_v = numpy_of(agent, batch, "value", "following_observations", "actor_goals").mean(0)
    weight = np.minimum(np.exp(2.0 * (next_v - v)), 1.5)
    actions = numpy_of(agent, batch, "actor", "observations", "actor_goals")
    error = ((actions - batch["actions"].numpy()) ** 2).sum(1)
    assert (weight == 1.5).any()
    assert agent.actor_loss(batch)[0].item() == pytest.approx((weight * 0.5 * error).mean())


def test_each_loss_trains_its_own_network() -> None:
    for loss, learns, rests in (("value_loss", "value", "actor"), ("actor_loss", "actor", "value")):
        agent = make_agent("gcivl", {})
        getattr(agent, loss)(make_batch())[0].backward()
        assert all(p.grad is not None for p in getattr(agent, learns).parameters())
        assert all(p.grad is None for p in getattr(agent, rests).parameters())


def test_the_value_of_states_is_the_mean_of_both_without_a_gradient() -> None:
    agent, batch = make_agent("gcivl", {}), make_batch()
    found = agent.state_value(batch["observations"], batch["value_goals"], batch["tasks"])
    expected = numpy_of(agent, batch, "value", "observations", "value_goals").mean(0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
