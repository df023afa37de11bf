"""Dual goal representations: their loss by hand in NumPy, and agents that read phi(g) instead of g."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SmallDataset
from test_agents import (
    BATCH,
    DIMENSIONS,
    DUAL,
    SCALING,
    make_agent,
    make_batch,
    make_settings,
    numpy_of,
)
from test_training import Jobs, listen, make_job  # noqa: F401

from offline_gcrl.agents import make_agent as agent_of
from offline_gcrl.agents import settings_type
from offline_gcrl.config import algorithm_names
from offline_gcrl.policies.policy import load_policy, save_policy
from offline_gcrl.training.batches.fields import FIELDS
from offline_gcrl.training.module import train_seed
from offline_gcrl.training.multitask.gradients import networks
from offline_gcrl.training.updates import PlainUpdater


def dual_agent(algorithm: str = "gciql", **changed: Any) -> Any:
    return make_agent(algorithm, {**DUAL, **changed})


def test_the_representation_is_learned_by_goal_conditioned_iql() -> None:
    agent, batch = dual_agent(dual={"size": 6, "expectile": 0.8}), make_batch()
    with torch.no_grad():
        for parameter in agent.target_representation_critic.parameters():
            parameter.add_(0.1 * torch.sin(torch.arange(parameter.numel())).view_as(parameter))
    inputs = ("observations", "representation_goals", "actions")
    target_q = numpy_of(agent, batch, "target_representation_critic", *inputs).min(0)
    v = numpy_of(agent, batch, "representation", *inputs[:2])
    value = np.mean(np.where(target_q < v, 0.2, 0.8) * (target_q - v) ** 2)
    next_v = numpy_of(agent, batch, "representation", "representation_observations", inputs[1])
    target = batch["representation_rewards"].numpy()
    target = target + 0.9 * batch["representation_masks"].numpy() * next_v
    q = numpy_of(agent, batch, "representation_critic", *inputs)
    critic = ((q - target) ** 2).mean(1).sum()
    loss, info = agent.representation_loss(batch)
    assert info["representation/value_loss"].item() == pytest.approx(value, rel=1e-5)
    assert loss.item() == pytest.approx(value + critic, rel=1e-5)


def test_its_value_is_the_scaled_product_of_the_encoded_state_and_the_encoded_goal() -> None:
    agent, batch = dual_agent(), make_batch()
    value = numpy_of(agent, batch, "representation", "observations", "value_goals")
    psi = numpy_of(agent.representation, batch, "state_encoder", "observations")
    phi = numpy_of(agent.representation, batch, "goal_encoder", "value_goals")
    np.testing.assert_allclose(value, (psi * phi).sum(1) / 6**0.5, rtol=1e-5, atol=1e-6)


def test_the_agent_reads_representations_instead_of_goals() -> None:
    agent, batch = dual_agent(), make_batch()
    encoded = agent.encoded(batch)
    for name in ("value_goals", "actor_goals"):
        phi = numpy_of(agent.representation, batch, "goal_encoder", name)
        np.testing.assert_allclose(encoded[name], phi, rtol=1e-5, atol=1e-6)
    alone = agent.inner.loss(encoded)[0] + agent.representation_loss(batch)[0]
    assert agent.loss(batch)[0].item() == pytest.approx(alone.item(), rel=1e-6)
    assert encoded["observations"] is batch["observations"]


def test_every_field_of_goals_is_represented() -> None:
    """By their names: a field of goals that is named otherwise would reach the networks as it is."""
    for name, function in FIELDS.items():
        is_goal = (function.__doc__ or "").startswith("(batch, goal)")
        assert is_goal == name.endswith("goals"), name


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_every_agent_learns_on_representations_into_which_it_sends_no_gradient(
    algorithm: str,
) -> None:
    agent, batch = (
        dual_agent(algorithm, **({"latent": 8} if algorithm == "qrl" else {})),
        make_batch(),
    )
    agent.inner.loss(agent.encoded(batch))[0].backward()
    assert all(p.grad is None for p in agent.representation.parameters())
    assert any(p.grad is not None for p in agent.inner.actor.parameters())
    fields = set(agent.settings.batch_sampling.fields)
    assert {"representation_goals", "representation_rewards"} < fields
    assert torch.isfinite(agent.loss({name: batch[name] for name in fields})[0])


def test_without_it_an_agent_and_its_batches_are_as_they_were() -> None:
    settings = make_settings("gciql", {})
    assert settings.batch_sampling == settings.sampling
    assert type(agent_of(settings, DIMENSIONS)).__module__ == "offline_gcrl.agents.gciql"


def test_running_state_of_the_agent_moves() -> None:
    agent = dual_agent("wgcsl")
    before = agent.inner.advantages.clone()
    optimizer = torch.optim.Adam(agent.parameter_groups())
    PlainUpdater(agent, agent.loss, optimizer).update(make_batch())
    assert (agent.inner.advantages != before).sum() == BATCH


def test_in_bfloat16_gradients_are_near_those_of_float32() -> None:
    """The same weights encode goals with and without a gradient, and autocast casts them once."""
    agent, found = dual_agent(), []
    for is_rounded in (False, True):
        agent.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_rounded):
            loss, _ = agent.loss(make_batch())
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in agent.representation.parameters()]))
    cosine = torch.nn.functional.cosine_similarity(*found, dim=0)
    assert 0.99 < cosine < 1.0 - 1e-7


def test_gradients_are_grouped_by_the_networks_of_the_agent_and_of_the_representation() -> None:
    found = set(networks(dual_agent()))
    assert found == {"value", "critic", "actor", "representation", "representation_critic"}


def test_a_representation_depends_on_the_task_where_networks_are_conditioned_on_it() -> None:
    batch = make_batch()
    other = (batch["tasks"] + 1) % 4
    for conditioning, network, sees in (
        ("goal", "concatenate", False),
        ("goal+one_hot", "concatenate", True),
        ("goal+embedding", "film", True),
        ("goal", "heads", True),
        ("goal", "modular", True),
    ):
        agent = dual_agent(conditioning=conditioning, task_network=network)
        one, two = (agent.encode(batch["value_goals"], tasks) for tasks in (batch["tasks"], other))
        assert torch.equal(one, two) != sees, (conditioning, network)


@pytest.mark.parametrize("conditioning", ["one_hot", "embedding", "none"])
def test_it_is_refused_where_networks_do_not_read_the_goal(conditioning: str) -> None:
    with pytest.raises(
        ValueError, match=f"represents the goal, which 'conditioning: {conditioning}'"
    ):
        make_settings("bc", {**DUAL, "conditioning": conditioning})


def test_its_settings_are_refused_where_it_is_not_used() -> None:
    with pytest.raises(ValueError, match="'dual' has no effect without 'goal_encoder: dual'"):
        make_settings("bc", {"dual": {"size": 6}})


def saved(agent: Any, path: Path) -> Any:
    """The policy of an agent, saved and loaded with its value."""
    settings = agent.settings
    tasks, training = ("a", "b", "c", "d"), {"updates": 3}
    save_policy(
        path, agent, settings.algorithm, settings, SCALING, DIMENSIONS, tasks, training, with_value=True
    )  # fmt: skip
    return load_policy(path)


@pytest.mark.parametrize(
    ("algorithm", "changed"), [("gciql", {}), ("qrl", {"latent": 8}), ("bc", {})]
)
def test_a_loaded_policy_encodes_goals_itself(
    tmp_path: Path, algorithm: str, changed: dict[str, Any]
) -> None:
    agent, batch = dual_agent(algorithm, **changed), make_batch()
    policy = saved(agent, tmp_path / "policy.pt")
    observation, goal, achieved = (
        batch[name].numpy() for name in ("observations", "actor_goals", "achieved_goals")
    )
    state, goals, start = (
        torch.from_numpy(scale(values))
        for scale, values in (
            (SCALING.observations, observation),
            (SCALING.goals, goal),
            (SCALING.goals, achieved),
        )
    )
    zeros = torch.zeros(BATCH, dtype=torch.long)
    phi = agent.encode(goals, zeros)
    with torch.no_grad():
        expected = agent.inner.actor(state, phi, zeros).numpy()
        if algorithm == "bc":  # It has no value of its own.
            value = agent.representation(state, goals, task=zeros)
        elif algorithm == "qrl":
            value = agent.inner.state_value(agent.encode(start, zeros), phi, zeros)
        else:
            value = agent.inner.state_value(state, phi, zeros)
    actions = policy.act(observation, goal)
    np.testing.assert_allclose(actions, SCALING.environment_actions(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        policy.value(observation, goal, achieved_goal=achieved), value, rtol=1e-4, atol=1e-5
    )


def test_it_trains_in_the_pipeline(make_job: Jobs, dataset: SmallDataset) -> None:  # noqa: F811
    job = make_job("dual", "bc", updates=20, snapshots=2)
    content = {"algorithm": "bc", "hidden": [16, 16], **DUAL, "dual": {"size": 6, "n_step": 3}}
    job = replace(job, settings=settings_type("bc").model_validate_json(json.dumps(content)))
    train_seed(job, listen)
    policy, episodes = load_policy(job.output), dataset.episodes
    state, goal = episodes.observation[:5], episodes.achieved_goal[5]
    assert policy.act(state, goal).shape == (5, policy.dimensions.action)
    assert (policy.value(state, goal) < 0.5).all()
    curve = (job.output / "training.csv").read_text().splitlines()[0]
    assert "validation/representation/value_loss" in curve
