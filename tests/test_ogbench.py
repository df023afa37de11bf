"""OGBench data is generated with the published procedure from seeds alone, and evaluated as in the benchmark."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RECIPES

from offline_gcrl.collect import policies
from offline_gcrl.collect.collector import (
    EpisodeJob,
    collect_episode,
    collect_source,
    max_steps_per_episode,
)
from offline_gcrl.collect.ogbench import OGBenchMaze, cube_in_sight, free_cells, junctions
from offline_gcrl.config import (
    Collect,
    Environment,
    Recipe,
    has_original_goals,
    load_recipe,
    recipe_names,
    resolve,
)
from offline_gcrl.environments.making import check_environments, make_environment, seeded_episode
from offline_gcrl.episodes.reading import read_episodes
from offline_gcrl.figures.scenes import environment_scene
from offline_gcrl.support.errors import DataError, SettingsError

pytestmark = pytest.mark.skipif(
    find_spec("ogbench") is None, reason="the extra 'ogbench' is not installed"
)

OGBENCH = [name for name in recipe_names(RECIPES) if name.startswith("ogbench-")]
NAVIGATE, STITCH = "ogbench-pointmaze-medium-navigate", "ogbench-pointmaze-large-stitch"
CUBE, SCENE, PUZZLE = "ogbench-cube-single-play", "ogbench-scene-play", "ogbench-puzzle-3x3-play"
WALLS = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 1, 1, 0, 1], [1] * 5])


def recipe(name: str, episodes: int = 2, steps: int | None = None) -> Recipe:
    """A recipe with few episodes, optionally short."""
    loaded = resolve(name, episodes, RECIPES).recipes[0]
    assert loaded.environment is not None
    kwargs = {**loaded.environment.kwargs} | ({"max_episode_steps": steps} if steps else {})
    environment = loaded.environment.model_copy(update={"kwargs": kwargs})
    return loaded.model_copy(update={"environment": environment})


def episode(name: str, index: int = 0, steps: int | None = None) -> Any:
    made = recipe(name, steps=steps)
    assert made.sources[0].collect is not None
    assert made.environment is not None
    return collect_episode(EpisodeJob(made.environment, made.sources[0].collect, None, index))


def same(one: Any, other: Any) -> bool:
    """Whether two episodes agree in every number."""
    return (
        np.array_equal(one.observations, other.observations)
        and np.array_equal(one.actions, other.actions)
        and all(np.array_equal(one.infos[key], other.infos[key]) for key in one.infos)
    )


@pytest.mark.parametrize("name", OGBENCH)
def test_every_recipe_fits_the_observations_of_its_environments(name: str) -> None:
    made = load_recipe(name, RECIPES)
    check_environments(made, name)
    assert made.goal.is_full_state
    assert not has_original_goals(made.goal)


@pytest.mark.parametrize("name", OGBENCH)
def test_the_full_size_is_the_published_one(name: str) -> None:
    full = resolve(name, "full", RECIPES).recipes[0]
    short = name.endswith("stitch")
    total = full.sources[0].episodes
    assert full.environment is not None
    assert full.environment.kwargs["max_episode_steps"] == (200 if short else 1000)
    assert total == (5500 if short else 1100)
    assert round(full.validation_share * total) == (500 if short else 100)


@pytest.fixture(
    scope="module", params=[(NAVIGATE, 300), (STITCH, 200), (SCENE, 40)], ids=lambda of: of[0]
)
def collected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A recipe, and its data, collected by two processes."""
    name, steps = request.param
    made = recipe(name, steps=steps)
    return made, collect_source(made, made.sources[0], tmp_path_factory.mktemp(name), workers=2)


def test_an_episode_depends_on_neither_its_process_nor_earlier_episodes(collected: Any) -> None:
    made, data = collected
    assert made.environment is not None
    for number in (1, 0):  # the other way round, in this process
        job = EpisodeJob(made.environment, made.sources[0].collect, None, number)
        assert same(collect_episode(job), data[number])
    assert not same(data[0], data[1])


def test_recorded_actions_replay_to_the_recorded_observations(collected: Any) -> None:
    made, data = collected
    environment = make_environment(made.environment)
    metadata = data.storage.get_episode_metadata(range(len(data)))
    for recorded, facts in zip(data, metadata, strict=True):
        with seeded_episode(environment, int(facts["seed"])):
            seen, _ = environment.reset(seed=int(facts["seed"]), options=facts.get("options"))
            states = [seen] + [environment.step(action)[0] for action in recorded.actions]
        np.testing.assert_array_equal(np.stack(states), recorded.observations)


def test_the_recorded_environments_can_be_recreated(collected: Any) -> None:
    made, data = collected
    again, evaluated = data.recover_environment(), data.recover_environment(eval_env=True)
    assert not again.spec.kwargs["terminate_at_goal"]
    assert again.spec.max_episode_steps == max_steps_per_episode(made)
    assert "terminate_at_goal" not in evaluated.spec.kwargs
    assert evaluated.spec.max_episode_steps == (750 if "scene" in evaluated.spec.id else 1000)


def test_the_global_generator_is_restored() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    episode(STITCH)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_navigation_reaches_several_goals_in_an_episode_of_published_length() -> None:
    made = episode(NAVIGATE)
    assert made.observations.shape == (1001, 2)
    assert made.truncations[-1]
    assert made.infos["success"].sum() >= 3
    np.testing.assert_array_equal(made.infos["qpos"], made.observations)


def test_stitching_goes_to_a_goal_four_cells_away_and_stays() -> None:
    environment = make_environment(load_recipe(STITCH, RECIPES).environment)
    maze = environment.unwrapped
    for index in range(20):
        random = np.random.default_rng(index)
        task = OGBenchMaze.reset_options(environment, random, "stitch")["task_info"]
        start = np.array(maze.ij_to_xy(task["init_ij"]))
        _, distances = maze.get_oracle_subgoal(start, start)
        assert distances[task["goal_ij"]] == 4
    made = episode(STITCH)
    arrived = int(made.infos["success"].argmax())
    assert arrived > 0
    goal = np.array(maze.ij_to_xy(made.options["task_info"]["goal_ij"]))
    assert np.linalg.norm(made.observations[arrived:] - goal, axis=1).max() < 4.0


def test_goals_are_at_dead_ends_turns_and_junctions() -> None:
    assert free_cells(WALLS) == [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3)]
    assert junctions(WALLS) == [(1, 1), (1, 3), (3, 3)]


def test_maze_actions_are_full_speed_in_a_noisy_direction() -> None:
    actions = episode(NAVIGATE).actions
    assert np.abs(actions).max() <= 1.0
    assert np.linalg.norm(actions, axis=1).mean() == pytest.approx(1.0, abs=0.15)


def test_the_arm_moves_the_cube() -> None:
    cube = episode(CUBE, steps=200).infos["qpos"][:, 14:17]
    assert np.ptp(cube, axis=0)[:2].max() > 0.05  # along the table
    assert np.ptp(cube[:, 2]) > 0.05  # lifted


def test_the_arm_presses_buttons_and_their_states_are_recorded() -> None:
    states = episode(PUZZLE, steps=150).infos["button_states"]
    assert states.shape == (151, 9)
    assert set(np.unique(states)) == {0, 1}
    changes = (np.diff(states, axis=0) != 0).sum(1)
    assert set(changes[changes > 0]) <= {3, 4, 5}  # a button and its neighbours


def test_a_scene_whose_cube_is_out_of_sight_is_rejected() -> None:
    table, drawer, fallen, aside = (
        [0.4, 0, 0.02],
        [0.3, -0.31, 0.07],
        [0.3, -0.31, 0.02],
        [0.4, 0.29, 0.02],
    )
    assert cube_in_sight(np.array([table, drawer]))
    assert not cube_in_sight(np.array([table, fallen]))
    assert not cube_in_sight(np.array([aside, table]))


def test_a_rejected_episode_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, seen = episode(STITCH), []

    def accepts(environment: Any, infos: dict[str, Any]) -> bool:
        seen.append(infos["qpos"])
        return len(seen) == 3

    monkeypatch.setattr(OGBenchMaze, "accepts", staticmethod(accepts), raising=False)
    third = episode(STITCH)
    assert len(seen) == 3
    np.testing.assert_array_equal(seen[0], first.infos["qpos"])
    np.testing.assert_array_equal(seen[2], third.infos["qpos"])
    assert len({tuple(draw[0]) for draw in seen}) == 3
    monkeypatch.setattr(OGBenchMaze, "accepts", staticmethod(lambda *_: False), raising=False)
    monkeypatch.setattr("offline_gcrl.collect.collector.MAX_DRAWS", 2)
    with pytest.raises(DataError, match="'ogbench_maze' rejected all 2 draws of episode 0"):
        episode(STITCH)


@pytest.mark.parametrize("name", [NAVIGATE, CUBE, PUZZLE])
def test_an_evaluation_episode_depends_on_its_seed_and_task_alone(name: str) -> None:
    evaluation = load_recipe(name, RECIPES).evaluation
    assert evaluation is not None
    environment = make_environment(evaluation.environment)

    def start(seed: int, task: int) -> tuple[Any, Any]:
        with seeded_episode(environment, seed):
            state, info = environment.reset(seed=seed, options={"task_id": task})
        return state, info["goal"]

    first = start(1, 1)
    others = [start(2, 1), start(1, 2)]
    np.testing.assert_array_equal(np.stack(first), np.stack(start(1, 1)))
    assert all(not np.array_equal(first[1], other[1]) for other in others)


def test_an_evaluation_episode_ends_at_the_goal() -> None:
    evaluation = load_recipe(STITCH, RECIPES).evaluation
    assert evaluation is not None
    environment = make_environment(evaluation.environment)
    random = np.random.default_rng(0)
    with seeded_episode(environment, 3):
        observation, info = environment.reset(seed=3, options={"task_id": 5})
        goal, ended, success = info["goal"], False, False
        policy = OGBenchMaze(environment, random, "stitch")
        while not ended:
            observation, _, terminated, truncated, info = environment.step(
                policy.act(observation, info)
            )
            ended, success = terminated or truncated, bool(info["success"])
    assert success
    assert terminated
    assert np.linalg.norm(observation - goal) <= 1.0


def test_the_walls_of_a_maze_are_drawn_and_an_arm_needs_no_reset_before() -> None:
    maze = make_environment(Environment(id="ogbench:pointmaze-medium-v0"))
    walls = environment_scene(maze).walls
    assert walls[0] == (
        -6.0,
        -6.0,
        4.0,
    )  # a corner: the centre of the first free cell is the origin
    assert len(walls) == maze.unwrapped.maze_map.sum()
    arm = environment_scene(make_environment(Environment(id="ogbench:cube-single-v0")))
    assert not arm.walls
    assert arm.table_top is None


def test_goals_are_stored_once_and_a_tenth_is_for_validation(tmp_path: Path) -> None:
    made = recipe(NAVIGATE, episodes=11, steps=20)
    data = collect_source(made, made.sources[0], tmp_path, workers=1)
    read = list(read_episodes(made, made.sources[0], data, 0))
    assert set(read[0][0].vectors) == {"observation", "action"}
    assert [facts["split"] for _, facts in read].count("validation") == 1


@pytest.mark.parametrize(
    ("policy", "settings", "environment", "message"),
    [
        ("ogbench_maze", {}, "PointMaze_UMaze-v3", "needs a maze of OGBench"),
        ("ogbench_maze", {"behaviour": "explore"}, "ogbench:pointmaze-medium-v0", "not 'explore'"),
        ("ogbench_maze", {"behavior": "stitch"}, "ogbench:pointmaze-medium-v0", "did you mean 'behaviour'"),
        ("ogbench_play", {}, "ogbench:pointmaze-medium-v0", "mode: data_collection"),
        ("ogbench_play", {}, "ogbench:cube-single-v0", "mode: data_collection"),
    ],
)  # fmt: skip
def test_a_policy_in_the_wrong_environment_names_the_right_one(
    policy: str, settings: dict[str, Any], environment: str, message: str
) -> None:
    made = make_environment(Environment(id=environment))
    with pytest.raises(SettingsError, match=message):
        policies.check_policy(Collect(policy=policy, settings=settings), made, "here")
