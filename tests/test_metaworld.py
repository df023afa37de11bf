"""Meta-World: episodes depend on the reset seed alone, its scripted policies succeed, MT10 is a suite of ten."""

import json
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import polars as pl
import pytest
from conftest import RECIPES, as_dataset
from numpy.typing import NDArray
from project import Project

from offline_gcrl.collect.collector import (
    EpisodeJob,
    check_sources,
    collect_episode,
    collect_source,
)
from offline_gcrl.collect.metaworld import MetaWorldDemonstrator
from offline_gcrl.collect.policies import make_policy
from offline_gcrl.config import Collect, Dataset, Environment, Recipe, load_recipe, resolve
from offline_gcrl.environments.cameras import prepare, shows_goal
from offline_gcrl.environments.making import can_render, check_environments, make_environment
from offline_gcrl.environments.tasks import check_tasks
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.support.errors import SettingsError

ID = "offline_gcrl.environments.metaworld:offline-gcrl/MetaWorld-v0"
TASKS = {
    "metaworld-reach": "reach-v3",
    "metaworld-push": "push-v3",
    "metaworld-pick-place": "pick-place-v3",
    "metaworld-door-open": "door-open-v3",
    "metaworld-drawer-open": "drawer-open-v3",
    "metaworld-drawer-close": "drawer-close-v3",
    "metaworld-button-press-topdown": "button-press-topdown-v3",
    "metaworld-peg-insert-side": "peg-insert-side-v3",
    "metaworld-window-open": "window-open-v3",
    "metaworld-window-close": "window-close-v3",
}
"""The tasks in the order of MT10; the index of a task is its number."""

needs_metaworld = pytest.mark.skipif(
    find_spec("metaworld") is None, reason="the extra 'metaworld' is not installed"
)


def settings(task: str, steps: int = 200) -> Environment:
    return Environment(id=ID, kwargs={"task": task, "max_episode_steps": steps})


@pytest.fixture(scope="module")
def suite() -> Dataset:
    return resolve("metaworld-mt10", folder=RECIPES)


def test_mt10_is_a_suite_of_ten_tasks_in_its_own_order(suite: Dataset) -> None:
    assert suite.tasks == tuple(TASKS)
    for recipe in suite.recipes:
        assert recipe.environment is not None
        assert recipe.environment.kwargs["task"] == TASKS[recipe.task]
        assert recipe.instruction.endswith(".")
        assert recipe.sources[0].kind == "demonstration"
    assert len({recipe.instruction for recipe in suite.recipes}) == 10
    seeds = [
        source.collect.seed
        for recipe in suite.recipes
        for source in recipe.sources
        if source.collect
    ]
    assert sorted(seeds) == list(range(10))  # fmt: skip


def test_the_environment_decides_success_at_any_of_500_steps(suite: Dataset) -> None:
    assert suite.criterion == "any_step"
    for recipe in suite.recipes:
        assert recipe.evaluation is not None
        assert recipe.evaluation.success == "environment"
        assert recipe.evaluation.environment.kwargs["max_episode_steps"] == 500


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "metaworld"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(
        SettingsError,
        match="needs the package 'metaworld.*', which is not installed; `make extras`",
    ):
        make_environment(settings("reach-v3"))


@needs_metaworld
def test_a_task_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="no task 'reech-v3'; did you mean 'reach-v3'"):
        make_environment(settings("reech-v3"))


@needs_metaworld
def test_its_demonstrator_needs_one_of_its_tasks() -> None:
    recipe = load_recipe("fetch-reach", RECIPES)
    source = recipe.sources[0].model_copy(update={"collect": Collect(policy="metaworld_scripted")})
    with pytest.raises(
        SettingsError, match="here: sources.0.collect: .*needs a task of Meta-World"
    ):
        check_sources(recipe.model_copy(update={"sources": (source,)}), "here")


def trajectory(
    environment: gymnasium.Env[Any, Any], seed: int | None, steps: int = 8
) -> NDArray[np.float64]:
    """The observations after a reset and some actions, and the rewards."""
    random = np.random.default_rng(0)
    seen = [np.append(environment.reset(seed=seed)[0], 0.0)]
    for _ in range(steps):
        observation, reward, *_ = environment.step(random.uniform(-1, 1, 4).astype(np.float32))
        seen.append(np.append(observation, reward))
    return np.stack(seen)


@needs_metaworld
@pytest.mark.parametrize("task", TASKS.values())
def test_an_episode_depends_on_its_seed_alone(task: str) -> None:
    """It does not depend on earlier episodes, on other environments in the process, or on NumPy's global generator."""
    environment = make_environment(settings(task))
    first = trajectory(environment, seed=5)
    np.random.seed(1)
    other = trajectory(environment, seed=6, steps=20)
    np.testing.assert_array_equal(trajectory(environment, seed=5), first)
    np.testing.assert_array_equal(trajectory(make_environment(settings(task)), seed=5), first)
    assert not np.array_equal(first[0], other[0])


@needs_metaworld
def test_without_a_seed_each_reset_continues_the_generator() -> None:
    environment = make_environment(settings("push-v3"))
    runs = []
    for _ in range(2):
        environment.reset(seed=3)
        runs.append([environment.reset()[0][36:] for _ in range(3)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert len(np.unique(runs[0], axis=0)) == 3


@needs_metaworld
@pytest.mark.parametrize("task", ["drawer-open-v3", "window-open-v3", "window-close-v3"])
def test_the_first_observation_has_the_present_positions_of_objects(task: str) -> None:
    """The package's own environment shows the positions before the draw until the first step."""
    environment = make_environment(settings(task))
    for seed in range(3):
        before, _ = environment.reset(seed=seed)
        after, *_ = environment.step(np.zeros(4, dtype=np.float32))
        np.testing.assert_allclose(before[4:7], after[4:7], atol=2e-3)
        np.testing.assert_array_equal(before[36:], after[36:])
        np.testing.assert_array_equal(before[:18], before[18:36])
        assert environment.observation_space.contains(before)


@needs_metaworld
def test_an_episode_has_max_episode_steps() -> None:
    environment = make_environment(settings("reach-v3", steps=3))
    environment.reset(seed=0)
    ends = [environment.step(np.zeros(4, dtype=np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


@needs_metaworld
def test_minari_recreates_the_environment_from_its_data(tmp_path: Path) -> None:
    recipe = short(load_recipe("metaworld-drawer-open", RECIPES), 20)
    data = collect_source(recipe, recipe.sources[0], tmp_path, workers=1)
    environment = data.recover_environment()
    assert data.observation_space == environment.observation_space
    for episode, facts in zip(
        data, data.storage.get_episode_metadata(range(len(data))), strict=True
    ):
        observation, _ = environment.reset(seed=facts["seed"])
        seen = [observation, *(environment.step(action)[0] for action in episode.actions)]
        np.testing.assert_array_equal(np.stack(seen), episode.observations)
    assert pickle.loads(pickle.dumps(environment.unwrapped)).task == "drawer-open-v3"


def short(recipe: Recipe, steps: int, episodes: int = 2) -> Recipe:
    """The recipe with a few short episodes."""
    assert recipe.environment is not None
    kwargs = {**recipe.environment.kwargs, "max_episode_steps": steps}
    source = recipe.sources[0].model_copy(update={"episodes": episodes, "share": None})
    return recipe.model_copy(
        update={
            "environment": recipe.environment.model_copy(update={"kwargs": kwargs}),
            "sources": (source,),
        }
    )


@needs_metaworld
@pytest.mark.parametrize("task", TASKS.values())
def test_its_demonstrator_does_not_modify_observations(task: str) -> None:
    environment = make_environment(settings(task))
    observation, info = environment.reset(seed=5)
    shown = observation.copy()
    collect = Collect(policy="metaworld_scripted")
    make_policy(collect, environment, np.random.default_rng(0)).act(observation, info)
    np.testing.assert_array_equal(observation, shown)


@needs_metaworld
@pytest.mark.parametrize("name", TASKS)
def test_its_demonstrator_succeeds(name: str) -> None:
    recipe = load_recipe(name, RECIPES)
    assert recipe.environment is not None
    collect = recipe.sources[0].collect
    assert collect is not None
    episode = collect_episode(EpisodeJob(recipe.environment, collect, recipe.goal.desired, 0))
    assert len(episode.rewards) == 200
    assert np.any(episode.infos["success"])
    assert np.abs(episode.actions).max() <= 1.0
    np.testing.assert_array_equal(np.ptp(episode.infos["goal"], axis=0) < 1e-2, True)


@needs_metaworld
def test_a_demonstrator_can_aim_above_the_goal() -> None:
    environment = make_environment(settings("reach-v3"))
    observation, _ = environment.reset(seed=0)
    shown, random = observation.copy(), np.random.default_rng(0)
    usual, higher = (
        MetaWorldDemonstrator(environment, random, aim_above=above).act(observation, {})
        for above in (0.0, 0.04)
    )
    assert higher[2] > usual[2]
    np.testing.assert_array_equal(higher[[0, 1, 3]], usual[[0, 1, 3]])
    np.testing.assert_array_equal(observation, shown)


@needs_metaworld
def test_the_goal_is_not_part_of_the_observation_of_agents(tmp_path: Path) -> None:
    recipes = [short(load_recipe(name, RECIPES), 5) for name in ("metaworld-reach", "metaworld-window-open")]  # fmt: skip
    for name in ("minari", "parquet"):
        (tmp_path / name).mkdir()
    for recipe in recipes:
        collect_source(recipe, recipe.sources[0], tmp_path / "minari", workers=1)
    ingest(as_dataset(*recipes), tmp_path / "minari", tmp_path / "parquet")
    episodes = open_episodes(tmp_path / "parquet")
    assert episodes.schema["sizes"] == {"observation": 36, "achieved_goal": 3, "desired_goal": 3, "action": 4}  # fmt: skip
    reach = episodes.per_row("task") == "metaworld-reach"
    assert episodes.desired_goal is not None
    np.testing.assert_array_equal(episodes.achieved_goal[reach], episodes.observation[reach, :3])
    np.testing.assert_array_equal(episodes.achieved_goal[~reach], episodes.observation[~reach, 4:7])
    # The window slides along x: its goal has y and z of the handle.
    np.testing.assert_array_equal(
        episodes.desired_goal[~reach, 1:], episodes.achieved_goal[~reach, 1:]
    )


@needs_metaworld
@pytest.mark.skipif(not can_render(), reason="no GL library")
def test_a_picture_is_the_right_way_up() -> None:
    environment = make_environment(
        settings("drawer-open-v3"), render_mode="rgb_array", width=96, height=96
    )
    environment.reset(seed=0)
    assert shows_goal(environment)  # as a ball, so that films need not state it
    prepare(environment)
    picture: Any = environment.render()
    environment.close()
    assert picture.shape == (96, 96, 3)
    red = (picture[..., 0] > 1.5 * picture[..., 1]) & (picture[..., 0] > 80)  # the arm
    rows = np.argwhere(red)[:, 0]
    wood = (picture[..., 0] > picture[..., 2] + 25) & ~red  # the table
    assert rows.min() < 20
    assert np.argwhere(wood)[:, 0].mean() > 55


@needs_metaworld
@pytest.mark.slow
def test_one_policy_fits_all_ten_tasks(suite: Dataset) -> None:
    for recipe in suite.recipes:
        check_environments(recipe, recipe.task)
        check_sources(recipe, recipe.task)
    check_tasks(suite, "metaworld-mt10.yaml")


@needs_metaworld
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_multi_task_cloning_of_mt10_runs_through_dvc(tmp_path: Path) -> None:
    agent = {
        "algorithm": "bc",
        "hidden": [64],
        "learning_rate": 1e-3,
        "conditioning": "goal+one_hot",
    }
    params = {
        "experiment": {"name": "mt", "datasets": ["metaworld-mt10"], "agents": ["mt"], "seeds": [0]},
        "collect": {"episodes": 2},
        "train": {"updates": 200, "batch_size": 64, "snapshots": 1},
        "evaluate": {"episodes": 20, "curve_episodes": 10, "video": {"episodes": 2, "size": 64}},
        "agents": {"mt": agent},
    }  # fmt: skip
    project = Project.cloned(tmp_path / "repo", params)
    project.repro()
    results = project.folder / "results/metaworld-mt10/mt/seed-0"
    evaluated = pl.read_parquet(results / "episodes.parquet")
    assert evaluated["task"].value_counts()["count"].to_list() == [2] * 10
    assert evaluated["length"].unique().to_list() == [500]
    (run,) = [run for run in project.runs() if run.data.tags.get("policy")]
    tasks = {name for name in run.data.metrics if name.startswith("success_any_rate/")}
    assert tasks == {f"success_any_rate/{task}" for task in TASKS}
    assert json.loads((project.folder / "reports/metrics.json").read_text())["metaworld-mt10"]
