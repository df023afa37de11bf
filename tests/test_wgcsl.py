"""WGCSL: its three weights and its critic's target by hand, and the queue of advantages over updates."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_agents import make_agent, make_batch, make_settings, numpy_of
from test_speed import adam

from offline_gcrl.agents.shared.queues import EMPTY, percentile, pushed
from offline_gcrl.training.updates import PlainUpdater

DISCOUNT = 0.98


def policy_q(
    agent: Any, batch: dict[str, torch.Tensor], networks: str, states: str, goals: str
) -> NDArray[Any]:
    """Q(s, pi(s, g), g) of the networks or their targets."""
    actor, critic = (getattr(agent, f"{networks}{name}") for name in ("actor", "critic"))
    with torch.no_grad():
        actions = actor(batch[states], batch[goals])
        q: NDArray[Any] = critic(batch[states], batch[goals], actions).numpy().astype(np.float64)
    return q


def by_hand(agent: Any, batch: dict[str, torch.Tensor]) -> tuple[float, float, NDArray[Any]]:
    """The losses of actor and critic, and the advantages."""
    settings = agent.settings
    largest = 50.0 if settings.reward == "binary" else 0.0

    def target(rewards: str, goals: str) -> NDArray[Any]:
        next_q = policy_q(agent, batch, "target_", "next_observations", goals)
        return np.clip(batch[rewards].numpy() + DISCOUNT * next_q, -50.0, largest)

    if settings.advantage == "data":
        q = numpy_of(agent, batch, "critic", "observations", "actor_goals", "actions")
        advantage = target("actor_rewards", "actor_goals") - q
    else:
        next_v = policy_q(agent, batch, "", "next_observations", "actor_goals")
        v = policy_q(agent, batch, "", "observations", "actor_goals")
        advantage = batch["actor_rewards"].numpy() + DISCOUNT * next_v - v
    weight = np.ones(len(advantage))
    if settings.discount_weight:
        weight = weight * DISCOUNT ** (batch["actor_goal_steps"].numpy() - 1)
    if settings.exponential_weight:
        weight = weight * np.clip(np.exp(advantage), 0.0, 10.0)
    if settings.best_advantage_weight:
        percent = min(settings.percentile_step * (batch["update"][0].item() + 1), 80.0)
        weight = weight * np.where(advantage >= np.percentile(advantage, percent), 1.0, 0.05)
    mean = numpy_of(agent, batch, "actor", "observations", "actor_goals")
    actor = (weight * ((mean - batch["actions"].numpy()) ** 2).mean(1)).mean()
    q = numpy_of(agent, batch, "critic", "observations", "value_goals", "actions")
    critic = ((target("rewards", "value_goals") - q) ** 2).mean()
    return actor, critic, advantage


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"percentile_step": 15.0},
        {"percentile_step": 50.0},
        {"discount_weight": False},
        {"exponential_weight": False},
        {"best_advantage_weight": False},
        {"reward": "negative", "advantage": "data", "best_advantage_weight": False},
    ],
    ids=str,
)
def test_wgcsl_is_weighted_regression_and_the_squared_error_of_the_critic(
    changed: dict[str, Any],
) -> None:
    agent, batch = make_agent("wgcsl", changed), make_batch()
    with torch.no_grad():  # So that targets differ, and some returns are out of bounds.
        for network in (agent.target_critic, agent.target_actor):
            for parameter in network.parameters():
                parameter.mul_(2.0)
        agent.target_critic.trunk[-1].weight.mul_(20.0)
    actor, critic, advantage = by_hand(agent, batch)
    loss, info = agent.loss(batch)
    assert info["actor/loss"].item() == pytest.approx(actor, rel=1e-4)
    assert info["critic/loss"].item() == pytest.approx(critic, rel=1e-4)
    assert loss.item() == pytest.approx(actor + critic, rel=1e-4)
    assert info["actor/advantage"].item() == pytest.approx(advantage.mean(), rel=1e-4)


def test_each_loss_sends_gradients_to_its_own_network_only() -> None:
    for part, network in (("actor_loss", "actor"), ("critic_loss", "critic")):
        agent = make_agent("wgcsl", {})
        getattr(agent, part)(make_batch())[0].backward()
        for name, parameter in agent.named_parameters():
            assert (parameter.grad is not None) == name.startswith(f"{network}."), name


def test_the_queue_keeps_the_latest_advantages_of_all_updates() -> None:
    agent = make_agent("wgcsl", {"queue": 40})
    updater = PlainUpdater(agent, agent.loss, adam(agent))
    expected: list[float] = []
    for number in range(4):
        batch = {**make_batch(number), "update": torch.full((16,), number)}
        expected += by_hand(agent, batch)[2].tolist()
        updater.update(batch, number)
        stored = agent.advantages[agent.advantages < EMPTY].tolist()
        assert stored == pytest.approx(expected[-40:], rel=1e-4, abs=1e-6)


def test_weights_do_not_depend_on_advantages_of_the_batch_alone() -> None:
    """A batch whose advantages are all below those of earlier batches gets the low weight."""
    agent, batch = make_agent("wgcsl", {"percentile_step": 10.0, "queue": 90}), make_batch()
    agent.advantages.fill_(100.0)
    _, info = agent.loss(batch)
    high = make_agent("wgcsl", {"best_advantage_weight": False}).loss(batch)[1]["actor/weight_mean"]
    assert info["actor/weight_mean"].item() == pytest.approx(0.05 * high.item(), rel=1e-5)


@pytest.mark.parametrize("percent", [0.0, 0.01, 37.5, 80.0, 99.99])
@pytest.mark.parametrize("number", [1, 2, 30, 50])
def test_the_percentile_is_that_of_numpy_however_many_values_there_are(
    percent: float, number: int
) -> None:
    values = torch.randn(number, generator=torch.Generator().manual_seed(number))
    queue = pushed(torch.full((50,), EMPTY), values)
    found = percentile(queue, torch.tensor(percent)).item()
    assert found == pytest.approx(np.percentile(values.numpy(), percent), rel=1e-4, abs=1e-6)


def test_a_queue_shorter_than_a_batch_keeps_the_end_of_the_batch() -> None:
    assert pushed(torch.full((2,), EMPTY), torch.arange(5.0)).tolist() == [3.0, 4.0]


@pytest.mark.parametrize("goals", [{"original": 1.0}, {"random": 0.5, "future": 0.5}])
def test_goals_without_a_number_of_steps_are_refused_where_it_is_a_weight(
    goals: dict[str, float],
) -> None:
    with pytest.raises(ValueError, match="needs the number of steps to the goal"):
        make_settings("wgcsl", {"actor_goals": goals})
    assert make_settings("wgcsl", {"actor_goals": goals, "discount_weight": False})


def test_the_value_of_a_state_is_that_of_the_action_of_the_policy() -> None:
    agent, batch = make_agent("wgcsl", {}), make_batch()
    value = agent.state_value(batch["observations"], batch["value_goals"], batch["tasks"])
    expected = policy_q(agent, batch, "", "observations", "value_goals")
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5)
    assert not value.requires_grad
