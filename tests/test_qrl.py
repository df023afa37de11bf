"""Quasimetric RL: the metrics, the losses by hand, and that distances become shortest paths."""

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_agents import BATCH, DIMENSIONS, SCALING, make_agent, make_batch, make_settings

from offline_gcrl.agents import agent_type
from offline_gcrl.networks.metrics import (
    INTERVALS,
    IQE,
    METRICS,
    MRN,
    SORTING_NETWORK,
    union_lengths,
)
from offline_gcrl.policies.policy import load_policy, save_policy
from offline_gcrl.support.errors import PolicyError

# ----------------------------------------------------------------------------------- metrics


def covered_length(low: NDArray[Any], high: NDArray[Any]) -> float:
    """Length of a union of intervals: cells between neighbouring ends that any interval covers."""
    ends = np.sort(np.concatenate([low, high]))
    return sum(
        right - left for left, right in pairwise(ends) if ((low <= left) & (right <= high)).any()
    )


def test_the_length_of_a_union_of_intervals_is_that_of_the_cells_that_it_covers() -> None:
    random = np.random.default_rng(0)
    low, high = random.normal(size=(2, 200, INTERVALS))
    high[:20] = low[:20] - 1.0  # All intervals are empty.
    high[20:40, 0], low[20:40, 0] = 9.0, -9.0  # One interval covers all others.
    low[40:60, 1] = low[40:60, 2]  # Two begin at the same place.
    found = union_lengths(torch.from_numpy(low), torch.from_numpy(high))
    expected = [covered_length(*pair) for pair in zip(low, high, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_the_network_sorts_every_list() -> None:
    """It does if it sorts all lists of zeros and ones (Knuth, The Art of Computer Programming 3, section 5.3.4)."""
    lists = np.array(list(product((0, 1), repeat=INTERVALS)))
    rows = list(lists.T)
    for one, other in SORTING_NETWORK:
        rows[one], rows[other] = np.minimum(rows[one], rows[other]), np.maximum(rows[one], rows[other])  # fmt: skip
    np.testing.assert_array_equal(np.stack(rows, 1), np.sort(lists, 1))


def test_iqe_mixes_the_mean_and_the_largest_of_its_components() -> None:
    metric, (x, y) = IQE().double(), torch.randn(2, 7, 24, dtype=torch.float64)
    with torch.no_grad():
        metric.mixing.fill_(1.0)
    parts = np.array(
        [
            [
                covered_length(x[row, c : c + 8].numpy(), y[row, c : c + 8].numpy())
                for c in (0, 8, 16)
            ]
            for row in range(7)
        ]
    )
    weight = 1 / (1 + np.exp(-1.0))
    expected = weight * parts.mean(1) + (1 - weight) * parts.max(1)
    np.testing.assert_allclose(metric(x, y).detach().numpy(), expected)


def test_mrn_is_a_norm_and_the_largest_descent() -> None:
    x = torch.tensor([[1.0, 2.0, 5.0, 0.0], [1.0, 2.0, 5.0, 0.0]])
    y = torch.tensor([[4.0, 6.0, 2.0, 1.0], [4.0, 6.0, 7.0, 1.0]])
    torch.testing.assert_close(MRN()(x, y), torch.tensor([5.0 + 3.0, 5.0]))


@pytest.mark.parametrize("name", METRICS)
def test_a_quasimetric_obeys_the_triangle_inequality_and_is_not_symmetric(name: str) -> None:
    torch.manual_seed(0)
    metric = METRICS[name]().double()
    x, y, z = torch.randn(3, 1000, 16, dtype=torch.float64)
    assert (metric(x, z) <= metric(x, y) + metric(y, z) + 1e-12).all()
    assert (metric(x, y) > 0.0).all()
    assert (metric(x, x) <= 1e-6).all()
    assert (metric(x, y) - metric(y, x)).abs().median() > 0.1


# ------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("actor_loss", ["awr", "ddpg+bc"])
@pytest.mark.parametrize("weighted", [False, True])
def test_qrl_is_the_sum_of_its_losses(actor_loss: str, weighted: bool) -> None:
    push = {"push_offset": 3.0, "push_scale": 2.0, "slack": 0.1}
    agent = make_agent("qrl", {"latent": 16, "actor_loss": actor_loss, "alpha": 2.0, **push})
    with torch.no_grad():
        agent.log_multiplier.fill_(0.7)
    batch = make_batch()
    weights = np.full(BATCH, 1.0 / BATCH)
    if weighted:
        weights = np.random.default_rng(0).dirichlet(np.ones(BATCH))
        batch["weights"] = torch.from_numpy(weights).float()

    def distance(start: torch.Tensor, end: torch.Tensor) -> NDArray[Any]:
        with torch.no_grad():
            return agent.distance.metric(start, end).double().numpy()  # type: ignore[no-any-return]

    with torch.no_grad():
        now, then, goal, pursued = (
            agent.distance.encoder(batch[name])
            for name in ("achieved_goals", "next_achieved_goals", "value_goals", "actor_goals")
        )
        mean = agent.actor(batch["observations"], batch["actor_goals"])
    excess = np.maximum(distance(now, then) - 1.0, 0.0) ** 2
    expected = weights @ (2.0 * np.log(1.0 + np.exp((3.0 - distance(now, goal)) / 2.0)))
    expected += np.exp(0.7) * (weights @ excess)  # The distance pays for the excess,
    expected += np.exp(0.7) * (0.1 - weights @ excess)  # and the multiplier rises with it.
    error = ((mean - batch["actions"]) ** 2).sum(1).double().numpy()
    if actor_loss == "awr":
        advantage = distance(now, pursued) - distance(then, pursued)
        weight = np.minimum(np.exp(2.0 * advantage), 100.0)
        expected += weights @ (weight * 0.5 * error)
    else:

        def predicted(actions: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return now + agent.dynamics(torch.cat([now, actions], 1))  # type: ignore[no-any-return]

        next_one = predicted(batch["actions"])
        expected += weights @ ((distance(then, next_one) + distance(next_one, then)) / 2)
        q = -distance(predicted(mean.clamp(-1, 1)), pursued)
        expected += -(weights @ q) / np.abs(q).mean() + 2.0 * 0.5 * (weights @ error)
    assert agent.loss(batch)[0].item() == pytest.approx(expected, rel=1e-5)


def test_the_multiplier_rises_where_steps_are_too_long_and_falls_where_they_are_short() -> None:
    agent, batch = make_agent("qrl", {"latent": 16}), make_batch()
    for scale, sign in ((20.0, -1.0), (0.0, 1.0)):
        batch["next_achieved_goals"] = batch["achieved_goals"] + scale
        agent.zero_grad()
        agent.loss(batch)[0].backward()
        assert agent.log_multiplier.grad.sign() == sign  # Adam descends.


def test_the_actor_sends_no_gradient_into_the_distance_and_the_dynamics() -> None:
    for actor_loss in ("awr", "ddpg+bc"):
        agent, batch = make_agent("qrl", {"latent": 16, "actor_loss": actor_loss}), make_batch()
        loss = agent.ddpg_loss if agent.has_dynamics else agent.awr_loss
        with torch.no_grad():
            now, then = agent.encode(batch, "achieved_goals"), agent.encode(batch, "value_goals")
        loss(batch, now, then)[0].backward()
        for name, parameter in agent.named_parameters():
            assert (parameter.grad is not None) == name.startswith("actor."), name


def test_distances_are_between_goals_and_do_not_see_the_rest_of_the_state() -> None:
    agent, batch = make_agent("qrl", {"latent": 16}), make_batch()
    changed = {**batch, "observations": batch["observations"] + 1.0}
    first, second = (agent.loss(one)[1] for one in (batch, changed))
    for name in ("value/loss", "value/distance", "dynamics/loss"):
        assert torch.equal(first[name], second[name])
    assert not torch.equal(first["actor/mse"], second["actor/mse"])


def test_distances_on_a_one_way_ring_are_the_steps_along_it() -> None:
    """Eight places on a circle, and steps in one direction only: back by one place is seven steps."""
    agent = make_agent(
        "qrl",
        {"hidden": [64, 64], "latent": 32, "actor_loss": "awr", "learning_rate": 3e-3,
         "multiplier_learning_rate": 3e-2, "push_offset": 10.0, "push_scale": 2.0},
    )  # fmt: skip
    optimizer = torch.optim.Adam(agent.parameter_groups())
    angle = torch.arange(8) * torch.pi / 4
    places = torch.stack([angle.cos(), angle.sin()], 1)
    start, goal = (
        index.flatten() for index in torch.meshgrid(*2 * [torch.arange(8)], indexing="ij")
    )
    batch = {name: make_batch()[name][:1].expand(64, -1) for name in ("observations", "actions")}
    batch |= {
        "tasks": torch.zeros(64, dtype=torch.int64),
        "achieved_goals": places[start],
        "next_achieved_goals": places[(start + 1) % 8],
        "value_goals": places[goal],
        "actor_goals": places[goal],
    }
    for _ in range(250):
        loss, info = agent.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    steps = ((goal - start) % 8).numpy()
    with torch.no_grad():
        distances = agent.distance(places[start], places[goal]).numpy()
    assert info["value/excess"] < 0.2
    np.testing.assert_allclose(distances[steps <= 4], steps[steps <= 4], atol=1.0)
    assert distances[steps == 1].mean() < 1.5 < 3.0 < distances[steps == 7].mean()
    assert np.corrcoef(distances, steps)[0, 1] > 0.9


def test_the_value_of_a_policy_is_minus_the_distance_from_the_achieved_goal(tmp_path: Path) -> None:
    changed = {"latent": 16}
    agent = make_agent("qrl", changed)
    settings = make_settings("qrl", changed)
    for dimensions in (DIMENSIONS, replace(DIMENSIONS, observation=2)):
        if dimensions != DIMENSIONS:
            agent = agent_type("qrl")(settings, dimensions)
        scaling = replace(SCALING, observation_mean=(0.5,) * dimensions.observation,
                          observation_std=(2.0,) * dimensions.observation)  # fmt: skip
        arguments = (agent, "qrl", settings, scaling, dimensions, ("a",), {"updates": 1})
        save_policy(tmp_path / "policy.pt", *arguments, with_value=True)
        policy = load_policy(tmp_path)
        state, achieved, goal = np.ones((3, dimensions.observation)), np.eye(3, 2), np.zeros(2)
        with torch.no_grad():
            start, end = (torch.from_numpy((g - 0.5) / 2.0).float() for g in (achieved, goal))
            expected = -agent.distance(start, end.expand(3, -1)).numpy()
        found = policy.value(state, goal, achieved_goal=achieved)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        if dimensions == DIMENSIONS:
            with pytest.raises(PolicyError, match="pass 'achieved_goal', the goal that the state"):
                policy.value(state, goal)
        else:
            np.testing.assert_array_equal(policy.value(achieved, goal), found)


# ---------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("conditioning", ["none", "one_hot", "embedding"])
def test_qrl_without_a_goal_is_refused(conditioning: str) -> None:
    with pytest.raises(ValueError, match="QRL learns distances to goals, which 'conditioning: "):
        make_settings("qrl", {"conditioning": conditioning})


def test_encodings_that_do_not_divide_into_components_are_refused() -> None:
    with pytest.raises(ValueError, match="'latent' .12. must be a multiple of 8 for .* iqe"):
        make_settings("qrl", {"latent": 12})
    assert make_settings("qrl", {"latent": 12, "quasimetric": "mrn"})
