"""Contrastive RL: the loss of pairs by hand, what a pair weighs, and what the value of a state is."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_agents import BATCH, make_agent, make_batch, make_settings


def logits_by_hand(network: Any, batch: dict[str, torch.Tensor], *, action: bool) -> NDArray[Any]:
    inputs = [batch["observations"], batch["actions"]] if action else [batch["observations"]]
    with torch.no_grad():
        states = network.state_encoder(torch.cat(inputs, -1), batch["tasks"]).double().numpy()
        goals = network.goal_encoder(batch["value_goals"], batch["tasks"]).double().numpy()
    return np.array([[s @ g / np.sqrt(len(g)) for g in goals] for s in states])


def cross_entropies(logits: NDArray[Any]) -> NDArray[Any]:
    """Of each pair: whether the goal belongs to the transition."""
    probability = 1.0 / (1.0 + np.exp(-logits))
    return -np.where(np.eye(BATCH) == 1, np.log(probability), np.log(1.0 - probability))


@pytest.mark.parametrize("actor_loss", ["awr", "ddpg+bc"])
@pytest.mark.parametrize("weighted", [False, True])
def test_crl_is_the_mean_over_pairs_and_the_loss_of_the_actor(
    actor_loss: str, weighted: bool
) -> None:
    agent = make_agent("crl", {"latent": 6, "actor_loss": actor_loss, "alpha": 2.0})
    batch = make_batch()
    weights = np.full(BATCH, 1.0 / BATCH)
    if weighted:
        weights = np.random.default_rng(0).dirichlet(np.ones(BATCH))
        batch["weights"] = torch.from_numpy(weights).float()
    critics = [
        cross_entropies(logits_by_hand(member, batch, action=True))
        for member in agent.critic.members
    ]
    expected = np.mean([weights @ losses.mean(1) for losses in critics])

    state = batch["observations"], batch["actor_goals"]
    with torch.no_grad():
        mean = agent.actor(*state, batch["tasks"])
        acted = batch["actions"] if actor_loss == "awr" else mean.clamp(-1, 1)
        q = agent.critic(*state, acted, batch["tasks"]).amin(0).double().numpy()
    error = ((mean - batch["actions"]) ** 2).sum(1).double().numpy()
    if actor_loss == "awr":
        losses = cross_entropies(logits_by_hand(agent.value, batch, action=False))
        with torch.no_grad():
            v = agent.value(*state, task=batch["tasks"]).double().numpy()
        expected += weights @ losses.mean(1)
        expected += weights @ (np.minimum(np.exp(2.0 * (q - v)), 100.0) * 0.5 * error)
    else:
        expected += -(weights @ q) / np.abs(q).mean() + 2.0 * 0.5 * (weights @ error)
    assert agent.loss(batch)[0].item() == pytest.approx(expected, rel=1e-5)


def test_the_actor_sends_no_gradient_into_critics_and_value() -> None:
    for actor_loss in ("awr", "ddpg+bc"):
        agent = make_agent("crl", {"latent": 6, "actor_loss": actor_loss})
        loss = agent.awr_loss if agent.has_value else agent.ddpg_loss
        loss(make_batch())[0].backward()
        for name, parameter in agent.named_parameters():
            assert (parameter.grad is not None) == name.startswith("actor."), name


def test_the_critic_learns_which_goals_its_transitions_reach() -> None:
    """Goals are the first two numbers of the state: the critic finds its own goal among those of the batch."""
    agent = make_agent("crl", {"hidden": [64], "latent": 16, "learning_rate": 3e-3})
    optimizer = torch.optim.Adam(agent.parameter_groups())
    for seed in range(200):
        batch = make_batch(seed)
        batch["value_goals"] = batch["observations"][:, :2]
        loss, info = agent.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert info["critic/accuracy"] > 0.4  # By chance: 1 of 16.


def test_the_value_of_a_state_is_the_smaller_critic_at_the_action_of_the_policy() -> None:
    agent, batch = make_agent("crl", {"latent": 6}), make_batch()
    state = batch["observations"], batch["actor_goals"]
    with torch.no_grad():
        agent.actor.network.trunk[-1].bias.add_(2.0)  # So that some actions are clipped.
        actions = agent.actor(*state).clamp(-1, 1)
        q = torch.stack([member(*state, actions) for member in agent.critic.members])
    value = agent.state_value(*state, batch["tasks"])
    torch.testing.assert_close(value, torch.minimum(q[0], q[1]))
    assert not value.requires_grad


@pytest.mark.parametrize("conditioning", ["none", "one_hot", "embedding"])
def test_crl_without_a_goal_is_refused(conditioning: str) -> None:
    with pytest.raises(ValueError, match="use 'goal', 'goal.one_hot' or 'goal.embedding'"):
        make_settings("crl", {"conditioning": conditioning})
