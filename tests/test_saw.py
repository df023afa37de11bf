"""SAW: its losses against a version by hand in NumPy, and its Sobolev term against explicit Jacobians."""

import numpy as np
import pytest
import torch
from test_agents import BATCH, make_agent, make_batch, make_settings, numpy_of

CHANGED = {"representation_size": 4, "low_alpha": 1.0, "alpha": 2.0, "beta": 3.0}


@pytest.mark.parametrize("sobolev", [0.0, 0.3])
def test_the_policy_imitates_actions_and_the_subpolicy_at_the_subgoal(sobolev: float) -> None:
    agent, batch = make_agent("saw", {**CHANGED, "sobolev": sobolev}), make_batch()

    def v(states: str) -> np.ndarray:  # type: ignore[type-arg]
        return numpy_of(agent, batch, "value", states, "actor_goals").mean(0)

    actions = numpy_of(agent, batch, "actor", "observations", "actor_goals")
    taught = numpy_of(agent, batch, "subpolicy", "observations", "subgoals")
    errors = ((actions - taught) ** 2).sum(1)
    for row in range(BATCH):
        state, noise = batch["observations"][row], batch["noise"][row].numpy()
        slopes = [
            torch.autograd.functional.jacobian(
                lambda s, policy=policy, goal=goal: policy(s[None], goal[None])[0], state
            ).numpy()
            for policy, goal in (
                (agent.actor, batch["actor_goals"][row]),
                (agent.subpolicy, batch["subgoals"][row]),
            )
        ]
        errors[row] += sobolev * ((noise @ (slopes[0] - slopes[1])) ** 2).sum()
    imitation = 0.5 * ((actions - batch["actions"].numpy()) ** 2).sum(1)
    first = np.minimum(np.exp(2.0 * (v("following_observations") - v("observations"))), 100.0)
    second = np.minimum(np.exp(3.0 * (v("subgoal_observations") - v("observations"))), 100.0)
    expected = (first * imitation + second * errors).mean()
    assert agent.actor_loss(batch)[0].item() == pytest.approx(expected, rel=1e-4)


def test_the_subpolicy_is_weighted_by_the_rise_towards_the_near_goal() -> None:
    agent, batch = make_agent("saw", CHANGED), make_batch()
    v, next_v = (
        numpy_of(agent, batch, "value", states, "low_goals").mean(0)
        for states in ("observations", "following_observations")
    )
    actions = numpy_of(agent, batch, "subpolicy", "observations", "low_goals")
    error = 0.5 * ((actions - batch["actions"].numpy()) ** 2).sum(1)
    expected = (np.minimum(np.exp(next_v - v), 100.0) * error).mean()
    assert agent.subpolicy_loss(batch)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sobolev", [0.0, 0.3])
def test_the_loss_of_the_policy_trains_the_policy_alone(sobolev: float) -> None:
    agent = make_agent("saw", {**CHANGED, "sobolev": sobolev})
    agent.actor_loss(make_batch())[0].backward()
    assert all(p.grad is not None for p in agent.actor.parameters())
    assert all(p.grad is None for p in [*agent.value.parameters(), *agent.subpolicy.parameters()])


def test_noise_is_asked_for_by_the_sobolev_term_only() -> None:
    assert "noise" not in make_settings("saw", {}).sampling.fields
    assert "noise" in make_settings("saw", {"sobolev": 0.1}).sampling.fields


@pytest.mark.parametrize("conditioning", ["one_hot", "embedding", "none"])
def test_policies_without_goals_are_refused(conditioning: str) -> None:
    with pytest.raises(ValueError, match="SAW learns from subgoals on the way to a goal, which"):
        make_settings("saw", {"conditioning": conditioning})
