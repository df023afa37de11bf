"""Losses and one update of each agent equal those of OGBench's released code."""

import json
import math
from typing import Any

import pytest
import torch
from ogbench_reference import DIMENSIONS, HERE, Reference, assert_same_update, put, read

from offline_gcrl.agents import agent_type, settings_type

RATE = 3e-4
CONSTANT = 0.5 * math.log(2 * math.pi)
"""Of the log-likelihood of one number, which losses of this package leave out."""


def make(algorithm: str, **changed: Any) -> Any:
    content = {"algorithm": algorithm, "hidden": [32, 32], **changed}
    settings = settings_type(algorithm).model_validate_json(json.dumps(content))
    return agent_type(algorithm)(settings, DIMENSIONS)


def gcbc(reference: Reference, when: str) -> Any:
    agent = make("bc", actor_goals={"future": 1.0})
    put(agent.actor, reference.layers("actor", when), "actor_net", last="mean_net")
    return agent


def gciql(reference: Reference, when: str, **changed: Any) -> Any:
    agent = make("gciql", **changed)
    put(agent.actor, reference.layers("actor", when), "actor_net", last="mean_net")
    put(agent.value, reference.layers("value", when), "value_net")
    for name, ensemble in (("critic", agent.critic), ("target_critic", agent.target_critic)):
        for number, member in enumerate(ensemble.members):
            layers = reference.layers(name, when)
            put(member, layers, "value_net", member=number, order=HERE)
    return agent


def crl(reference: Reference, when: str, **changed: Any) -> Any:
    agent = make("crl", latent=16, **changed)
    put(agent.actor, reference.layers("actor", when), "actor_net", last="mean_net")
    for number, member in enumerate(agent.critic.members):
        put_bilinear(member, reference.layers("critic", when), number)
    if agent.has_value:
        put_bilinear(agent.value, reference.layers("value", when))
    return agent


def qrl(reference: Reference, when: str, **changed: Any) -> Any:
    agent = make("qrl", latent=16, **changed)
    put(agent.actor, reference.layers("actor", when), "actor_net", last="mean_net")
    value = reference.layers("value", when)
    put(agent.distance.encoder, value, "phi")
    if agent.has_dynamics:
        layers = {f"net/{k}": v for k, v in reference.layers("dynamics", when).items()}
        put(agent.dynamics, layers, "net")
    with torch.no_grad():
        agent.log_multiplier.copy_(reference.layers("lam", when)["log_value"])
        if agent.settings.quasimetric == "iqe":
            agent.distance.metric.mixing.copy_(value["alpha/value"])
    return agent


def put_bilinear(network: Any, layers: Any, member: int | None = None) -> None:
    put(network.state_encoder, layers, "phi", member=member)
    put(network.goal_encoder, layers, "psi", member=member)


def gcivl(reference: Reference, when: str) -> Any:
    agent = make("gcivl", alpha=10.0)
    put(agent.actor, reference.layers("actor", when), "actor_net", last="mean_net")
    for name in ("value", "target_value"):
        for number, member in enumerate(getattr(agent, name).members):
            put(member, reference.layers(name, when), "value_net", member=number)
    return agent


def hiql(reference: Reference, when: str, **changed: Any) -> Any:
    agent = make("hiql", **changed)
    put(agent.value.representation, reference.layers("goal_rep", when), "layers_0")
    for name, heads in (("value", agent.value.heads), ("target_value", agent.value.target_heads)):
        for number, member in enumerate(heads.members):
            put(member, reference.layers(name, when), "value_net", member=number)
    for name, policy in (("low_actor", agent.actor.low), ("high_actor", agent.actor.high)):
        put(policy, reference.layers(name, when), "actor_net", last="mean_net")
    return agent


def hiql_batch(reference: Reference) -> dict[str, torch.Tensor]:
    """The batch by the names of this package: goals are states there, so a subgoal is its state."""
    batch = reference.batch
    return batch | {
        "low_goals": batch["low_actor_goals"],
        "actor_goals": batch["high_actor_goals"],
        "subgoals": batch["high_actor_targets"],
        "subgoal_observations": batch["high_actor_targets"],
    }


def released_awr_loss(info: dict[str, Any], name: str, outputs: int) -> float:
    """The loss of an actor with the constant of the likelihood, weighted as the likelihood is."""
    weight: float = info[f"{name}/weight_mean"].item()
    loss: float = info[f"{name}/loss"].item()
    return loss + weight * outputs * CONSTANT


def assert_same_actor(info: dict[str, Any], reference: Reference) -> None:
    """The squared error of the actor is the released one, and so is what its loss maximises: an advantage or Q."""
    assert info["actor/mse"].item() / 3 == pytest.approx(reference.info("actor/mse"), rel=1e-5)
    own, released = ("q_mean", "q_mean") if "actor/q_mean" in info else ("advantage", "adv")
    expected = reference.info(f"actor/{released}")
    assert info[f"actor/{own}"].item() == pytest.approx(expected, rel=1e-5)


def test_gcbc_equals_the_released_one() -> None:
    reference = read("gcbc")
    agent = gcbc(reference, "params")
    loss, info = agent.loss(reference.batch)
    assert loss.item() + 3 * CONSTANT == pytest.approx(reference.info("total"), rel=1e-5)
    assert info["actor/mse"].item() / 3 == pytest.approx(reference.info("actor/mse"), rel=1e-5)
    assert_same_update(agent, gcbc(reference, "after"), reference.batch, RATE)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("gciql-awr", {"actor_loss": "awr", "alpha": 3.0}),
        ("gciql-ddpgbc", {"actor_loss": "ddpg+bc", "alpha": 0.3}),
    ],
)
def test_gciql_equals_the_released_one(file: str, changed: dict[str, Any]) -> None:
    reference = read(file)
    agent = gciql(reference, "params", **changed)
    _, info = agent.loss(reference.batch)
    for name in ("value/loss", "critic/loss"):
        part = name.replace("/loss", "/" + name.partition("/")[0] + "_loss")
        assert info[name].item() == pytest.approx(reference.info(part), rel=1e-5)
    assert_same_actor(info, reference)
    assert_same_update(agent, gciql(reference, "after", **changed), reference.batch, RATE)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("crl-awr", {"actor_loss": "awr", "alpha": 3.0}),
        ("crl-ddpgbc", {"actor_loss": "ddpg+bc", "alpha": 0.1}),
    ],
)
def test_crl_equals_the_released_one(file: str, changed: dict[str, Any]) -> None:
    reference = read(file)
    agent = crl(reference, "params", **changed)
    _, info = agent.loss(reference.batch)
    for name in ["critic"] + ["value"] * agent.has_value:
        for own, released in (("loss", "contrastive_loss"), ("mean", "logits_pos")):
            expected = reference.info(f"{name}/{released}")
            assert info[f"{name}/{own}"].item() == pytest.approx(expected, rel=1e-5)
    assert_same_actor(info, reference)
    assert_same_update(agent, crl(reference, "after", **changed), reference.batch, RATE)


def test_gcivl_equals_the_released_one() -> None:
    reference = read("gcivl")
    agent = gcivl(reference, "params")
    _, info = agent.loss(reference.batch)
    assert info["value/loss"].item() == pytest.approx(reference.info("value/value_loss"), rel=1e-5)
    assert info["value/mean"].item() == pytest.approx(reference.info("value/v_mean"), rel=1e-4)
    found = released_awr_loss(info, "actor", 3)
    assert found == pytest.approx(reference.info("actor/actor_loss"), rel=1e-5)
    assert info["actor/advantage"].item() == pytest.approx(reference.info("actor/adv"), rel=1e-5)
    assert_same_update(agent, gcivl(reference, "after"), reference.batch, RATE)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("qrl-iqe", {"quasimetric": "iqe"}),
        ("qrl-mrn", {"quasimetric": "mrn"}),
        ("qrl-iqe-awr", {"quasimetric": "iqe", "actor_loss": "awr", "alpha": 3.0}),
    ],
)
def test_qrl_equals_the_released_one(file: str, changed: dict[str, Any]) -> None:
    reference = read(file)
    agent, batch = qrl(reference, "params", **changed), reference.batch
    batch["achieved_goals"] = batch["observations"]  # Goals are states there.
    batch["next_achieved_goals"] = batch["next_observations"]
    _, info = agent.loss(batch)
    expected = {
        "value/loss": "value/value_loss",
        "value/distance": "value/d_neg_mean",
        "value/excess": "value/d_pos_loss",
        "value/multiplier": "value/lam",
    }
    if agent.has_dynamics:
        expected |= {"dynamics/loss": "dynamics/dynamics_loss", "actor/q_mean": "actor/q_mean"}
    else:
        expected["actor/advantage"] = "actor/adv"
    for own, released in expected.items():
        assert info[own].item() == pytest.approx(reference.info(released), rel=1e-5), own
    assert info["actor/mse"].item() / 3 == pytest.approx(reference.info("actor/mse"), rel=1e-5)
    assert_same_update(agent, qrl(reference, "after", **changed), batch, RATE)


@pytest.mark.parametrize(
    ("file", "changed"), [("hiql", {}), ("hiql-rep-grad", {"low_actor_rep_grad": True})]
)
def test_hiql_equals_the_released_one(file: str, changed: dict[str, Any]) -> None:
    reference = read(file)
    agent, batch = hiql(reference, "params", **changed), hiql_batch(reference)
    _, info = agent.loss(batch)
    assert info["value/loss"].item() == pytest.approx(reference.info("value/value_loss"), rel=1e-5)
    for own, released, outputs in (("actor", "low_actor", 3), ("high_actor", "high_actor", 10)):
        found = released_awr_loss(info, own, outputs)
        assert found == pytest.approx(reference.info(f"{released}/actor_loss"), rel=1e-5)
        advantage = info[f"{own}/advantage"].item()
        assert advantage == pytest.approx(reference.info(f"{released}/adv"), rel=1e-5)
    assert_same_update(agent, hiql(reference, "after", **changed), batch, RATE)
