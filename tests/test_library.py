"""The package as a library: the results of the stages, without a project, also from a wheel."""

import copy
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import minari
import numpy as np
import polars as pl
import pytest
import torch
from conftest import (
    RECIPES,
    ROOT,
    SmallDataset,
    as_dataset,
    episode_buffers,
    small_recipe,
    space_of,
    write_minari,
)
from test_agents import DIMENSIONS, DUAL, SCALING, Variant, make_agent, make_settings, slow_unless
from test_training import Jobs, listen, make_job, weights  # noqa: F401

import offline_gcrl as og
from offline_gcrl.agents import make_agent as agent_of
from offline_gcrl.config import Evaluate, Vision, algorithm_names, load_recipe, recipe_names
from offline_gcrl.evaluation.jobs import FINAL, episode_jobs
from offline_gcrl.evaluation.results import episode_table, summarise
from offline_gcrl.evaluation.rollouts import run_episode
from offline_gcrl.library import exporting, onnx_files
from offline_gcrl.library.onnx_files import PACKAGES
from offline_gcrl.library.policies import with_dataset
from offline_gcrl.library.processes import without_main_module
from offline_gcrl.library.sources import packaged_recipes
from offline_gcrl.networks.actors import LAST_GAIN
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.policy import save_policy
from offline_gcrl.support.errors import PolicyError
from offline_gcrl.training.module import train_seed

pytestmark = pytest.mark.long(seconds=50)

GOAL = {"success": {"kind": "distance", "tolerance": 0.45}}
SETTINGS: dict[str, Any] = {
    "updates": 60, "batch_size": 32, "snapshots": 3, "updates_per_step": 7, "hidden": [16, 16],
    "learning_rate": 1e-3, "relabel": {"k": 3},
}  # fmt: skip
EXPLORATION = "offline-gcrl/pointmaze-umaze/explore-v0"


@pytest.fixture(scope="module")
def data(dataset: SmallDataset) -> og.LearningData:
    """The episodes that the stages of the small dataset have ingested."""
    evaluation = load_recipe("pointmaze-umaze", RECIPES).evaluation
    assert evaluation is not None
    return og.load_dataset(dataset.parquet, environment=evaluation.environment)


@pytest.fixture(scope="module")
def policy(data: og.LearningData) -> og.TrainedPolicy:
    return og.train(data, agent="gciql", **SETTINGS)


def test_training_gives_the_policy_of_the_stage_byte_for_byte(
    policy: og.TrainedPolicy,
    make_job: Jobs,  # noqa: F811
) -> None:
    job = make_job("stage", "gciql")
    train_seed(job, listen)
    assert policy.file is not None
    assert policy.file.read_bytes() == weights(job)
    assert policy.curve["update"].to_list()[-1] == 60


def test_an_evaluation_gives_the_episodes_and_intervals_of_the_stage(
    policy: og.TrainedPolicy,
) -> None:
    assert policy.dataset is not None
    assert policy.file is not None
    jobs = episode_jobs(policy.file, policy.dataset, Evaluate(episodes=3), 0, FINAL)
    expected = episode_table(map(run_episode, jobs))
    assert og.evaluation_episodes(policy, 3).drop("policy").equals(expected)
    table = og.evaluate(policy, episodes=3)
    row = table.row(by_predicate=pl.col("metric") == "final_distance", named=True)
    assert row == {"metric": "final_distance", **summarise([expected])["final_distance"]}


def test_worker_processes_give_the_same_evaluation(policy: og.TrainedPolicy) -> None:
    seeds = [policy, replace(policy, training={**policy.training, "seed": 1})]
    one, two = (og.evaluate(seeds, episodes=2, workers=n) for n in (1, 2))
    assert one.equals(two)
    assert (one["episodes"].max(), one["seeds"].max()) == (4, 2)


def test_numbers_and_arrays_of_numpy_are_settings(
    data: og.LearningData, dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(dataset.minari))
    success = {"kind": "distance", "tolerance": np.float32(0.5)}
    goal = {
        "success": success,
        "achieved": {"key": "observation", "columns": np.arange(2)},
        "desired": {"key": "desired_goal", "columns": range(2)},
    }
    environment = {"id": "PointMaze_UMaze-v3", "kwargs": {"max_episode_steps": np.int64(9)}}
    loaded = og.load_dataset(
        EXPLORATION,
        goal=goal,
        environment=environment,
        episodes=np.int64(2),  # type: ignore[arg-type]
    )
    assert loaded.recipe.goal.success.tolerance == 0.5
    assert loaded.recipe.goal.achieved[0].columns == (0, 1)
    assert loaded.recipe.evaluation is not None
    assert loaded.recipe.evaluation.environment.kwargs == {"max_episode_steps": 9}
    settings: dict[str, Any] = {
        "updates": np.int64(3),
        "seed": np.int32(1),
        "hidden": np.array([8]),
    }
    trained = og.train(
        data, agent="gciql", alpha=np.float32(3), relabel={"k": np.int8(3)}, **settings
    )
    assert trained.training["seed"] == 1
    numbers: dict[str, Any] = {"episodes": np.int64(1), "seed": np.int64(2), "workers": np.int64(1)}
    table = og.evaluation_episodes(trained, discount=np.float64(0.5), **numbers)
    assert table.equals(og.evaluation_episodes(trained, 1, seed=2, discount=0.5))


def test_policies_of_one_evaluation_differ_in_their_training_seed_only(
    policy: og.TrainedPolicy, tmp_path: Path
) -> None:
    def changed(**facts: Any) -> og.TrainedPolicy:
        return replace(policy, training={**policy.training, "seed": 1, **facts})

    settings = policy.settings.model_copy(update={"alpha": 7.5})
    for other, message in [
        (policy, "0 and 1 have the same training seed, 0, which would count twice"),
        (
            changed(dataset="other"),
            r"0 and 1 differ in dataset \(small, other\); evaluate each agent on its",
        ),
        (changed(updates=59), r"differ in updates \(60, 59\)"),
        (changed(batch_size=7), r"differ in batch_size \(.*, 7\)"),
        (changed(transitions=7), r"differ in transitions \(.*, 7\)"),
        (replace(changed(), dataset=None), r"recipes of the data of the policies 0 and 1 differ"),
        (
            replace(changed(), algorithm="bc", settings=settings),
            r"differ in algorithm \(gciql, bc\)",
        ),
        (replace(changed(), settings=settings), r"differ in alpha \(.*, 7.5\)"),
    ]:
        with pytest.raises(og.OfflineGCRLError, match=message):
            og.evaluate([policy, other], episodes=1)
    saved = policy.save(tmp_path)
    with pytest.raises(og.OfflineGCRLError, match="the same training seed"):
        og.evaluate([saved, saved.parent], episodes=1)
    assert og.evaluation_episodes([saved, saved.parent], 1)["policy"].to_list() == [0, 1]


def test_data_and_policies_are_shown_as_one_line(
    data: og.LearningData, policy: og.TrainedPolicy
) -> None:
    assert re.fullmatch(
        r"LearningData\(small: \d+ episodes, [\d,]+ transitions, tasks: .*\)", repr(data)
    )
    facts = "dataset: small, agent: gciql, seed: 0, updates: 60"
    assert repr(policy) == f"TrainedPolicy(gciql; {facts})"


def test_a_policy_acts_in_its_environment(policy: og.TrainedPolicy) -> None:
    environment = policy.make_env(max_episode_steps=2)
    observation, _ = environment.reset(seed=0)
    action = policy.act(observation)
    assert environment.action_space.contains(action)
    state, goal = observation["observation"], observation["desired_goal"]
    assert np.array_equal(action, policy.act(state, goal))
    assert np.array_equal(policy.act(observation, goal + 1.0), policy.act(state, goal + 1.0))
    assert policy.value(observation) == policy.value(state, goal)
    batch = {key: np.stack([values] * 3) for key, values in observation.items()}
    assert policy.act(batch).shape == (3, 2)
    assert policy.act({key: values[:1] for key, values in batch.items()}).shape == (1, 2)
    environment.step(action)
    assert environment.step(action)[3]  # The limit of two steps was passed on.


def test_a_saved_policy_is_loaded_with_its_recipe(policy: og.TrainedPolicy, tmp_path: Path) -> None:
    file = policy.save(tmp_path / "policy")
    loaded = og.load_policy(tmp_path / "policy")
    assert loaded.dataset == policy.dataset
    assert loaded.curve.equals(policy.curve)
    assert og.evaluation_episodes(loaded, 1).equals(og.evaluation_episodes(policy, 1))
    (tmp_path / "policy/dataset.json").unlink()
    plain = og.load_policy(file)
    observation, _ = policy.make_env().reset(seed=0)
    assert np.array_equal(plain.act(observation), policy.act(observation))
    with pytest.raises(og.OfflineGCRLError, match=r"the recipe of this policy is not known"):
        plain.make_env()


def test_a_loaded_policy_does_not_depend_on_what_becomes_of_its_file(
    policy: og.TrainedPolicy, tmp_path: Path
) -> None:
    file = policy.save(tmp_path / "first")
    loaded = og.load_policy(file)
    for path in file.parent.iterdir():
        path.write_bytes(b"another policy")
    again = og.load_policy(loaded.save(tmp_path / "second"))
    shutil.rmtree(file.parent)
    for same in (loaded, again, copy.deepcopy(loaded)):
        assert same.curve.equals(policy.curve)
        assert og.evaluation_episodes(same, 1).equals(og.evaluation_episodes(policy, 1))
    assert again.content == policy.content


def test_nothing_is_left_of_a_policy_in_whose_folder_another_is_saved(
    policy: og.TrainedPolicy, tmp_path: Path
) -> None:
    policy.save(tmp_path)
    file = replace(policy, dataset=None, curve_text=None).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.pt"]
    other = policy.dataset.model_copy(update={"name": "other"})  # type: ignore[union-attr]
    (tmp_path / "dataset.json").write_text(other.as_json())
    with pytest.raises(og.OfflineGCRLError, match="dataset 'other', .* was trained on 'small'"):
        og.load_policy(file)


def test_a_policy_is_not_saved_in_place_of_a_file(policy: og.TrainedPolicy, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/within"):
        with pytest.raises(
            og.OfflineGCRLError, match="file.*: is a file, and a folder is expected"
        ):
            policy.save(folder)


def test_a_policy_of_a_project_has_the_recipe_that_the_project_resolved(
    policy: og.TrainedPolicy, tmp_path: Path
) -> None:
    assert policy.dataset is not None
    file = policy.save(tmp_path / "models/small/gciql/seed-0")
    resolved = tmp_path / "datasets/resolved"
    resolved.mkdir(parents=True)
    (file.parent / "dataset.json").rename(resolved / "small.json")
    assert og.load_policy(file).dataset == policy.dataset


def test_a_minari_dataset_is_loaded_with_the_environment_that_it_names(
    dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(dataset.minari))
    by_id = og.load_dataset(EXPLORATION, goal=GOAL)
    loaded = minari.load_dataset(EXPLORATION)
    itself = og.load_dataset(loaded, goal=GOAL)
    for name in ("steps.parquet", "episodes.parquet"):
        assert (by_id.episodes / name).read_bytes() == (itself.episodes / name).read_bytes()
    assert by_id.counts["transitions"] == loaded.total_steps
    assert by_id.recipe.evaluation is not None
    assert by_id.recipe.evaluation.environment.kwargs["max_episode_steps"] == 300
    assert og.load_dataset(loaded, goal=GOAL, episodes=2).counts["episodes"] == 2
    with pytest.raises(og.OfflineGCRLError, match=r"is a selection of its episodes"):
        og.load_dataset(loaded.filter_episodes(lambda episode: episode.id < 2), goal=GOAL)
    with pytest.raises(og.OfflineGCRLError, match=r"goal: is missing, and no recipe describes"):
        og.load_dataset(loaded)
    with pytest.raises(og.OfflineGCRLError, match=r"load_dataset\(\): goal: expected keys and"):
        og.load_dataset(loaded, goal="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["__file__", "__spec__"])  # As in notebooks.
def test_the_main_module_is_as_before_once_workers_have_started(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = vars(sys.modules["__main__"])
    for name in ("__file__", "__spec__"):
        monkeypatch.setitem(main, name, "a module")
    monkeypatch.delitem(main, missing)
    before = dict(main)
    with without_main_module():
        assert main["__file__"] is None
        assert main["__spec__"] is None
    assert main == before


def test_a_folder_of_episodes_is_complete_without_its_project(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = shutil.copytree(
        dataset.parquet, tmp_path / "my-data-v2"
    )  # Like the id of a Minari dataset.
    monkeypatch.chdir(tmp_path)
    assert og.load_dataset("my-data-v2").episodes == dated
    copied = shutil.copytree(dataset.parquet, tmp_path / "copied")
    assert og.load_dataset(copied).dataset == dataset.resolved
    (copied / "dataset.json").unlink()
    with pytest.raises(og.OfflineGCRLError, match="copied: has no dataset.json; name a complete"):
        og.load_dataset(copied)


def test_data_without_environment_is_trained_on_and_not_evaluated(tmp_path: Path) -> None:
    sizes = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
    write_minari("own/data-v0", tmp_path, episode_buffers(sizes), space_of(sizes))
    data = og.load_dataset(minari.MinariDataset(tmp_path / "own/data-v0/data"), goal=GOAL)
    policy = og.train(data, agent="bc", updates=3, hidden=[8], actor_goals={"future": 1.0})
    assert policy.act(np.zeros(4), np.zeros(2)).shape == (2,)
    with pytest.raises(og.OfflineGCRLError, match=r"names no environment; pass 'environment'"):
        og.evaluate(policy)
    with pytest.raises(og.OfflineGCRLError, match=r"PointMaze_UMaze-v3"):
        og.load_dataset(
            minari.MinariDataset(tmp_path / "own/data-v0/data"),
            goal={**GOAL, "observation": {"key": "observation", "columns": [0, 1, 2, 4]}},
            environment="PointMaze_UMaze-v3",
        )


def test_data_without_goals_is_evaluated_on_those_of_a_given_environment(tmp_path: Path) -> None:
    sizes = {"observation": 4, "achieved_goal": 2}
    write_minari("own/data-v0", tmp_path, episode_buffers(sizes), space_of(sizes))
    data = minari.MinariDataset(tmp_path / "own/data-v0/data")
    goal, maze = {**GOAL, "desired": None}, "PointMaze_UMaze-v3"
    settings: dict[str, Any] = {"updates": 3, "hidden": [8], "actor_goals": {"future": 1.0}}
    policy = og.train(og.load_dataset(data, goal=goal, environment=maze), agent="bc", **settings)
    alone = og.train(og.load_dataset(data, goal=goal), agent="bc", **settings)
    found = [og.evaluate(policy, episodes=2), og.evaluate(alone, episodes=2, environment=maze)]
    assert found[0].equals(found[1])
    with pytest.raises(og.OfflineGCRLError, match="no environment 'Nonsense-v9'"):
        og.load_dataset(data, goal=goal, environment="Nonsense-v9")


def test_what_is_no_source_and_no_policy_ends_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(og.OfflineGCRLError, match="source: expected a name, a path or .* not dict"):
        og.load_dataset({})  # type: ignore[arg-type]
    with pytest.raises(og.OfflineGCRLError, match=r"evaluate\(\): policy: expected a .* not 5"):
        og.evaluate(5)  # type: ignore[arg-type]
    for name, message in (("my arm.yaml", "its name is not made of"), ("a.yml", "end with .yaml")):
        (tmp_path / name).touch()
        with pytest.raises(og.OfflineGCRLError, match=message):
            og.load_dataset(tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agent": "gciqll"}, r"train\(\): agent: no algorithm 'gciqll'; did you mean 'gciql'"),
        ({"expectil": 0.7}, r"train\(\): expectil: unknown setting; did you mean 'expectile'"),
        ({"expectile": 2.0}, r"train\(\): expectile: .*, not 2.0"),
        ({"updates": 0}, r"train\(\): updates: .*, not 0"),
        ({"seed": -1}, r"train\(\): seeds.0: .*, not -1"),
        ({"relabel": 3}, r"train\(\): relabel: expected keys and values"),
        ({"relabel": "x"}, r"train\(\): relabel: expected keys and values"),
        (
            {"hidden": [3_000_000, 3_000_000]},
            r"train\(\): there is not enough memory: .* more were needed",
        ),
        ({"relabel": {"kk": 1}}, r"train\(\): relabel.kk: unknown key"),
        (
            {"relabel": {"strategies": ["final"]}},
            r"train\(\): value_goals: .* is not in relabel.strategies; add it there",
        ),
        (
            {"task_network": "heads"},
            r"train\(\): task_network: 'heads' needs several tasks, and 'small' has one; set 'concatenate', or",
        ),
    ],
)
def test_a_wrong_setting_ends_with_a_sentence(
    data: og.LearningData, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(og.OfflineGCRLError, match=message):
        og.train(data, **{"updates": 10, **arguments})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("pointmaze-umazee", r"did you mean 'pointmaze-umaze'"),
        ("tests", r"tests: has no schema.json"),
        ("missing.yaml", r"load_dataset\(\): missing.yaml: no such file; recipes of this"),
        ("", r"load_dataset\(\): source: is empty; name a recipe"),
    ],
)
def test_an_unknown_source_ends_with_a_sentence(source: str, message: str) -> None:
    with pytest.raises(og.OfflineGCRLError, match=message):
        og.load_dataset(source)


def test_a_wrong_number_of_episodes_is_named(dataset: SmallDataset) -> None:
    with pytest.raises(og.OfflineGCRLError, match=r"episodes: expected a positive .*, not 0"):
        og.load_dataset("pointmaze-umaze", episodes=0)
    with pytest.raises(
        og.OfflineGCRLError, match=r"folder of ingested episodes is used completely"
    ):
        og.load_dataset(dataset.parquet, episodes=2)


def test_what_does_not_fit_a_policy_is_named(policy: og.TrainedPolicy) -> None:
    for call, message in [
        (lambda: policy.act(np.zeros(4)), r"the goal is missing"),
        (lambda: policy.act({"state": np.zeros(4)}), r"no observation key 'observation'"),
        (lambda: policy.act({"observation": np.zeros(3), "desired_goal": np.zeros(2)}), r"shape"),
        (lambda: og.evaluate(policy, episodes=0), r"evaluate\(\): episodes: .*, not 0\Z"),
        (lambda: og.evaluate(policy, workers=0), r"evaluate\(\): workers"),
        (lambda: og.evaluate(policy, 2, environment="FetchReach-v4"), r"FetchReach-v4"),
        (lambda: og.evaluate(policy, episode=3), r"unknown setting 'episode'"),
        (lambda: og.evaluate([]), r"at least one policy"),
    ]:
        with pytest.raises(og.OfflineGCRLError, match=message):
            call()


EXPORTED: list[Variant] = [
    *((algorithm, {}) for algorithm in algorithm_names()),
    ("bc", DUAL),
    ("bc", {"task_network": "heads"}),
    ("bc", {"task_network": "distral"}),
    ("bc", {"task_network": "modular", "conditioning": "goal+one_hot"}),
    ("bc", {"task_network": "film", "conditioning": "goal+embedding"}),
]


def fast_exports() -> list[Variant]:
    """The first variant of each kind of actor: the same layers give the same graph."""
    kinds = {str(make_agent(*variant).actor): variant for variant in reversed(EXPORTED)}
    return list(kinds.values())


@pytest.fixture
def saved(variant: Variant, tmp_path: Path) -> og.TrainedPolicy:
    """A policy with the initial weights of a variant."""
    (algorithm, _), file = variant, tmp_path / "saved.pt"
    agent, settings, tasks = make_agent(*variant), make_settings(*variant), ("a", "b", "c", "d")
    save_policy(file, agent, algorithm, settings, SCALING, DIMENSIONS, tasks, {"updates": 1})
    return og.load_policy(file)


def differences(policy: og.TrainedPolicy, run: Callable[..., Any]) -> Any:
    """Of the actions of an exported policy and of ``act``, for states that include some beyond the clip."""
    random = np.random.default_rng(0)
    states, goals = (9.0 * random.normal(size=(5, size)).astype(np.float32) for size in (5, 2))
    task = {"task": np.full(5, 2)} if policy.needs_task else {}
    expected = policy.act(states, goals, "c" if task else None)
    return np.abs(run(observation=states, goal=goals, **task) - expected)


@pytest.mark.parametrize("variant", slow_unless(fast_exports(), EXPORTED))
def test_an_exported_policy_acts_as_the_policy(
    saved: og.TrainedPolicy, traced_once: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    exported = torch.export.load(saved.export(tmp_path / "policy.pt2")).module()
    assert not any(weights.requires_grad for weights in exported.parameters())

    def run(**inputs: Any) -> Any:
        return exported(**{name: torch.from_numpy(array) for name, array in inputs.items()})

    assert differences(saved, lambda **inputs: run(**inputs).numpy()).max() <= 1e-5
    request.getfixturevalue("onnx_extra")
    import onnxruntime

    session = onnxruntime.InferenceSession(saved.export(tmp_path / "policy.onnx"))
    assert differences(saved, lambda **inputs: session.run(["action"], inputs)[0]).max() <= 1e-5
    names = ["observation", "goal", *(["task"] if saved.needs_task else [])]
    assert [given.name for given in session.get_inputs()] == names
    assert {given.shape[0] for given in session.get_inputs()} == {"batch"}
    assert str(ROOT).encode() not in (tmp_path / "policy.onnx").read_bytes()


@pytest.fixture
def traced_once(saved: og.TrainedPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both formats are written from one traced graph: tracing takes half of the time of an export."""
    program = exporting._exported(saved)
    monkeypatch.setattr(exporting, "_exported", lambda policy: program)


SHAPE = (16, 16, 3)
SEEING: list[dict[str, Any]] = [
    {"observation": "image+state", "fusion": "separate"},
    {"encoder": "impala_small"},
    {"fusion": "shared", "goal": "black"},
    {"goal": "vector"},
    {"observation": "state"},
]


@pytest.mark.parametrize("images", slow_unless(SEEING[:1], SEEING), ids=str)
def test_a_policy_that_sees_is_exported_with_images_of_bytes_as_inputs(
    onnx_extra: None, images: dict[str, Any], tmp_path: Path
) -> None:
    import onnxruntime

    policy = seeing_policy(images, tmp_path / "saved.pt")
    random = np.random.default_rng(1)
    pictures = random.integers(0, 256, (2, 3, *SHAPE), dtype=np.uint8)
    states, goals = (random.normal(size=(3, size)).astype(np.float32) for size in (5, 2))
    reads = Vision(**images)
    inputs = {
        "observation": pictures[0] if reads.sees_states else states,
        "goal": pictures[1] if reads.sees_goals else goals,
    }
    observations: Any = inputs["observation"]
    if reads.observation == "image+state":
        observations, inputs["state"] = {"image": pictures[0], "state": states}, states
    expected = policy.act(observations, inputs["goal"])
    assert np.ptp(expected, axis=0).min() > 1e-3
    session = onnxruntime.InferenceSession(policy.export(tmp_path / "policy.onnx"))
    assert np.abs(session.run(["action"], inputs)[0] - expected).max() <= 1e-5


def test_a_policy_that_sees_says_how_an_environment_is_shown_to_it(tmp_path: Path) -> None:
    policy = seeing_policy({}, tmp_path / "saved.pt")
    with pytest.raises(
        og.OfflineGCRLError, match=r"goal is missing; .* policy.eyes\(environment\)"
    ):
        policy.act({"observation": np.zeros(5), "desired_goal": np.zeros(2)})


def seeing_policy(images: dict[str, Any], file: Path) -> og.TrainedPolicy:
    """A behaviour cloning policy with its initial weights that reads small images, whose actions depend on them."""
    reads, pixels = Vision(**images), math.prod(SHAPE)
    sizes = Dimensions(
        observation=pixels * reads.sees_states + 5 * (reads.observation != "image"),
        goal=pixels if reads.sees_goals else 2,
        action=3,
        tasks=1,
        image=SHAPE,
    )
    settings = make_settings("bc", {"images": images})
    torch.manual_seed(0)
    agent = agent_of(settings, sizes)
    layers = [layer for layer in agent.actor.modules() if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        layers[-1].weight.div_(LAST_GAIN)
    save_policy(file, agent, "bc", settings, SCALING, sizes, ("a",), {"updates": 1})
    return og.load_policy(file)


@pytest.fixture(scope="module")
def onnx_extra() -> Iterator[None]:
    """Skip a test where the extra is not installed; torch's table of operations, which takes a second, is made once."""
    for name in PACKAGES:
        pytest.importorskip(name, reason="needs the extra 'export'")
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        made_once = staticmethod(cache(ONNXRegistry.from_torchlib))
        patch.setattr(ONNXRegistry, "from_torchlib", made_once)
        yield


def test_a_missing_package_of_the_extra_is_named(
    policy: og.TrainedPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "PACKAGES", ("onnx_that_is_missing",))
    with pytest.raises(og.OfflineGCRLError, match=r"onnx_that_is_missing; install the extra: pip"):
        policy.export(tmp_path / "policy.onnx")


def test_a_small_batch_in_a_padded_suite_is_no_single_step(tmp_path: Path) -> None:
    """Two steps of 2 numbers each have less than the 5 that the policy reads."""
    file = tmp_path / "saved.pt"
    agent, settings = make_agent("bc", {}), make_settings("bc", {})
    save_policy(file, agent, "bc", settings, SCALING, DIMENSIONS, ("a",), {"updates": 1})
    policy = with_dataset(file, as_dataset(small_recipe(), pad=True))
    random = np.random.default_rng(0)
    batch = {"observation": random.normal(size=(2, 2)), "desired_goal": random.normal(size=(2, 2))}
    steps = [{key: values[row] for key, values in batch.items()} for row in range(2)]
    expected = np.stack([policy.act(step) for step in steps])
    np.testing.assert_allclose(policy.act(batch), expected, atol=1e-6)
    assert policy.act(batch, np.zeros(2)).shape == (2, 3)


def test_an_export_that_cannot_be_written_ends_with_a_sentence(
    policy: og.TrainedPolicy, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyError, match="file"):
        policy.export(tmp_path / "file/policy.pt2")


def test_an_export_that_differs_is_not_written(
    policy: og.TrainedPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(og.OfflineGCRLError, match=r"export writes .pt2 and .onnx files"):
        policy.export(tmp_path / "policy.tflite")
    monkeypatch.setattr(og.Policy, "act", lambda *arguments: np.ones(2, np.float32))
    with pytest.raises(og.OfflineGCRLError, match=r"differs from the policy by"):
        policy.export(tmp_path / "policy.pt2")
    assert list(tmp_path.iterdir()) == []


def readme_example() -> str:
    """The code under the heading "As a library" of the README."""
    section = (ROOT / "README.md").read_text().split("## As a library")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def smaller(program: str) -> str:
    """The program with less data, fewer updates and fewer episodes."""
    for pattern, small in (
        (r'load_dataset\("([a-z-]+)"\)', r'load_dataset("\1", episodes=2)'),
        (r"updates=[\d_]+", "updates=4, batch_size=8"),
        (r"episodes=\d{3}", "episodes=2"),
    ):
        program, count = re.subn(pattern, small, program)
        assert count == 1, pattern
    return program


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, without the rest of the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    zipfile.ZipFile(built).extractall(folder / "installed")
    return folder / "installed"


def test_the_example_of_the_readme_runs_from_a_wheel_in_an_empty_folder(
    wheel: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    check = f"assert og.__file__.startswith({str(wheel)!r}), og.__file__\n"
    program.write_text(smaller(readme_example()) + check)
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    result = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "success_rate" in result.stdout
    assert "Warning" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"program.py", "policy"}


def test_all_recipes_are_in_the_wheel(wheel: Path) -> None:
    assert recipe_names(wheel / "offline_gcrl/recipes") == recipe_names(RECIPES)
    assert packaged_recipes() == RECIPES
