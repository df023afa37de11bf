"""HIQL: its losses against a version by hand in NumPy, what trains the representation, and how its policy acts."""

import numpy as np
import pytest
import torch
from test_agents import make_agent, make_batch, make_settings, numpy_of

CHANGED = {"representation_size": 4, "expectile": 0.8, "low_alpha": 2.0, "high_alpha": 3.0}


def moved_agent(**changed: object) -> object:
    """An agent whose targets differ from their sources, so that a target read instead of its source shows."""
    agent = make_agent("hiql", {**CHANGED, **changed})
    with torch.no_grad():
        for parameter in agent.value.target_heads.parameters():
            parameter.add_(0.1 * torch.sin(torch.arange(parameter.numel())).view_as(parameter))
    return agent


def targets_by_hand(agent, states, goals) -> np.ndarray:  # type: ignore[no-untyped-def,type-arg]
    """Target heads on the current representation."""
    with torch.no_grad():
        representation = agent.value.representation(states, goals)
        return agent.value.target_heads(states, representation).double().numpy()


def test_the_target_has_its_own_heads_and_reads_the_current_representation() -> None:
    agent, batch = moved_agent(), make_batch()
    v = numpy_of(agent, batch, "value", "observations", "value_goals")
    target_v = targets_by_hand(agent, batch["observations"], batch["value_goals"])
    next_v = targets_by_hand(agent, batch["next_observations"], batch["value_goals"])
    target = batch["rewards"].numpy() + 0.9 * batch["masks"].numpy() * next_v
    weight = np.where(target.min(0) < target_v.mean(0), 0.2, 0.8)
    expected = (weight * (target - v) ** 2).mean(1).sum()
    loss = agent.loss(batch)[1]["value/loss"]  # type: ignore[attr-defined]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_both_policies_are_weighted_by_the_rise_of_the_mean_value() -> None:
    agent, batch = moved_agent(), make_batch()

    def v(states: str, goals: str) -> np.ndarray:  # type: ignore[type-arg]
        return numpy_of(agent, batch, "value", states, goals).mean(0)

    with torch.no_grad():
        subgoal = agent.value.representation(batch["observations"], batch["low_goals"])  # type: ignore[attr-defined]
        action = agent.actor.low(batch["observations"], subgoal)  # type: ignore[attr-defined]
        target = agent.value.representation(batch["observations"], batch["subgoals"])  # type: ignore[attr-defined]
        proposed = agent.actor.high(batch["observations"], batch["actor_goals"])  # type: ignore[attr-defined]
    low = v("following_observations", "low_goals") - v("observations", "low_goals")
    high = v("subgoal_observations", "actor_goals") - v("observations", "actor_goals")
    for loss, error, advantage, alpha in (
        ("low_loss", action - batch["actions"], low, 2.0),
        ("high_loss", proposed - target, high, 3.0),
    ):
        weight = np.minimum(np.exp(alpha * advantage), 100.0)
        expected = (weight * 0.5 * error.square().sum(1).numpy()).mean()
        assert getattr(agent, loss)(batch)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("trains", [False, True])
def test_the_low_level_loss_trains_the_representation_only_if_asked_for(trains: bool) -> None:
    agent = make_agent("hiql", {"low_actor_rep_grad": trains})
    agent.low_loss(make_batch())[0].backward()
    agent.high_loss(make_batch())[0].backward()
    assert all(p.grad is None for p in agent.value.heads.parameters())
    assert all((p.grad is not None) == trains for p in agent.value.representation.parameters())


def test_acting_proposes_a_subgoal_on_the_sphere_and_acts_towards_it() -> None:
    agent, batch = make_agent("hiql", {"representation_size": 4}), make_batch()
    states, goals = batch["observations"], batch["actor_goals"]
    with torch.no_grad():
        proposed = agent.actor.high(states, goals)
        subgoal = proposed / proposed.norm(dim=1, keepdim=True) * 2.0
        torch.testing.assert_close(agent.actor(states, goals), agent.actor.low(states, subgoal))
        lengths = agent.value.representation(states, goals).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 2.0))


@pytest.mark.parametrize("conditioning", ["one_hot", "embedding", "none"])
def test_policies_without_goals_are_refused(conditioning: str) -> None:
    with pytest.raises(ValueError, match="HIQL learns subgoals on the way to a goal, which"):
        make_settings("hiql", {"conditioning": conditioning})
