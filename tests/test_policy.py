"""A policy is one file and one call."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_agents import DIMENSIONS, SCALING, make_agent, make_settings

import offline_gcrl
from offline_gcrl.policies.acting import plain_layers
from offline_gcrl.policies.policy import Policy, load_policy, save_policy
from offline_gcrl.policies.saved import write_content
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.support.errors import PolicyError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "seed-0"
    arguments = (make_agent("gofar", {}), "gofar", make_settings("gofar", {}), SCALING, DIMENSIONS)
    save_policy(folder / "policy.pt", *arguments, ("a", "b", "c", "d"), {"updates": 1})
    return folder


@pytest.fixture
def policy(folder: Path) -> Policy:
    return offline_gcrl.load_policy(folder)


def test_it_acts_on_one_state_or_on_many(policy: Policy) -> None:
    assert policy.act(np.zeros(5), np.zeros(2)).shape == (3,)
    assert policy.act(np.zeros((7, 5)), np.zeros((7, 2))).shape == (7, 3)
    assert policy.act([0.0] * 5, [0.0] * 2).dtype == np.float32


def test_one_goal_goes_with_many_states_and_the_reverse(policy: Policy) -> None:
    goals = np.eye(2)
    many = policy.act(np.ones((3, 5)), goals[0])
    np.testing.assert_allclose(many, np.stack([policy.act(np.ones(5), goals[0])] * 3), rtol=1e-5)
    assert policy.act(np.ones(5), goals).shape == (2, 3)
    with pytest.raises(PolicyError, match="3 observations do not go with 2 goals"):
        policy.act(np.ones((3, 5)), goals)


def test_it_follows_the_goal(policy: Policy) -> None:
    assert not np.array_equal(
        policy.act(np.ones(5), np.ones(2)), policy.act(np.ones(5), -np.ones(2))
    )


def test_a_goal_that_was_changed_in_place_is_read_again(policy: Policy) -> None:
    goal = np.ones(2)
    first = policy.act(np.ones(5), goal)
    goal *= -1.0
    assert np.array_equal(policy.act(np.ones(5), goal), policy.act([1.0] * 5, [-1.0] * 2))
    assert np.array_equal(policy.act(np.ones(5), -goal), first)
    goal[0] = np.nan
    with pytest.raises(PolicyError, match="the goal is not finite"):
        policy.act(np.ones(5), goal)


def test_wrong_shapes_and_tasks_are_named(policy: Policy) -> None:
    with pytest.raises(PolicyError, match=r"takes observations of shape \(5,\) .* not \(4,\)"):
        policy.act(np.zeros(4), np.zeros(2))
    with pytest.raises(PolicyError, match=r"takes goals of shape \(2,\)"):
        policy.act(np.zeros(5), np.zeros(3))
    with pytest.raises(PolicyError, match="knows no task 'e', only a, b, c, d"):
        policy.act(np.zeros(5), np.zeros(2), "e")


@pytest.mark.parametrize(
    ("changed", "needed"),
    [
        ({}, False),
        ({"conditioning": "goal+one_hot"}, True),
        ({"conditioning": "embedding"}, True),
        ({"task_network": "heads"}, True),
        ({"task_network": "film"}, False),
    ],
)
def test_a_policy_that_is_conditioned_on_the_task_needs_its_name(
    changed: dict[str, Any], needed: bool, tmp_path: Path
) -> None:
    agent, settings = make_agent("bc", changed), make_settings("bc", changed)
    arguments = (agent, "bc", settings, SCALING, DIMENSIONS, ("a", "b", "c", "d"))
    save_policy(tmp_path / "policy.pt", *arguments, {"updates": 1})
    policy = load_policy(tmp_path)
    assert policy.needs_task == needed
    assert policy.act(np.zeros(5), np.zeros(2), "c").shape == (3,)
    if needed:
        with pytest.raises(PolicyError, match="conditioned on the task; pass one of a, b, c, d"):
            policy.act(np.zeros(5), np.zeros(2))
    else:
        assert policy.act(np.zeros(5), np.zeros(2)).shape == (3,)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such policy"):
        load_policy(tmp_path / "nothing.pt")
    (tmp_path / "broken.pt").write_bytes(b"no policy")
    with pytest.raises(PolicyError, match="not a policy file"):
        load_policy(tmp_path / "broken.pt")
    torch.save({"format": 99}, tmp_path / "other.pt")
    with pytest.raises(PolicyError, match="not a policy file of this version"):
        load_policy(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("algorithm", "changed", "plain"),
    [
        ("gofar", {}, True),
        ("gciql", {"activation": "relu"}, True),
        ("gciql", {"activation": "gelu"}, True),
        ("bc", {"activation": "tanh"}, True),
        ("bc", {"goal_encoder": "separate"}, False),
        ("bc", {"conditioning": "goal+one_hot"}, False),
        ("bc", {"task_network": "film"}, False),
    ],
)
def test_one_state_acts_as_in_a_batch_whatever_the_network(
    algorithm: str, changed: dict[str, Any], plain: bool, tmp_path: Path
) -> None:
    agent, asked = make_agent(algorithm, changed), make_settings(algorithm, changed)
    arguments = (agent, algorithm, asked, SCALING, DIMENSIONS, ("a", "b", "c", "d"))
    save_policy(tmp_path / "policy.pt", *arguments, {"updates": 1})
    policy = load_policy(tmp_path)
    assert (plain_layers(policy.actor) is not None) == plain
    random = np.random.default_rng(0)
    states, goals = random.normal(size=(50, 5)), random.normal(size=(50, 2))
    one_by_one = [policy.act(*pair, "b") for pair in zip(states, goals, strict=True)]
    np.testing.assert_allclose(one_by_one, policy.act(states, goals, "b"), rtol=1e-4, atol=1e-6)


def test_a_policy_file_with_one_flipped_bit_is_refused(folder: Path) -> None:
    """torch checks no checksums: without a digest it would load, and act otherwise."""
    content = (folder / "policy.pt").read_bytes()
    random = np.random.default_rng(0)
    intact = offline_gcrl.load_policy(folder)
    for place in random.integers(len(content), size=60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        (folder / "policy.pt").write_bytes(bytes(damaged))
        try:
            policy = offline_gcrl.load_policy(folder)
        except PolicyError:
            continue
        # The bit was in a part of the file that means nothing: a name, a time, an alignment.
        for name, value in policy.actor.state_dict().items():
            assert torch.equal(value, intact.actor.state_dict()[name])
        assert policy.scaling == intact.scaling
    (folder / "policy.pt").write_bytes(content)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_policy_file_that_was_cut_is_refused(folder: Path, tmp_path: Path, share: float) -> None:
    content = (folder / "policy.pt").read_bytes()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(PolicyError, match="cut.pt: not a policy file"):
        offline_gcrl.load_policy(cut)


def test_the_folder_of_an_agent_lists_its_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        (tmp_path / f"seed-{seed}").mkdir()
    with pytest.raises(PolicyError, match="contains the seeds seed-0, seed-1; name one"):
        offline_gcrl.load_policy(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_refused(policy: Policy, value: float) -> None:
    sizes = policy.dimensions
    observation, goal = np.zeros(sizes.observation), np.zeros(sizes.goal)
    observation[1] = value
    with pytest.raises(PolicyError, match=r"observation is not finite at \[1\]"):
        policy.act(observation, goal)


def test_an_observation_of_several_arrays_is_refused_with_their_names(policy: Policy) -> None:
    shown = {"observation": np.zeros(5), "achieved_goal": np.zeros(2), "desired_goal": np.zeros(2)}
    with pytest.raises(PolicyError, match=r"dict with the keys .* such as observation\['desired_"):
        policy.act(shown["observation"], shown)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["gciql", "gofar"])
def test_a_policy_with_a_value_gives_that_of_its_agent(tmp_path: Path, algorithm: str) -> None:
    agent, asked = make_agent(algorithm, {}), make_settings(algorithm, {})
    arguments = (agent, algorithm, asked, SCALING, DIMENSIONS, ("a", "b", "c", "d"), {"updates": 1})
    save_policy(tmp_path / "policy.pt", *arguments, with_value=True)
    policy = load_policy(tmp_path)
    random = np.random.default_rng(0)
    states, goals = random.normal(size=(9, 5)), random.normal(size=(9, 2))
    scaled = (
        torch.from_numpy(SCALING.observations(states.astype(np.float32))),
        torch.from_numpy(SCALING.goals(goals.astype(np.float32))),
    )
    expected = agent.state_value(*scaled, torch.zeros(9, dtype=torch.int64)).numpy()
    np.testing.assert_allclose(policy.value(states, goals), expected, rtol=1e-5)
    np.testing.assert_allclose(policy.value(states[0], goals[0]), expected[0], rtol=1e-5)


def test_a_policy_without_a_value_says_so(policy: Policy) -> None:
    with pytest.raises(PolicyError, match="has no value: it is a snapshot, or its algorithm"):
        policy.value(np.zeros(5), np.zeros(2))


def schema_of(
    observation: list[float], goal: list[float], success: dict[str, Any]
) -> dict[str, Any]:
    """What the scaling needs of a schema, with these standard deviations."""
    return {
        "goal": {"success": success},
        "action_space": {"low": [-1.0], "high": [1.0]},
        "statistics": {
            name: {"mean": [0.0] * len(std), "std": std}
            for name, std in (("observation", observation), ("achieved_goal", goal))
        },
    }


EXACT: dict[str, Any] = {"kind": "same_step"}


def test_noise_of_numbers_at_rest_is_not_enlarged() -> None:
    scaling = Scaling.of(schema_of([1.0, 1e-5, 0.0], [1.0, 1e-5], EXACT))
    assert scaling.observation_std == (1.0, 1e-2, 1e-2)
    assert scaling.goal_std == (1.0, 1e-2)


def test_numbers_in_small_units_are_scaled_as_in_large_ones() -> None:
    small = Scaling.of(schema_of([1e-4, 3e-5, 1e-9, 0.0], [1e-4], EXACT))
    assert small.observation_std == pytest.approx((1e-4, 3e-5, 1e-6, 1e-6))
    normalised = small.observations(np.array([2e-4, 3e-5, 0.0, 0.0], np.float32))
    np.testing.assert_allclose(normalised, [2.0, 1.0, 0.0, 0.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("success", "expected"),
    [
        ({"kind": "distance", "tolerance": 1e-4}, (1.0, 5e-4)),
        ({"kind": "distance", "tolerance": 0.05}, (1.0, 1e-2)),
        ({"kind": "per_dimension", "tolerances": [0.1, 1e-3]}, (1.0, 1e-3)),
        ({"kind": "predicate", "predicate": "above", "dimensions": [1], "tolerance": 0.0}, (1.0, 1e-2)),
    ],
)  # fmt: skip
def test_goals_are_scaled_as_finely_as_their_success_test(
    success: dict[str, Any], expected: tuple[float, float]
) -> None:
    """A difference of the tolerance is at most one standard deviation, however little the goals vary."""
    assert Scaling.of(schema_of([1.0], [1.0, 5e-4], success)).goal_std == expected


def test_constant_numbers_stay_finite() -> None:
    assert Scaling.of(schema_of([0.0], [0.0], EXACT)).observation_std == (1e-2,)


def test_the_bytes_of_a_file_do_not_depend_on_which_texts_are_the_same_object(
    tmp_path: Path,
) -> None:
    name = "gciql of the test"
    copies = ["".join(list(name)), "".join(list(name))]
    assert copies[0] is not copies[1]
    paths = [tmp_path / "same", tmp_path / "copies"]
    for path, texts in zip(paths, ([name, name], copies), strict=True):
        write_content(path, {"agent": texts[0], "settings": {"algorithm": texts[1]}})
    assert paths[0].read_bytes() == paths[1].read_bytes()
