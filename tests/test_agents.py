"""One conformance suite for every registered agent, and each loss against a NumPy version by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from offline_gcrl.agents import make_agent as agent_of
from offline_gcrl.agents import settings_type
from offline_gcrl.agents.gofar import log_mean_exp
from offline_gcrl.agents.shared.values import expectile_losses
from offline_gcrl.config import AgentSettings, algorithm_names
from offline_gcrl.networks.actors import LAST_GAIN
from offline_gcrl.networks.conditioning import Dimensions, FiLM, TwoColumns
from offline_gcrl.networks.mlp import MLP
from offline_gcrl.networks.targets import move_targets
from offline_gcrl.policies.policy import load_policy, save_policy
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.training.updates import PlainUpdater, diagnostics

DIMENSIONS = Dimensions(observation=5, goal=2, action=3, tasks=4)
BATCH = 16
EVERY_GROUP_STEPS = 11
"""Number of an update at which groups that step at every second, third, fourth or sixth update all do."""
SCALING = Scaling(
    (0.5,) * 5, (2.0,) * 5, (0.5,) * 2, (2.0,) * 2, (-2.0, 0.0, -1.0), (2.0, 4.0, 1.0)
)
Variant = tuple[str, dict[str, Any]]
BEFORE_TASKS: list[Variant] = [
    ("bc", {}),
    ("bc", {"conditioning": "one_hot"}),
    ("bc", {"conditioning": "goal+one_hot", "goal_encoder": "separate"}),
    ("gciql", {"actor_loss": "awr", "alpha": 3.0}),
    ("gciql", {"actor_loss": "ddpg+bc", "goal_encoder": "separate"}),
    ("gofar", {"divergence": "chi2"}),
    ("gofar", {"divergence": "kl", "goal_encoder": "separate"}),
    ("gofar", {"reward": "sparse"}),
]
"""Variants from before every network was conditioned on the task."""
TD3_BC: dict[str, Any] = {
    "critics": 2, "policy_delay": 2, "target_noise": 0.2, "action_penalty": 0.0, "bc_alpha": 2.5,
}  # fmt: skip
DUAL: dict[str, Any] = {"goal_encoder": "dual", "dual": {"size": 6}}
DEEP = {"layers": 3, "modules": 3, "width": 4, "router_width": 6}
VARIANTS: list[Variant] = [
    *BEFORE_TASKS,
    ("bc", {"conditioning": "none"}),
    ("bc", {"conditioning": "goal+embedding", "task_network": "film"}),
    ("bc", {"conditioning": "goal", "task_network": "heads"}),
    ("gciql", {"conditioning": "goal+one_hot", "task_network": "heads", "actor_loss": "awr"}),
    ("gciql", {"conditioning": "embedding", "task_network": "film", "goal_encoder": "separate"}),
    ("gciql", {"conditioning": "none"}),
    ("gofar", {"conditioning": "goal+embedding", "divergence": "kl"}),
    ("gofar", {"conditioning": "one_hot", "task_network": "film"}),
    ("gofar", {"conditioning": "none", "task_network": "heads"}),
    ("crl", {"latent": 6}),
    ("crl", {"latent": 6, "actor_loss": "awr", "goal_encoder": "separate"}),
    ("crl", {"latent": 6, "conditioning": "goal+one_hot", "task_network": "heads"}),
    ("crl", {"latent": 6, "conditioning": "goal+embedding", "task_network": "film"}),
    ("crl", {"latent": 6, "task_network": "film", "actor_loss": "awr"}),
    ("wgcsl", {}),
    ("wgcsl", {"percentile_step": 20.0, "queue": 40, "conditioning": "goal+one_hot"}),
    ("wgcsl", {"reward": "negative", "advantage": "data", "best_advantage_weight": False}),
    ("wgcsl", {"discount_weight": False, "conditioning": "embedding", "task_network": "film"}),
    ("wgcsl", {"exponential_weight": False, "conditioning": "none", "task_network": "heads"}),
    ("gcivl", {}),
    ("gcivl", {"conditioning": "goal+embedding", "task_network": "film"}),
    ("gcivl", {"conditioning": "goal+one_hot", "task_network": "heads"}),
    ("gcivl", {"conditioning": "one_hot", "goal_encoder": "separate"}),
    ("hiql", {"representation_size": 4}),
    ("hiql", {"low_actor_rep_grad": True, "goal_encoder": "separate"}),
    ("hiql", {"conditioning": "goal+embedding", "task_network": "film"}),
    ("hiql", {"conditioning": "goal+one_hot", "task_network": "heads"}),
    ("saw", {"representation_size": 4}),
    ("saw", {"sobolev": 0.1}),
    ("saw", {"conditioning": "goal+embedding", "task_network": "film", "sobolev": 0.1}),
    ("saw", {"conditioning": "goal+one_hot", "task_network": "heads"}),
    ("saw", {"goal_encoder": "separate"}),
    ("svl", {"representation_size": 4}),
    ("svl", {"hierarchical": False}),
    ("svl", {"hierarchical": False, "conditioning": "goal+embedding", "task_network": "film"}),
    ("svl", {"conditioning": "goal+one_hot", "task_network": "heads"}),
    ("qrl", {"latent": 16}),
    ("qrl", {"latent": 6, "quasimetric": "mrn", "goal_encoder": "separate"}),
    ("qrl", {"latent": 16, "actor_loss": "awr"}),
    ("qrl", {"latent": 16, "conditioning": "goal+one_hot", "task_network": "heads"}),
    ("qrl", {"latent": 16, "conditioning": "goal+embedding", "task_network": "film"}),
    ("actionable_models", {}),
    ("actionable_models", {"form": "released", "conditioning": "goal+one_hot"}),
    ("actionable_models", {"conditioning": "goal+embedding", "task_network": "film"}),
    ("actionable_models", {"conditioning": "one_hot", "task_network": "heads"}),
    ("ddpg", {}),
    ("ddpg", TD3_BC),
    ("ddpg", {"critics": 2, "conditioning": "goal+embedding", "task_network": "film"}),
    ("ddpg", {"bc_alpha": 1.0, "conditioning": "one_hot", "task_network": "heads"}),
    ("gciql", DUAL),
    ("gofar", {**DUAL, "conditioning": "goal+one_hot", "task_network": "heads"}),
    ("crl", {**DUAL, "latent": 6, "conditioning": "goal+one_hot", "task_network": "concatenate"}),
    ("hiql", {**DUAL, "conditioning": "goal+embedding", "task_network": "film"}),
    ("wgcsl", {**DUAL, "task_network": "film"}),
    ("bc", {"conditioning": "goal+one_hot", "task_network": "modular", "modular": DEEP}),
    ("gciql", {"conditioning": "goal+embedding", "task_network": "modular"}),
    ("gofar", {"task_network": "modular", "goal_encoder": "separate"}),
    ("crl", {"latent": 6, "conditioning": "goal+one_hot", "task_network": "modular"}),
    ("wgcsl", {"conditioning": "none", "task_network": "modular"}),
    ("gcivl", {"conditioning": "one_hot", "task_network": "modular"}),
    ("hiql", {"conditioning": "goal+one_hot", "task_network": "modular"}),
    ("saw", {"conditioning": "goal+embedding", "task_network": "modular", "sobolev": 0.1}),
    ("qrl", {"latent": 16, "conditioning": "goal+one_hot", "task_network": "modular"}),
    ("ddpg", {"critics": 2, "conditioning": "embedding", "task_network": "modular"}),
    ("svl", {"conditioning": "goal+one_hot", "task_network": "modular"}),
    ("actionable_models", {"conditioning": "embedding", "task_network": "modular"}),
    ("bc", {"task_network": "distral"}),
    ("gciql", {"task_network": "distral", "actor_loss": "awr"}),
    ("gofar", {"task_network": "distral", "goal_encoder": "separate"}),
    ("crl", {"latent": 6, "task_network": "distral"}),
    ("wgcsl", {"conditioning": "none", "task_network": "distral"}),
    ("gcivl", {"task_network": "distral", "distral_weight": 0.0}),
    ("qrl", {"latent": 16, "task_network": "distral"}),
    ("ddpg", {"bc_alpha": 1.0, "task_network": "distral"}),
    ("actionable_models", {"task_network": "distral"}),
]

MAPPED = [
    variant
    for variant in VARIANTS
    if variant[0] in {"bc", "gciql"} or variant[1].get("task_network") not in {"modular", "distral"}
]
"""Variants of the tests of fast paths, which take longer: modular networks and Distral are the same for all agents."""


def slow_unless(fast: Sequence[Any], variants: Sequence[Any]) -> list[Any]:
    """Variants as parameters; those that are not in ``fast`` run in the slow suite only."""
    slow = pytest.mark.slow
    return [pytest.param(each, marks=[] if each in fast else slow) for each in variants]


def own_losses() -> list[Variant]:
    """The first variant of each loss: task networks, conditionings and encoders are the same for all agents."""
    shared = {"conditioning", "task_network", "modular", "distral_weight"}
    first: dict[str, Variant] = {}
    for name, changed in VARIANTS:
        own = {k: v for k, v in changed.items() if k not in shared and (k, v) != ("goal_encoder", "separate")}  # fmt: skip
        first.setdefault(json.dumps([name, own], sort_keys=True), (name, changed))
    return list(first.values())


COMPONENTS = {
    "actor", "high_actor", "subpolicy", "value", "critic", "discriminator", "dynamics", "representation",
}  # fmt: skip
NETWORKS: list[Variant] = [
    ("bc", {"conditioning": "goal+embedding", "task_network": "film"}),
    ("bc", {"task_network": "heads"}),
    ("bc", {"conditioning": "goal+one_hot", "task_network": "modular", "modular": DEEP}),
    ("bc", {"task_network": "distral"}),
]
COMPILED = [*(each for each in VARIANTS if each[1].get("task_network") is None), *NETWORKS]
ONE_OF_EACH = [*{name: (name, changed) for name, changed in reversed(VARIANTS)}.values(), *NETWORKS]
CONDITIONINGS = [
    (conditioning, network)
    for conditioning in ("goal", "one_hot", "embedding", "goal+one_hot", "goal+embedding", "none")
    for network in ("concatenate", "film", "heads", "modular", "distral")
    if (conditioning, network) != ("none", "film")  # Refused, as is the next.
    and (network != "distral" or conditioning in {"goal", "none"})
]


def make_settings(algorithm: str, changed: dict[str, Any]) -> AgentSettings:
    content = {"algorithm": algorithm, "hidden": [8, 8], **changed}
    return settings_type(algorithm).model_validate_json(json.dumps(content))


def make_agent(algorithm: str, changed: dict[str, Any], seed: int = 0) -> Any:
    torch.default_generator.manual_seed(seed)  # Without those of GPUs, which takes milliseconds.
    return agent_of(make_settings(algorithm, changed), DIMENSIONS)


def make_batch(seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    return {
        "observations": normal(BATCH, 5),
        "next_observations": normal(BATCH, 5),
        "initial_observations": normal(BATCH, 5),
        "achieved_goals": normal(BATCH, 2),
        "next_achieved_goals": normal(BATCH, 2),
        "value_goals": normal(BATCH, 2),
        "actor_goals": normal(BATCH, 2),
        "actions": normal(BATCH, 3).clamp(-1, 1),
        "tasks": torch.randint(4, (BATCH,), generator=random),
        "rewards": -torch.rand(BATCH, generator=random),
        "masks": (normal(BATCH) > 0).float(),
        "discounts": torch.full((BATCH,), 0.9),
        "mixing": torch.rand(BATCH, generator=random),
        "actor_rewards": (normal(BATCH) > 0.5).float(),
        "actor_goal_steps": torch.randint(1, 20, (BATCH,), generator=random),
        "value_goal_steps": torch.randint(-1, 15, (BATCH,), generator=random),
        "permuted_value_goals": normal(BATCH, 2),
        "noise": normal(BATCH, 3),
        "uniform_actions": 2.0 * torch.rand(BATCH, 4, 3, generator=random) - 1.0,
        "update": torch.full((BATCH,), 3),
        "following_observations": normal(BATCH, 5),
        "low_goals": normal(BATCH, 2),
        "subgoals": normal(BATCH, 2),
        "subgoal_observations": normal(BATCH, 5),
        "representation_goals": normal(BATCH, 2),
        "representation_observations": normal(BATCH, 5),
        "representation_rewards": -torch.rand(BATCH, generator=random),
        "representation_masks": (normal(BATCH) > 0).float(),
        "representation_discounts": torch.full((BATCH,), 0.9),
        "steps_left": torch.randint(1, 20, (BATCH,), generator=random),
        "sub_trajectory_ends": (normal(BATCH) > 0).float(),
    }


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def name_of(variant: tuple[str, dict[str, Any]]) -> str:
    return "-".join([variant[0], *map(str, variant[1].values())])


@pytest.fixture(params=VARIANTS, ids=name_of)
def variant(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_every_algorithm_is_under_test() -> None:
    assert {name for name, _ in VARIANTS} == set(algorithm_names())


def test_every_algorithm_has_a_variant_of_each_task_network_and_of_a_task_identifier() -> None:
    for algorithm in algorithm_names():
        own = [changed for name, changed in VARIANTS if name == algorithm]
        networks = {changed.get("task_network", "concatenate") for changed in own}
        distils = not refusal(algorithm, {"task_network": "distral"})
        expected = {"concatenate", "film", "heads", "modular"} | ({"distral"} if distils else set())
        assert networks == expected, algorithm
        read = "+".join(changed.get("conditioning", "goal") for changed in own).split("+")
        assert {"goal", "one_hot", "embedding"} <= set(read), algorithm


def test_an_update_changes_what_it_should_and_targets_move_only_by_the_lerp(variant) -> None:  # type: ignore[no-untyped-def]
    agent = make_agent(*variant)
    optimizer = torch.optim.Adam(agent.parameter_groups(), fused=True)
    learning = {id(p) for group in agent.parameter_groups() for p in group["params"]}
    targets = {id(p): None for pair in agent.target_pairs() for p in pair[0]}
    assert not learning & set(targets)
    before = snapshot(agent)
    with torch.no_grad():  # Before the first update a target equals its source.
        for pair in agent.target_pairs():
            for target in pair[0]:
                target.add_(0.1)
    before = snapshot(agent)
    old = [[[p.clone() for p in part] for part in pair[:2]] for pair in agent.target_pairs()]
    info = PlainUpdater(agent, agent.loss, optimizer).update(make_batch(), EVERY_GROUP_STEPS)
    assert all(torch.isfinite(value) for value in info.values())
    for name, parameter in agent.named_parameters():
        changed = not torch.equal(before[name], parameter)
        assert changed == (id(parameter) in learning or id(parameter) in targets), name
    for (old_targets, sources), (moved, _, rate) in zip(old, agent.target_pairs(), strict=True):
        for target, source, now in zip(old_targets, sources, moved, strict=True):
            torch.testing.assert_close(now, torch.lerp(target, source, rate))


def test_losses_are_pure(variant) -> None:  # type: ignore[no-untyped-def]
    agent, batch = make_agent(*variant), make_batch()
    copies = {name: value.clone() for name, value in batch.items()}
    before, state = snapshot(agent), torch.random.get_rng_state()
    first, info = agent.loss(batch)
    second, _ = agent.loss(batch)
    assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(batch[name], value) for name, value in copies.items())
    assert all(torch.equal(before[name], value) for name, value in agent.state_dict().items())
    assert not any(value.requires_grad for value in info.values())


def test_diagnostics_are_named_by_component(variant) -> None:  # type: ignore[no-untyped-def]
    _, info = make_agent(*variant).loss(make_batch())
    assert {"actor/loss", "actor/mse"} <= set(info)
    components = {name.split("/")[0] for name in diagnostics(info)}
    assert components <= COMPONENTS


def test_a_policy_survives_saving_and_stays_within_bounds(variant, tmp_path) -> None:  # type: ignore[no-untyped-def]
    algorithm, changed = variant
    agent = make_agent(algorithm, changed)
    settings = make_settings(algorithm, changed)
    tasks = ("a", "b", "c", "d")

    def save(name: str) -> Path:
        path: Path = tmp_path / name
        save_policy(path, agent, algorithm, settings, SCALING, DIMENSIONS, tasks, {"updates": 3})
        return path

    for name in ("one.pt", "two.pt"):
        save(name)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
    policy = load_policy(tmp_path / "one.pt")
    assert policy.settings == settings
    random = np.random.default_rng(0)
    observation, goal = random.normal(size=(50, 5)) * 3, random.normal(size=(50, 2)) * 3
    actions = policy.act(observation, goal, "c")
    for row in range(50):
        one = policy.act(observation[row], goal[row], "c")
        np.testing.assert_allclose(one, actions[row], rtol=1e-4, atol=1e-4)
    with (
        torch.no_grad()
    ):  # Only now: large weights amplify the rounding that depends on the size of a batch.
        for parameter in agent.actor.parameters():
            parameter.mul_(5.0)
    actions = load_policy(save("large.pt")).act(observation, goal, "c")
    assert (actions >= SCALING.action_low).all()
    assert (actions <= SCALING.action_high).all()


@pytest.mark.parametrize("variant", slow_unless([("gciql", {}), *NETWORKS], COMPILED), ids=name_of)
def test_compiled_equals_eager(variant) -> None:  # type: ignore[no-untyped-def]
    agent, batch = make_agent(*variant), make_batch()
    eager, _ = agent.loss(batch)
    eager.backward()
    gradients = [p.grad.clone() for p in agent.parameters() if p.grad is not None]
    agent.zero_grad()
    torch.compiler.reset()
    compiled, _ = torch.compile(agent.loss, backend="aot_eager")(batch)
    compiled.backward()
    torch.testing.assert_close(compiled, eager)
    again = [p.grad for p in agent.parameters() if p.grad is not None]
    torch.testing.assert_close(again, gradients)


# ------------------------------------------------------------------- each loss by hand, in NumPy


def numpy_of(agent: Any, batch: dict[str, torch.Tensor], network: str, *keys: str) -> NDArray[Any]:
    with torch.no_grad():
        return getattr(agent, network)(*(batch[key] for key in keys)).numpy().astype(np.float64)


def test_bc_is_half_the_squared_error() -> None:
    agent, batch = make_agent("bc", {}), make_batch()
    actions = numpy_of(agent, batch, "actor", "observations", "actor_goals", "tasks")
    expected = 0.5 * ((actions - batch["actions"].numpy()) ** 2).sum(1).mean()
    assert agent.loss(batch)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("actor_loss", ["awr", "ddpg+bc"])
def test_gciql_is_the_sum_of_its_three_losses(actor_loss: str) -> None:
    agent, batch = make_agent("gciql", {"actor_loss": actor_loss, "alpha": 2.0}), make_batch()
    target_q = numpy_of(
        agent, batch, "target_critic", "observations", "value_goals", "actions"
    ).min(0)
    v = numpy_of(agent, batch, "value", "observations", "value_goals")
    difference = target_q - v
    value = np.mean(np.where(difference < 0, 0.1, 0.9) * difference**2)

    next_v = numpy_of(agent, batch, "value", "next_observations", "value_goals")
    target = batch["rewards"].numpy() + 0.9 * batch["masks"].numpy() * next_v
    q = numpy_of(agent, batch, "critic", "observations", "value_goals", "actions")
    critic = ((q[0] - target) ** 2).mean() + ((q[1] - target) ** 2).mean()

    mean = numpy_of(agent, batch, "actor", "observations", "actor_goals")
    error = ((mean - batch["actions"].numpy()) ** 2).sum(1)
    if actor_loss == "awr":
        q = numpy_of(agent, batch, "critic", "observations", "actor_goals", "actions").min(0)
        advantage = q - numpy_of(agent, batch, "value", "observations", "actor_goals")
        actor = (np.minimum(np.exp(2.0 * advantage), 100.0) * 0.5 * error).mean()
    else:
        batch["own"] = torch.from_numpy(mean.astype(np.float32)).clamp(-1, 1)
        q = numpy_of(agent, batch, "critic", "observations", "actor_goals", "own").min(0)
        actor = -q.mean() / np.abs(q).mean() + 2.0 * 0.5 * error.mean()
    assert agent.loss(batch)[0].item() == pytest.approx(value + critic + actor, rel=1e-4)


def test_ddpg_sends_no_gradient_into_the_critic() -> None:
    agent = make_agent("gciql", {"actor_loss": "ddpg+bc"})
    agent.ddpg_loss(make_batch())[0].backward()
    assert all(p.grad is None for p in [*agent.critic.parameters(), *agent.value.parameters()])
    assert all(p.grad is not None for p in agent.actor.parameters())


@pytest.mark.parametrize("divergence", ["chi2", "kl"])
@pytest.mark.parametrize("reward", ["discriminator", "sparse"])
def test_gofar_is_the_sum_of_its_losses(divergence: str, reward: str) -> None:
    agent = make_agent(
        "gofar", {"divergence": divergence, "reward": reward, "gradient_penalty": 0.0}
    )
    batch = make_batch()
    goals = batch["value_goals"]
    batch["positive"] = torch.cat([goals, goals], 1)
    batch["negative"] = torch.cat([batch["achieved_goals"], goals], 1)
    positive = numpy_of(agent, batch, "discriminator", "positive")[:, 0]
    negative = numpy_of(agent, batch, "discriminator", "negative")[:, 0]

    def probability(logit: NDArray[Any]) -> NDArray[Any]:
        return 1 / (1 + np.exp(-logit))

    discriminator = -(np.log(probability(positive)) + np.log(1 - probability(negative))).mean()
    if reward == "sparse":
        discriminator, rewards = 0.0, batch["rewards"].numpy()
    else:
        rewards = np.log(probability(negative)) - np.log(1 - probability(negative))
    v = numpy_of(agent, batch, "value", "observations", "value_goals")
    next_v = numpy_of(agent, batch, "target_value", "next_observations", "value_goals")
    advantage = rewards + 0.98 * next_v - v
    initial = 0.02 * numpy_of(agent, batch, "value", "initial_observations", "value_goals").mean()
    if divergence == "chi2":
        value, weight = initial + ((advantage + 1) ** 2).mean(), np.maximum(advantage + 1, 0)
    else:
        value = initial + np.log(np.exp(advantage).mean())
        weight = np.clip(np.exp(advantage), 0, 10)
    actions = numpy_of(agent, batch, "actor", "observations", "value_goals")
    actor = (weight * ((actions - batch["actions"].numpy()) ** 2).sum(1)).mean()
    assert agent.loss(batch)[0].item() == pytest.approx(discriminator + value + actor, rel=1e-4)


def test_the_gradient_penalty_is_that_of_finite_differences() -> None:
    agent, batch = make_agent("gofar", {}), make_batch()
    agent = agent.double()
    batch = {name: v.double() if v.is_floating_point() else v for name, v in batch.items()}
    penalty = agent.discriminator_loss(batch)[2]["discriminator/penalty"].item()
    goals, mixing = batch["value_goals"], batch["mixing"][:, None]
    mixed = mixing * torch.cat([goals, goals], 1) + (1 - mixing) * torch.cat(
        [batch["achieved_goals"], goals], 1
    )
    slopes = []
    for axis in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[axis] = 1e-5
        with torch.no_grad():
            rise = agent.discriminator(mixed + step) - agent.discriminator(mixed - step)
        slopes.append(rise[:, 0].numpy() / 2e-5)
    expected = ((np.linalg.norm(slopes, axis=0) - 1) ** 2).mean()
    assert penalty == pytest.approx(expected, rel=1e-6)


def test_the_expectile_of_zero_loss_is_the_expectile() -> None:
    """V fitted to samples with expectile 0.9 solves 0.9 E[(x - v)+] = 0.1 E[(v - x)+]."""
    samples = torch.randn(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([value], max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = expectile_losses(samples - value, 0.9).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    above = (samples - value.detach()).clamp(min=0).mean()
    below = (value.detach() - samples).clamp(min=0).mean()
    assert 0.9 * above.item() == pytest.approx(0.1 * below.item(), rel=1e-4)


def test_log_mean_exp_does_not_overflow() -> None:
    assert log_mean_exp(torch.tensor([1000.0, 1000.0]), {}).item() == pytest.approx(1000.0)


def refusal(algorithm: str, changed: dict[str, Any]) -> str:
    """The sentence with which settings are refused; empty if they are not."""
    try:
        make_settings(algorithm, changed)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("algorithm", algorithm_names())
@pytest.mark.parametrize(("conditioning", "network"), CONDITIONINGS)
def test_every_network_is_conditioned_as_its_settings_say_and_on_nothing_else(
    algorithm: str, network: str, conditioning: str
) -> None:
    changed = {"conditioning": conditioning, "task_network": network}
    refused = refusal(algorithm, changed)
    if "one policy that learns near a shared one" in refused:
        assert network == "distral"
        assert not settings_type(algorithm).distils
        return
    if refused:
        assert "goal" not in conditioning
        assert f"which 'conditioning: {conditioning}' leaves out; use 'goal'" in refused
        return
    agent = make_agent(algorithm, changed)
    batch, other = make_batch(), make_batch(1)
    sees_task = agent.settings.depends_on_task
    assert sees_task == (
        conditioning not in {"goal", "none"} or network in {"heads", "modular", "distral"}
    )
    with torch.no_grad():
        for heads in (module for module in agent.modules() if isinstance(module, TwoColumns)):
            for head in heads.tasks.heads:  # They start at zero.
                head[0].bias.normal_()
    for name in {"actor", "value"} & {name for name, _ in agent.named_children()}:
        function = getattr(agent, name)

        def outputs(changed: str, function: Any = function) -> torch.Tensor:
            changed_batch = {**batch, changed: other[changed]}
            return function(
                changed_batch["observations"],
                changed_batch["actor_goals"],
                task=changed_batch["tasks"],
            )

        same = outputs("rewards")
        assert torch.equal(outputs("actor_goals"), same) == ("goal" not in conditioning), name
        assert torch.equal(outputs("tasks"), same) != sees_task, name
    if hasattr(agent, "critic"):
        q = [
            agent.critic(batch["observations"], goals, batch["actions"], tasks)
            for goals, tasks in (
                (batch["actor_goals"], batch["tasks"]),
                (other["actor_goals"], batch["tasks"]),
                (batch["actor_goals"], other["tasks"]),
            )
        ]
        assert torch.equal(q[0], q[1]) == ("goal" not in conditioning)
        assert torch.equal(q[0], q[2]) != sees_task


def test_a_film_network_is_scaled_and_shifted_by_its_condition() -> None:
    torch.manual_seed(0)
    network = FiLM([3, 4, 2], "tanh", condition=2)
    inputs, condition = torch.randn(5, 3), torch.randn(5, 2)
    first, last = network.layers[0], network.layers[2]
    scale, shift = network.modulations[0](condition).chunk(2, -1)
    hidden = torch.tanh((1 + scale) * (inputs @ first.weight.T + first.bias) + shift)
    torch.testing.assert_close(network(inputs, condition), hidden @ last.weight.T + last.bias)


def test_a_head_serves_its_task_alone() -> None:
    agent = make_agent("bc", {"task_network": "heads"})
    batch = {**make_batch(), "tasks": torch.full((BATCH,), 2)}
    agent.loss(batch)[0].backward()
    for number, head in enumerate(agent.actor.network.heads.heads):
        assert bool(head[0].weight.grad.any()) == (number == 2)


@pytest.mark.parametrize(
    "changed",
    [
        {"conditioning": "none", "task_network": "film"},
        {"conditioning": "none", "goal_encoder": "separate"},
    ],
)
def test_what_cannot_be_taken_in_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no input with 'conditioning: none'"):
        make_settings("bc", changed)


@pytest.mark.parametrize(("algorithm", "changed"), BEFORE_TASKS)
def test_networks_are_what_they_were_before_there_were_tasks(
    algorithm: str, changed: dict[str, Any]
) -> None:
    """The same draws of initial weights: a plain MLP is conditioned on a goal, with a one-hot identifier after it."""
    agent = make_agent(algorithm, changed)
    encoded, condition = "goal_encoder" in changed, changed.get("conditioning", "goal")
    goal = {"goal": 2, "one_hot": 4, "goal+one_hot": 6}[condition]
    first = {"bc": "actor.network", "gciql": "value", "gofar": "value"}[algorithm]
    outputs, gain = (3, LAST_GAIN) if algorithm == "bc" else (1, 1.0)
    norm = algorithm == "gciql"
    activation = "relu" if algorithm == "gofar" else "gelu"
    torch.manual_seed(0)
    expected = [MLP([5, 8], activation), MLP([goal, 8], activation)] if encoded else []
    inputs = 16 if encoded else 5 + goal
    expected.append(MLP([inputs, 8, 8, outputs], activation, layer_norm=norm, last_gain=gain))
    values = [value for module in expected for value in module.state_dict().values()]
    state = agent.get_submodule(first).state_dict()
    assert all(torch.equal(a, b) for a, b in zip(state.values(), values, strict=True))


def test_a_one_hot_policy_does_not_see_the_goal_and_a_goal_policy_not_the_task() -> None:
    batch, other = make_batch(), make_batch(1)
    for conditioning, ignored, used in (
        ("one_hot", "actor_goals", "tasks"),
        ("goal", "tasks", "actor_goals"),
    ):
        agent = make_agent("bc", {"conditioning": conditioning})
        loss = agent.loss(batch)[0]
        assert torch.equal(agent.loss({**batch, ignored: other[ignored]})[0], loss)
        assert not torch.equal(agent.loss({**batch, used: other[used]})[0], loss)


def test_targets_move_by_their_rate() -> None:
    source, target = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = target.weight.detach().clone()
    move_targets(list(target.parameters()), list(source.parameters()), 0.25)
    torch.testing.assert_close(target.weight, before + 0.25 * (source.weight - before))
