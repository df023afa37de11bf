"""Actionable Models: both forms of the loss by hand in NumPy, and the draw of negative actions."""

from typing import Any

import numpy as np
import pytest
import torch
from test_agents import BATCH, make_agent, make_batch, numpy_of


def moved_apart(agent: Any) -> Any:
    """The agent with targets that differ from their sources, and larger differences between values."""
    with torch.no_grad():
        agent.critic.trunk[-1].weight.mul_(20.0)
        for network in (agent.target_critic, agent.target_actor):
            for parameter in network.parameters():
                parameter.mul_(2.0)
    return agent


def target_by_hand(agent: Any, batch: dict[str, torch.Tensor], form: str) -> np.ndarray:  # type: ignore[type-arg]
    actions = numpy_of(agent, batch, "target_actor", "next_observations", "value_goals")
    batch = {**batch, "next": torch.from_numpy(actions).float()}
    next_q = numpy_of(agent, batch, "target_critic", "next_observations", "value_goals", "next")
    online, terminal = (
        numpy_of(agent, batch, network, "observations", "value_goals", "actions")
        for network in ("critic", "target_critic")
    )
    targets = []
    for row in range(BATCH):
        reward, mask = batch["rewards"][row].item(), batch["masks"][row].item()
        chained = batch["value_goal_steps"][row] < 0
        if form == "released":
            reward = online[row] if chained else reward
            targets.append(np.clip(reward + 0.9 * next_q[row], -50.0, 0.0))
        elif chained and batch["sub_trajectory_ends"][row] and mask:
            targets.append(terminal[row])
        else:
            targets.append(reward + 0.9 * mask * next_q[row])
    return np.array(targets)


def negatives_by_hand(agent: Any, batch: dict[str, torch.Tensor]) -> np.ndarray:  # type: ignore[type-arg]
    """The action in whose part of the distribution function the uniform number is."""
    negatives = []
    for row in range(BATCH):
        one = {name: values[[row] * 4] for name, values in batch.items()}
        one["candidates"] = batch["uniform_actions"][row]
        q = numpy_of(agent, one, "critic", "observations", "value_goals", "candidates")
        chances = np.exp(q) / np.exp(q).sum()
        negatives.append(np.searchsorted(np.cumsum(chances), batch["mixing"][row].item()))
    assert len(set(negatives)) > 1
    return batch["uniform_actions"][range(BATCH), negatives].numpy()


@pytest.mark.parametrize("form", ["paper", "released"])
def test_the_critic_fits_targets_and_pushes_negative_actions_down(form: str) -> None:
    agent = moved_apart(make_agent("actionable_models", {"form": form, "conservative_weight": 0.5}))
    batch = make_batch()
    batch["value_goal_steps"] = torch.arange(BATCH) % 3 - 1
    target = target_by_hand(agent, batch, form)
    batch["negatives"] = torch.from_numpy(negatives_by_hand(agent, batch))
    q, negative_q = (
        numpy_of(agent, batch, "critic", "observations", "value_goals", actions)
        for actions in ("actions", "negatives")
    )
    penalty = negative_q**2 if form == "paper" else negative_q
    critic = ((target - q) ** 2 + 0.5 * penalty).mean()
    loss, info = agent.loss(batch)
    assert info["critic/loss"].item() == pytest.approx(critic, rel=1e-4)
    batch["own"] = agent.actor(batch["observations"], batch["value_goals"], batch["tasks"]).detach()
    actor = -numpy_of(agent, batch, "critic", "observations", "value_goals", "own").mean()
    assert loss.item() == pytest.approx(critic + actor, rel=1e-4)


def test_values_of_the_papers_form_are_probabilities() -> None:
    agent, batch = moved_apart(make_agent("actionable_models", {})), make_batch()
    q = numpy_of(agent, batch, "critic", "observations", "value_goals", "actions")
    assert (q >= 0.0).all()
    assert (q <= 1.0).all()
    assert make_agent("actionable_models", {}).settings.sampling.reward == "binary"


def test_actions_of_larger_value_are_drawn_more_often() -> None:
    agent, batch = make_agent("actionable_models", {"form": "released"}), make_batch()
    with torch.no_grad():
        agent.critic.trunk[-1].weight.mul_(100.0)
    one = {name: values[:1].expand(2000, *values.shape[1:]) for name, values in batch.items()}
    one["mixing"] = (torch.arange(2000) + 0.5) / 2000
    drawn = agent.negative_actions(one)
    with torch.no_grad():
        q = agent.critic(
            *(one[name][:4] for name in ("observations", "value_goals")), one["uniform_actions"][0]
        )
    for action, chance in zip(one["uniform_actions"][0], q.softmax(0), strict=True):
        share = (drawn == action).all(1).float().mean()
        assert share.item() == pytest.approx(chance.item(), abs=1e-3)


def test_the_actor_sends_no_gradient_into_the_critic() -> None:
    agent = make_agent("actionable_models", {})
    agent.actor_loss(make_batch())[0].backward()
    assert all(p.grad is None for p in agent.critic.parameters())
    assert all(p.grad is not None for p in agent.actor.parameters())
