"""DDPG and TD3+BC: losses by hand, and TD3's delay as two optimizers that are stepped at their own updates."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from test_agents import TD3_BC, make_agent, make_batch, numpy_of
from test_speed import adam

from offline_gcrl.training.updates import PlainUpdater

DISCOUNT = 0.98


def moved_apart(agent: Any) -> Any:
    """The agent with targets that differ from their sources, and some returns out of bounds."""
    with torch.no_grad():
        for network in (agent.target_critic, agent.target_actor):
            for parameter in network.parameters():
                parameter.mul_(2.0)
        for member in agent.target_critic.members:
            member.trunk[-1].weight.mul_(20.0)
    return agent


def losses_by_hand(agent: Any, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """The losses of critics and actor."""
    settings = agent.settings
    noise = np.clip(settings.target_noise * batch["noise"].numpy(), -0.5, 0.5)
    actions = numpy_of(agent, batch, "target_actor", "next_observations", "value_goals") + noise
    batch = {**batch, "next": torch.from_numpy(np.clip(actions, -1.0, 1.0)).float()}
    next_q = numpy_of(agent, batch, "target_critic", "next_observations", "value_goals", "next")
    target = batch["rewards"].numpy() + batch["discounts"].numpy() * next_q.min(0)
    target = np.clip(target, -1.0 / (1.0 - DISCOUNT), 0.0)
    assert (target == 0.0).any()
    assert (target == -1.0 / (1.0 - DISCOUNT)).any()
    q = numpy_of(agent, batch, "critic", "observations", "value_goals", "actions")
    critic = ((q - target) ** 2).mean(1).sum()
    mean = numpy_of(agent, batch, "actor", "observations", "value_goals")
    batch["own"] = torch.from_numpy(mean).float()
    q = numpy_of(agent, batch, "critic", "observations", "value_goals", "own")[0]
    actor = -q.mean() + settings.action_penalty * (mean**2).mean()
    if settings.bc_alpha is not None:
        error = ((mean - batch["actions"].numpy()) ** 2).mean()
        actor = -settings.bc_alpha * q.mean() / np.abs(q).mean() + error
    return critic, actor


@pytest.mark.parametrize(
    "changed", [{}, {"action_penalty": 0.0}, TD3_BC], ids=["l2", "plain", "td3+bc"]
)
def test_ddpg_is_the_squared_error_of_critics_and_minus_the_value_of_the_policy(
    changed: dict[str, Any],
) -> None:
    agent, batch = moved_apart(make_agent("ddpg", changed)), make_batch()
    critic, actor = losses_by_hand(agent, batch)
    loss, info = agent.loss(batch)
    assert info["critic/loss"].item() == pytest.approx(critic, rel=1e-4)
    assert info["actor/loss"].item() == pytest.approx(actor, rel=1e-4)
    assert loss.item() == pytest.approx(critic + actor, rel=1e-4)


@pytest.mark.parametrize("changed", [{}, TD3_BC], ids=["ddpg", "td3+bc"])
def test_each_loss_sends_gradients_to_its_own_networks_only(changed: dict[str, Any]) -> None:
    for part, network in (("actor_loss", "actor"), ("critic_loss", "critic")):
        agent = make_agent("ddpg", changed)
        getattr(agent, part)(make_batch())[0].backward()
        for name, parameter in agent.named_parameters():
            assert (parameter.grad is not None) == name.startswith(f"{network}."), name


def test_td3_delays_the_policy_as_with_an_optimizer_of_its_own() -> None:
    """Two optimizers as in TD3's code: the critics' steps at every update, the actor's at every second one."""
    agent = make_agent("ddpg", {**TD3_BC, "tau": 0.1}).double()
    by_hand = copy.deepcopy(agent)
    updater = PlainUpdater(agent, agent.loss, adam(agent))
    optimizers = {
        name: torch.optim.Adam(getattr(by_hand, name).parameters(), lr=1e-3, fused=True)
        for name in ("critic", "actor")
    }
    for number in range(5):
        batch = {
            name: values.double() if values.is_floating_point() else values
            for name, values in make_batch(number).items()
        }
        before = copy.deepcopy(agent.actor.state_dict())
        updater.update(batch, number)
        stays = all(torch.equal(before[name], p) for name, p in agent.actor.state_dict().items())
        assert stays == (number % 2 == 0)
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            getattr(by_hand, f"{name}_loss")(batch)[0].backward()
        with torch.no_grad():
            for name in optimizers:
                target, source = getattr(by_hand, f"target_{name}"), getattr(by_hand, name)
                for one, other in zip(target.parameters(), source.parameters(), strict=True):
                    one.lerp_(other, 0.1)
        for name, optimizer in optimizers.items():
            if name == "critic" or number % 2 == 1:
                optimizer.step()
    torch.testing.assert_close(agent.state_dict(), by_hand.state_dict(), rtol=1e-9, atol=1e-12)


def test_the_value_of_a_state_is_the_smaller_one_of_the_action_of_the_policy() -> None:
    agent, batch = make_agent("ddpg", TD3_BC), make_batch()
    value = agent.state_value(batch["observations"], batch["value_goals"], batch["tasks"])
    with torch.no_grad():
        batch["own"] = agent.actor(batch["observations"], batch["value_goals"])
    q = numpy_of(agent, batch, "critic", "observations", "value_goals", "own")
    np.testing.assert_allclose(value.numpy(), q.min(0), rtol=1e-5)


def test_critics_disagree_where_there_are_two() -> None:
    agent, batch = make_agent("ddpg", TD3_BC), make_batch()
    assert agent.settings.has_ensemble
    assert not make_agent("ddpg", {}).settings.has_ensemble
    q = numpy_of(agent, batch, "critic", "observations", "value_goals", "actions")
    found = agent.disagreement(batch).detach().numpy()
    np.testing.assert_allclose(found, np.abs(q[0] - q[1]), rtol=1e-4, atol=1e-6)
