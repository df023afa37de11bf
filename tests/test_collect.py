"""Collecting is reproducible and follows the published schema, and demonstrators reach their goals."""

import errno
import shutil
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from conftest import SmallDataset, small_recipe
from gymnasium import spaces

import offline_gcrl as og
from offline_gcrl.cards.replay import replay_source
from offline_gcrl.collect.collector import _run_episode, collect_source
from offline_gcrl.collect.explorers import HeldDirectionExplorer
from offline_gcrl.collect.published import fetch_published
from offline_gcrl.collect.room import RESERVE
from offline_gcrl.config import Collect, Environment, Evaluation, Part
from offline_gcrl.environments import making
from offline_gcrl.environments.actions import OrderedActions
from offline_gcrl.environments.making import (
    check_environments,
    make_environment,
    shared_environment,
)
from offline_gcrl.support.errors import REMEDIES, DataError, SettingsError, message_of


def opened(root: Path, dataset: str) -> minari.MinariDataset:
    return minari.MinariDataset(root / dataset / "data")


def test_any_number_of_workers_collects_the_same_data(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    source = dataset.recipe.sources[0]
    collect_source(dataset.recipe, source, tmp_path, workers=3)
    ours, theirs = opened(tmp_path, source.dataset), opened(dataset.minari, source.dataset)
    for mine, other in zip(ours.iterate_episodes(), theirs.iterate_episodes(), strict=True):
        np.testing.assert_array_equal(mine.actions, other.actions)
        np.testing.assert_array_equal(
            mine.observations["observation"], other.observations["observation"]
        )


@pytest.mark.parametrize("damaged", [False, True])
def test_a_stopped_collection_continues_after_the_episodes_that_it_kept(
    damaged: bool, dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("offline_gcrl.collect.kept.SECONDS", 0.0)
    source, folder = dataset.recipe.sources[0], tmp_path / "kept"

    def stop_after_four(steps: int) -> None:
        if len(list(folder.iterdir())) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect_source(dataset.recipe, source, tmp_path / "a", 1, stop_after_four, folder)
    groups = sorted(folder.iterdir())
    if damaged:
        groups[2].write_bytes(groups[2].read_bytes()[:-1] + b"?")
    written = [group.stat().st_mtime_ns for group in groups]
    collect_source(dataset.recipe, source, tmp_path / "b", 1, kept=folder)
    equal = 2 if damaged else 4
    assert f"{equal} episodes are kept" in capsys.readouterr().out
    again = [group.stat().st_mtime_ns for group in groups]
    assert [a == b for a, b in zip(again, written, strict=True)] == [n < equal for n in range(4)]
    data = f"{source.dataset}/data/main_data.hdf5"
    assert (tmp_path / "b" / data).read_bytes() == (dataset.minari / data).read_bytes()


def test_episodes_differ_from_each_other(dataset: SmallDataset) -> None:
    data = opened(dataset.minari, dataset.recipe.sources[0].dataset)
    starts = {tuple(episode.observations["observation"][0]) for episode in data}
    assert len(starts) == len(data)


def test_collected_data_has_the_schema_of_published_data(dataset: SmallDataset) -> None:
    data = opened(dataset.minari, dataset.recipe.sources[0].dataset)
    episode = data[0]
    assert set(episode.observations) == {"observation", "achieved_goal", "desired_goal"}
    assert set(episode.infos) == {"success", "qpos", "qvel", "goal"}
    assert len(episode.actions) == len(episode.rewards) == 60
    assert len(episode.observations["observation"]) == len(episode.infos["success"]) == 61
    assert episode.truncations[-1]
    assert data.env_spec.kwargs["continuing_task"]
    assert not data.recover_environment(eval_env=True).spec.kwargs["continuing_task"]
    assert data.storage.metadata["requirements"] == ["mujoco==3.3.0"]


def test_recorded_actions_replay_to_the_recorded_observations(dataset: SmallDataset) -> None:
    data = opened(dataset.minari, dataset.recipe.sources[1].dataset)
    environment = make_environment(dataset.recipe.environment)
    for episode, facts in zip(
        data, data.storage.get_episode_metadata(range(len(data))), strict=True
    ):
        observation, _ = environment.reset(seed=facts["seed"])
        seen = [observation["observation"]]
        seen += [environment.step(action)[0]["observation"] for action in episode.actions]
        np.testing.assert_array_equal(np.stack(seen), episode.observations["observation"])


def nearly_full(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk have less room than any episode needs after some questions."""
    real, asked = shutil.disk_usage, count()

    def usage(path: Path) -> Any:
        return real(path)._replace(free=2**40 if next(asked) < limit else RESERVE)

    monkeypatch.setattr(shutil, "disk_usage", usage)


@pytest.mark.parametrize(("limit", "written"), [(0, 0), (3, 2)])
def test_a_disk_without_room_for_an_episode_ends_a_collection_before_hdf5_fails(
    limit: int, written: int, dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, steps = dataset.recipe.sources[0], list[int]()
    nearly_full(limit, monkeypatch)
    with pytest.raises(OSError, match="No space left on device") as raised:
        collect_source(dataset.recipe, source, tmp_path / "new", 1, steps.append)
    assert message_of(raised.value) == f"{tmp_path / 'new'}: {REMEDIES[errno.ENOSPC]}"
    assert len(steps) == written


def test_a_full_disk_in_the_library_is_an_error_of_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nearly_full(2, monkeypatch)
    with pytest.raises(og.OfflineGCRLError, match="the disk is full; free some space"):
        og.load_dataset("pointmaze-umaze", episodes=2)


def test_mazes_with_ordered_actions_have_the_same_movements_with_other_actions(
    tmp_path: Path,
) -> None:
    turned, plain = (
        small_recipe(f"pointmaze-opposed-{name}", steps=150) for name in ("rotated-90", "identity")
    )
    ours, theirs = (
        list(collect_source(recipe, recipe.sources[0], tmp_path, workers=1))
        for recipe in (turned, plain)
    )
    for mine, other in zip(ours, theirs, strict=True):
        for key, states in mine.observations.items():
            np.testing.assert_array_equal(states, other.observations[key])
        # The force (x, y) is the policy's action (y, -x), turned by 90 degrees.
        np.testing.assert_array_equal(mine.actions[:, 0], other.actions[:, 1])
        np.testing.assert_array_equal(mine.actions[:, 1], -other.actions[:, 0])
    replay = replay_source(turned, turned.sources[0], tmp_path)
    assert (replay.outcome, replay.largest_difference) == ("same", 0.0)
    stored = opened(tmp_path, turned.sources[0].dataset).recover_environment()
    assert isinstance(stored, OrderedActions)
    np.testing.assert_array_equal(stored.action(np.array([0.5, 1.0])), [-1.0, 0.5])


class Reused(gymnasium.Env[Any, Any]):
    """Returns the same arrays at each step, and goals of a small type."""

    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self) -> None:
        self.shown = {key: np.zeros(1, np.uint8) for key in ("observation", "achieved_goal")}

    def reset(self, **_: Any) -> Any:
        return self.step(None)[0], {}

    def step(self, action: Any) -> Any:
        for values in self.shown.values():
            values += 1
        return self.shown, 0.0, bool(self.shown["observation"][0] == 4), False, {}


def test_steps_of_an_environment_that_reuses_its_arrays_are_recorded_as_they_were() -> None:
    collect = Collect(policy="uniform")
    job: Any = SimpleNamespace(collect=collect, desired=None)
    episode = _run_episode(Reused(), job, 0, 0)
    assert episode.observations["achieved_goal"].ravel().tolist() == [1, 2, 3, 4]


def test_bounds_follow_the_order_of_actions() -> None:
    class Uneven(gymnasium.Env[Any, Any]):
        action_space = spaces.Box(np.array([-1.0, -2.0]), np.array([3.0, 4.0]), dtype=np.float64)

    ordered = OrderedActions(Uneven(), (-2, 1))
    np.testing.assert_array_equal(ordered.action_space.low, [-2.0, -3.0])
    np.testing.assert_array_equal(ordered.action_space.high, [4.0, 1.0])


def test_an_order_that_does_not_fit_the_actions_is_an_error() -> None:
    settings = Environment(id="PointMaze_UMaze-v3", action_order=(-1, 2, 3))
    with pytest.raises(SettingsError, match=r"action_order: \[-1, 2, 3\] does not fit .*Box"):
        make_environment(settings)


def test_the_waypoint_demonstrator_reaches_several_goals_in_sequence(tmp_path: Path) -> None:
    recipe = small_recipe(steps=400)
    source = recipe.sources[1]
    data = collect_source(recipe, source, tmp_path)
    assert all(episode.infos["success"].sum() >= 2 for episode in data)


def test_data_cut_at_success_has_one_episode_per_goal(tmp_path: Path) -> None:
    recipe = small_recipe("pointmaze-umaze-waypoint", steps=400)
    data = collect_source(recipe, recipe.sources[0], tmp_path, workers=1)
    episodes = list(data)
    assert sum(len(episode) for episode in episodes) == 3 * 400
    assert len(episodes) > 2 * 3
    seeds = [facts.get("seed") for facts in data.storage.get_episode_metadata(range(len(data)))]
    begins = [number for number, seed in enumerate(seeds) if seed is not None]
    assert len(begins) == 3
    for number, episode in enumerate(episodes):
        follows = number + 1 not in [*begins, len(episodes)]
        assert episode.truncations.tolist() == [False] * (len(episode) - 1) + [True]
        assert not episode.infos["success"][1:-1].any()
        # The observation that reaches a goal still shows it, and begins the next episode.
        assert len(set(map(tuple, episode.observations["desired_goal"][1:]))) == 1
        if follows:
            assert episode.infos["success"][-1]
            np.testing.assert_array_equal(
                episode.observations["observation"][-1],
                episodes[number + 1].observations["observation"][0],
            )


def test_the_fetch_demonstrator_ends_on_the_goal(tmp_path: Path) -> None:
    recipe = small_recipe("fetch-reach", steps=50)
    data = collect_source(recipe, recipe.sources[1], tmp_path)
    assert all(episode.infos["success"][-1] for episode in data)


def test_a_published_dataset_comes_from_the_local_root(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(dataset.minari))
    name = dataset.recipe.sources[0].dataset
    fetch_published(name, tmp_path / "here")
    assert len(opened(tmp_path / "here", name)) == 6


def test_without_network_the_error_about_a_missing_dataset_names_the_files_to_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="cannot be downloaded") as error:
        fetch_published("D4RL/pointmaze/umaze-v2", tmp_path / "here")
    assert str(tmp_path / "root/D4RL/pointmaze/umaze-v2/data/main_data.hdf5") in str(error.value)
    assert not (tmp_path / "here").exists()


def test_an_unknown_environment_is_named_with_the_nearest() -> None:
    with pytest.raises(
        SettingsError, match="'PointMaze_UMaz-v3'; did you mean 'PointMaze_UMaze-v3'"
    ):
        make_environment(Environment(id="PointMaze_UMaz-v3"))


def test_a_policy_for_mazes_needs_a_maze(tmp_path: Path) -> None:
    recipe = small_recipe("fetch-reach")
    source = recipe.sources[1].model_copy(update={"collect": Collect(policy="maze_waypoint")})
    with pytest.raises(SettingsError, match="'maze_waypoint' needs a maze"):
        collect_source(recipe, source, tmp_path)


def test_environments_are_checked_before_any_work(dataset: SmallDataset) -> None:
    check_environments(dataset.recipe, "here.yaml")
    goal = dataset.recipe.goal.model_copy(update={"achieved": (Part(key="achieved"),)})
    with pytest.raises(
        SettingsError, match=r"here.yaml: goal.achieved: .* did you mean 'achieved_goal'"
    ):
        check_environments(dataset.recipe.model_copy(update={"goal": goal}), "here.yaml")
    wrong = Evaluation(environment=Environment(id="PointMaz-v3"))
    with pytest.raises(
        SettingsError, match=r"here.yaml: evaluation.environment.id: no environment"
    ):
        check_environments(dataset.recipe.model_copy(update={"evaluation": wrong}), "here.yaml")


@pytest.mark.parametrize(("low", "high"), [(-1.0, 0.0), (0.0, 1.0), (-2.0, 1.0), (-3.0, 3.0)])
def test_held_directions_use_both_sides_of_unequal_bounds(low: float, high: float) -> None:
    environment = gymnasium.Env[Any, Any]()
    environment.action_space = gymnasium.spaces.Box(low, high, (2,))
    explorer = HeldDirectionExplorer(environment, np.random.default_rng(0), 1, 1)
    actions = np.array([explorer.act(None, {}) for _ in range(500)])
    assert low <= actions.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < actions.max() <= high


def test_a_wrong_argument_of_an_environment_is_named() -> None:
    with pytest.raises(SettingsError, match="environment.kwargs of FetchReach-v4: .*tolerance"):
        make_environment(Environment(id="FetchReach-v4", kwargs={"tolerance": 1}))
    with pytest.raises(SettingsError, match="of FetchReach-v4: ValueError: .*positive.*, line"):
        make_environment(Environment(id="FetchReach-v4", kwargs={"max_episode_steps": 0}))


def test_a_reset_that_fails_is_named(dataset: SmallDataset) -> None:
    evaluation = dataset.recipe.evaluation
    assert evaluation is not None
    kwargs = {**evaluation.environment.kwargs, "maze_map": [[1, 1], [1, 1]]}
    walled = evaluation.environment.model_copy(update={"kwargs": kwargs})
    recipe = dataset.recipe.model_copy(
        update={"evaluation": evaluation.model_copy(update={"environment": walled})}
    )
    with pytest.raises(SettingsError, match=r"here.yaml: evaluation.environment.* of Point.*line"):
        check_environments(recipe, "here.yaml")


def test_an_infinite_argument_reaches_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Environment(id="CartPole-v1", kwargs={"limit": float("inf")})
    monkeypatch.setattr(making, "make_environment", lambda settings: settings.kwargs["limit"])
    assert shared_environment(settings) == float("inf")
