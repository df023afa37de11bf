"""Modular networks and Distral: each against a NumPy version by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_agents import BATCH, DIMENSIONS, SCALING, make_agent, make_batch, make_settings

from offline_gcrl.config import Modular
from offline_gcrl.networks.conditioning import UNSEEN
from offline_gcrl.networks.modules import SoftModules
from offline_gcrl.policies.policy import load_policy, save_policy

Array = NDArray[np.float64]


def randomised(network: torch.nn.Module) -> dict[str, Array]:
    """Draw all parameters of a network, biases included, and return them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return {name: value.double().numpy() for name, value in network.state_dict().items()}


def linear(weights: dict[str, Array], name: str, inputs: Array) -> Array:
    return weights[f"{name}.weight"] @ inputs + weights[f"{name}.bias"]


def relu(values: Array) -> Array:
    return np.maximum(values, 0.0)


def softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def modules_by_hand(
    weights: dict[str, Array], inputs: Array, identifier: Array, layers: int, count: int
) -> Array:
    """Soft Modularization for one input, module by module (Yang et al. 2020, section 4)."""

    def module(layer: int, number: int, inputs: Array) -> Array:
        matrix, bias = weights[f"layers.{layer}.weight"], weights[f"layers.{layer}.bias"]
        return inputs @ matrix[number] + bias[number]

    features = linear(weights, "base.2", relu(linear(weights, "base.0", inputs)))
    routed = linear(weights, "task.0", identifier) * features
    routed = linear(weights, "gates.2", relu(linear(weights, "gates.0", relu(routed))))
    routes: list[Array] = []
    for layer in range(layers):
        conditioned = routed
        if layer:
            earlier = np.concatenate([weight.ravel() for weight in routes])
            conditioned = linear(weights, f"conditions.{layer - 1}.0", earlier) * routed
        logits = linear(weights, f"logits.{layer}.0", relu(conditioned))
        destinations = count if layer < layers - 1 else 1
        routes.append(np.stack([softmax(row) for row in logits.reshape(destinations, count)]))
    outputs = [module(0, number, relu(features)) for number in range(count)]
    for layer in range(1, layers):
        outputs = [
            module(layer, j, relu(sum(routes[layer - 1][j, i] * outputs[i] for i in range(count))))
            for j in range(count)
        ]
    last = sum(routes[-1][0, i] * outputs[i] for i in range(count))
    return module(layers, 0, relu(last))


@pytest.mark.parametrize(("layers", "count"), [(2, 2), (4, 3)])
def test_a_modular_network_is_the_algorithm_of_the_paper(layers: int, count: int) -> None:
    torch.manual_seed(0)
    shape = Modular(layers=layers, modules=count, width=5, router_width=6)
    network = SoftModules([3, 7, 4], 2, "relu", identifier=2, shape=shape)
    weights = randomised(network)
    inputs, identifiers = torch.randn(10, 3), torch.randn(10, 2)
    expected = [
        modules_by_hand(weights, row.numpy(), identifier.numpy(), layers, count)
        for row, identifier in zip(inputs.double(), identifiers.double(), strict=True)
    ]
    outputs = network(inputs, identifiers).detach().numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)


def test_routing_weights_of_a_destination_sum_to_one_and_are_nearly_equal_at_first() -> None:
    torch.manual_seed(0)
    shape = Modular(layers=3, modules=4)
    network = SoftModules([3, 8], 2, "gelu", identifier=2, shape=shape, layer_norm=True)
    routes = network.routing(torch.randn(6, 3), torch.eye(2)[torch.arange(6) % 2])
    assert [tuple(weights.shape) for weights in routes] == [(6, 4, 4), (6, 4, 4), (6, 1, 4)]
    for weights in routes:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        torch.testing.assert_close(weights, torch.full_like(weights, 0.25), rtol=0, atol=0.02)


def test_the_identifier_changes_the_weights_of_modules_and_not_their_input() -> None:
    agent = make_agent("bc", {"conditioning": "goal+one_hot", "task_network": "modular"})
    network = agent.actor.network
    assert network.trunk.base[0].in_features == DIMENSIONS.observation + DIMENSIONS.goal
    assert network.trunk.task[0].in_features == DIMENSIONS.tasks


@pytest.mark.parametrize("algorithm", ["bc", "wgcsl"])
def test_distral_is_the_loss_with_the_divergence_from_the_shared_policy(algorithm: str) -> None:
    """KL(pi_i || pi_0) of Gaussians with unit deviation, once for the task policies and once for the shared one."""
    agent = make_agent(algorithm, {"task_network": "distral", "distral_weight": 0.3})
    other = make_agent(algorithm, {"task_network": "distral", "distral_weight": 0.8})
    heads = agent.actor.network.heads
    randomised(heads.tasks)
    other.load_state_dict(agent.state_dict())
    batch = make_batch()
    observations, goals = batch["observations"], batch["actor_goals"]
    with torch.no_grad():
        own = agent.actor(observations, goals, batch["tasks"]).numpy()
        shared = agent.actor(observations, goals, torch.full((BATCH,), UNSEEN)).numpy()
    kl = 0.5 * ((own - shared) ** 2).sum(1).mean()
    assert kl > 0.1
    loss, info = agent.loss(batch)
    assert info["actor/shared_divergence"].item() == pytest.approx(kl, rel=1e-5)
    if algorithm == "bc":
        error = 0.5 * ((own - batch["actions"].numpy()) ** 2).sum(1).mean()
        assert loss.item() == pytest.approx(error + 1.3 * kl, rel=1e-5)
    assert other.loss(batch)[0].item() - loss.item() == pytest.approx(0.5 * kl, rel=1e-3)


def test_the_shared_policy_is_the_centre_of_the_task_policies() -> None:
    """Fitted to constant actions per task, with tasks equally frequent, pi_0 is their mean, and c_KL shrinks the distance."""
    wanted = torch.tensor([-1.0, 0.0, 0.5, 1.0])
    found = {}
    for weight in (0.0, 1.0):
        agent = make_agent("bc", {"task_network": "distral", "distral_weight": weight})
        batch = {**make_batch(), "tasks": torch.arange(BATCH) % 4}
        for name in ("observations", "actor_goals"):  # Each state is one of all tasks.
            batch[name] = batch[name][:4].repeat_interleave(4, 0)
        batch["actions"] = wanted[batch["tasks"]][:, None].expand(-1, 3)
        optimizer = torch.optim.Adam(agent.parameters(), lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            agent.loss(batch)[0].backward()
            optimizer.step()
        observations, goals = batch["observations"], batch["actor_goals"]
        with torch.no_grad():
            shared = agent.actor(observations, goals, torch.full((BATCH,), UNSEEN))
            own = agent.actor(observations, goals, batch["tasks"])
        torch.testing.assert_close(shared.mean(), wanted.mean(), rtol=0, atol=0.03)
        found[weight] = (own - shared).square().mean().sqrt().item()
    # Each task policy minimises |mu - a|^2 + c |mu - mu_0|^2: its distance is 1 / (1 + c) of that of its actions.
    spread = (wanted - wanted.mean()).square().mean().sqrt().item()
    assert found[0.0] == pytest.approx(spread, rel=0.1)
    assert found[1.0] == pytest.approx(spread / 2, rel=0.1)


def test_a_task_without_data_acts_by_the_shared_policy_as_does_an_unknown_one(tmp_path) -> None:  # type: ignore[no-untyped-def]
    changed = {"task_network": "distral"}
    agent, settings = make_agent("bc", changed), make_settings("bc", changed)
    batch = make_batch()
    batch["tasks"] = batch["tasks"].clamp(max=2)
    optimizer = torch.optim.Adam(agent.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        agent.loss(batch)[0].backward()
        optimizer.step()
    names = ("a", "b", "c", "d")
    save_policy(tmp_path / "policy.pt", agent, "bc", settings, SCALING, DIMENSIONS, names, {})
    policy = load_policy(tmp_path / "policy.pt")
    known, without_data, unknown = (
        policy.act(np.ones(5), np.zeros(2), task) for task in ("a", "d", "e")
    )
    np.testing.assert_array_equal(without_data, unknown)
    np.testing.assert_array_equal(policy.act(np.ones(5), np.zeros(2)), unknown)
    assert np.abs(known - unknown).max() > 1e-3


@pytest.mark.parametrize(
    ("algorithm", "changed", "message"),
    [
        ("hiql", {"task_network": "distral"}, "one policy that learns near a shared one, and 'hiql' is none"),
        ("bc", {"task_network": "distral", "conditioning": "goal+one_hot"}, "must not depend on the task, which 'conditioning: goal.one_hot' contains"),
        ("bc", {"task_network": "modular", "conditioning": "one_hot", "goal_encoder": "separate"}, "whose modules do not read the task identifier"),
        ("bc", {"task_network": "distral", "goal_encoder": "dual"}, "representations of 'goal_encoder: dual' do"),
        ("bc", {"task_network": "heads", "modular": {"layers": 3}}, "no effect without 'task_network: modular'"),
        ("bc", {"task_network": "modular", "modular": {"layers": 1}}, "greater than or equal to 2"),
    ],
)  # fmt: skip
def test_task_networks_that_cannot_work_are_refused(
    algorithm: str, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_settings(algorithm, changed)
