"""Own data: Minari datasets of any shape, D4RL and OGBench files, and every step of the documentation."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
import yaml
from conftest import ROOT, as_dataset, episode_buffers, space_of, write_minari
from gymnasium import spaces
from project import Project

import offline_gcrl as og
from offline_gcrl.cards.replay import replay_source
from offline_gcrl.collect.published import fetch_published
from offline_gcrl.config import Environment, Goal, Part, Recipe, Relabel, load_recipe, resolve
from offline_gcrl.convert.__main__ import main
from offline_gcrl.convert.arrays import LAYOUTS
from offline_gcrl.convert.layouts import inspect_file, read_episodes
from offline_gcrl.environments.making import make_environment
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.published import check_published
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.support.errors import DataError

EPISODES, STEPS = 6, 40
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def maze() -> Arrays:
    """Random steps in the real maze, one row per step, as the scripts of D4RL record them."""
    settings = {"continuing_task": True, "max_episode_steps": STEPS}
    environment = make_environment(Environment(id="PointMaze_UMaze-v3", kwargs=settings))
    random = np.random.default_rng(0)
    rows: list[tuple[Any, ...]] = []
    for episode in range(EPISODES):
        observation, _ = environment.reset(seed=episode)
        for step in range(STEPS):
            action = random.uniform(-1, 1, 2).astype(np.float32)
            following, reward, *_ = environment.step(action)
            state, goal = observation["observation"], observation["desired_goal"]
            rows.append((state, action, reward, step == STEPS - 1, goal, following["observation"]))
            observation = following
    names = ("observations", "actions", "rewards", "timeouts", "infos/goal", "next_observations")
    arrays = {
        name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    arrays |= {
        "terminals": np.zeros(len(rows), dtype=bool),
        "infos/qpos": arrays["observations"][:, :2],
    }
    return {
        name: array if array.dtype == bool else array.astype(np.float32)
        for name, array in arrays.items()
    }


def classic(maze: Arrays, **changed: Any) -> Arrays:
    """The layout of D4RL without next observations; ``None`` leaves an array out."""
    arrays = {**maze, "next_observations": None, **changed}
    return {name: array for name, array in arrays.items() if array is not None}


def write_hdf5(arrays: Arrays, path: Path = Path("maze2d.hdf5")) -> str:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file["metadata/algorithm"] = "random"
    return str(path)


def write_npz(maze: Arrays, path: Path = Path("play.npz"), **changed: Any) -> str:
    """The layout of OGBench, without rewards; the last row of an episode is its last state."""
    arrays = {
        "observations": maze["observations"],
        "actions": maze["actions"],
        "terminals": maze["timeouts"].astype(np.float32),
        "qpos": maze["infos/qpos"],
        **changed,
    }
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})
    return str(path)


def opened(root: Path, dataset: str) -> minari.MinariDataset:
    return minari.MinariDataset(root / dataset / "data")


def by_episode(array: np.ndarray) -> list[np.ndarray]:
    return np.split(array, EPISODES)


def test_a_d4rl_file_becomes_its_episodes_without_their_last_actions(
    maze: Arrays, root: Path
) -> None:
    main(["d4rl", write_hdf5(classic(maze)), "my/maze-v0"])
    data = opened(root, "my/maze-v0")
    assert data.total_episodes == EPISODES
    assert data.total_steps == EPISODES * (STEPS - 1)
    for number, episode in enumerate(data):
        np.testing.assert_array_equal(
            episode.observations, by_episode(maze["observations"])[number]
        )
        np.testing.assert_array_equal(episode.actions, by_episode(maze["actions"])[number][:-1])
        np.testing.assert_array_equal(episode.rewards, by_episode(maze["rewards"])[number][:-1])
        np.testing.assert_array_equal(episode.infos["goal"], by_episode(maze["infos/goal"])[number])
        assert episode.truncations.tolist() == [False] * (STEPS - 2) + [True]
        assert not episode.terminations.any()


def test_next_observations_keep_the_last_action_and_what_ended_the_episode(
    maze: Arrays, root: Path
) -> None:
    main(["d4rl", write_hdf5({**maze, "terminals": maze["timeouts"]}), "my/maze-v0"])
    for number, episode in enumerate(opened(root, "my/maze-v0")):
        following = by_episode(maze["next_observations"])[number]
        np.testing.assert_array_equal(episode.observations[1:], following)
        np.testing.assert_array_equal(episode.actions, by_episode(maze["actions"])[number])
        goals = by_episode(maze["infos/goal"])[number]
        np.testing.assert_array_equal(episode.infos["goal"], [*goals, goals[-1]])
        assert len(episode.infos["qpos"]) == STEPS  # nothing is made up for the last state
        assert episode.terminations[-1]
        assert not episode.truncations.any()


def test_next_observations_that_continue_in_the_next_episode_are_reported(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remark = f"the last state of {EPISODES - 1} episodes is the first of the next one"
    main(["d4rl", write_hdf5(maze), "my/maze-v0"])
    assert remark not in " ".join(capsys.readouterr().out.split())
    states = maze["observations"]
    shifted = np.concatenate([states[1:], states[-1:]])
    main(["d4rl", write_hdf5({**maze, "next_observations": shifted}), "my/maze-v1"])
    assert remark in " ".join(capsys.readouterr().out.split())


def test_actions_that_can_be_labels_are_reported(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.arange(len(maze["actions"]))[:, None] % 4
    main(["ogbench", write_npz(maze, actions=labels), "my/labels-v0"])
    said = " ".join(capsys.readouterr().out.split())
    assert "the actions are whole numbers, which agents learn as continuous" in said


def test_an_ogbench_file_becomes_episodes_of_one_more_state_than_actions(
    maze: Arrays, root: Path
) -> None:
    main(
        ["ogbench", write_npz(maze, env_name=np.array("maze"), gamma=np.array(0.99)), "my/play-v0"]
    )
    for number, episode in enumerate(opened(root, "my/play-v0")):
        np.testing.assert_array_equal(
            episode.observations, by_episode(maze["observations"])[number]
        )
        np.testing.assert_array_equal(episode.actions, by_episode(maze["actions"])[number][:-1])
        np.testing.assert_array_equal(episode.infos["qpos"], by_episode(maze["infos/qpos"])[number])
        assert not episode.rewards.any()


def test_data_that_is_left_out_or_added_is_reported(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timeouts = maze["timeouts"].copy()
    timeouts[:3] = True
    main(["d4rl", write_hdf5(classic(maze, timeouts=timeouts)), "my/maze-v0"])
    said = capsys.readouterr().out
    assert "the last action of each episode is left out" in said
    assert "3 episodes of a single state are left out" in said
    assert "bounds of the actions: the extremes of the data" in said
    assert f"done {EPISODES} episodes, {EPISODES * (STEPS - 1) - 3} transitions" in said
    main(["d4rl", write_hdf5(classic(maze, timeouts=None)), "my/maze-v1"])
    assert "the file marks no ends of episodes: all rows are one episode" in capsys.readouterr().out
    assert opened(root, "my/maze-v1").total_episodes == 1
    main(["ogbench", write_npz(maze), "my/play-v0"])
    assert "the file has no rewards: stored as 0" in capsys.readouterr().out


def test_the_user_chooses_the_flags_that_end_an_episode(maze: Arrays, root: Path) -> None:
    succeeded = np.arange(len(maze["timeouts"])) % STEPS > STEPS // 2
    file = write_hdf5(classic(maze, terminals=succeeded))
    main(["d4rl", file, "my/maze-v0", "--ends", "timeouts"])
    assert opened(root, "my/maze-v0").total_steps == EPISODES * (STEPS - 1)


def test_the_environment_is_stored_and_bounds_the_actions(maze: Arrays, root: Path) -> None:
    file = write_hdf5(classic(maze))
    arguments = ["--environment", "PointMaze_UMaze-v3", "--option", "continuing_task=false"]
    main(["d4rl", file, "my/maze-v0", *arguments])
    data = opened(root, "my/maze-v0")
    assert data.env_spec.kwargs["continuing_task"] is False
    assert data.action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)


def test_without_environment_bounds_come_from_the_data_or_the_user(
    maze: Arrays, root: Path
) -> None:
    file = write_hdf5(classic(maze))
    main(["d4rl", file, "my/maze-v0"])
    np.testing.assert_array_equal(
        opened(root, "my/maze-v0").action_space.low, maze["actions"].min(0)
    )
    main(["d4rl", file, "my/maze-v1", "--action-low", "-2", "--action-high", "2", "3"])
    assert opened(root, "my/maze-v1").action_space.high.tolist() == [2.0, 3.0]


def test_the_recipe_is_complete_and_trains_on_the_converted_data(maze: Arrays, root: Path) -> None:
    goals = ["--goal-columns", "0", "1", "--tolerance", "0.45"]
    main(["d4rl", write_hdf5(classic(maze)), "my/maze-v0", "--recipe", "my-maze", *goals])
    recipe = load_recipe("my-maze", Path("datasets/recipes"))
    schema = ingested(recipe, root)
    assert schema["sizes"] == {"observation": 4, "achieved_goal": 2, "desired_goal": 2, "action": 2}
    episodes = open_episodes(Path("parquet"))
    np.testing.assert_array_equal(episodes.achieved_goal, maze["observations"][:, :2])
    np.testing.assert_array_equal(episodes.desired_goal, maze["infos/goal"])


def test_a_goal_that_is_not_in_the_file_can_be_given_for_all_episodes(
    maze: Arrays, root: Path
) -> None:
    goals = ["--goal-columns", "0", "1", "--tolerance", "0.45", "--desired-constant", "0.9", "-1.1"]
    main(["d4rl", write_hdf5(classic(maze)), "my/maze-v0", "--recipe", "my-maze", *goals])
    recipe = load_recipe("my-maze", Path("datasets/recipes"))
    assert ingested(recipe, root)["sizes"]["desired_goal"] == 2
    desired = open_episodes(Path("parquet")).desired_goal
    assert desired is not None
    np.testing.assert_allclose(np.unique(desired, axis=0), [[0.9, -1.1]], rtol=1e-6)


def test_goals_of_a_converted_file_are_full_states_by_default(maze: Arrays, root: Path) -> None:
    main(["ogbench", write_npz(maze), "my/play-v0", "--recipe", "my-play"])
    schema = ingested(load_recipe("my-play", Path("datasets/recipes")), root)
    assert schema["goals_are_states"]
    relabel(
        Path("parquet"),
        Path("hindsight"),
        Relabel(k=1),
        Goal.model_validate(schema["goal"], strict=False),
    )


def test_the_recipe_evaluates_in_the_given_environment(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, named = write_hdf5(classic(maze)), ["--environment", "PointMaze_UMaze-v3"]
    goals = ["--goal-columns", "0", "1", "--tolerance", "0.45"]
    main(["d4rl", file, "my/maze-v0", "--recipe", "my-maze", *named, *goals])
    evaluation = load_recipe("my-maze", Path("datasets/recipes")).evaluation
    assert evaluation is not None
    assert evaluation.environment.id == "PointMaze_UMaze-v3"
    capsys.readouterr()
    main(["d4rl", file, "my/maze-v1", *named])  # full states; the maze's goals are places
    assert "has no goal of 4 dimensions, so the recipe has no evaluation" in capsys.readouterr().out


def test_a_converted_file_with_the_state_of_the_simulator_is_replayed(root: Path) -> None:
    settings = {"continuing_task": True, "max_episode_steps": STEPS}
    environment = make_environment(Environment(id="PointMaze_UMaze-v3", kwargs=settings))
    simulator: Any = environment.unwrapped
    random = np.random.default_rng(0)
    observation, _ = environment.reset(seed=0)
    rows = []
    for step in range(STEPS):
        action = random.uniform(-1, 1, 2).astype(np.float32)
        state = simulator.data.qpos.copy(), simulator.data.qvel.copy()
        rows.append((observation["observation"], action, 0.0, step == STEPS - 1, *state))
        observation = environment.step(action)[0]
    names = ("observations", "actions", "rewards", "timeouts", "infos/qpos", "infos/qvel")
    columns = (np.array(column) for column in zip(*rows, strict=True))
    file = write_hdf5(dict(zip(names, columns, strict=True)))
    named = [
        "--environment",
        "PointMaze_UMaze-v3",
        "--goal-columns",
        "0",
        "1",
        "--tolerance",
        "0.4",
    ]
    main(["d4rl", file, "my/maze-v0", "--recipe", "my-maze", *named])
    recipe = load_recipe("my-maze", Path("datasets/recipes"))
    replay = replay_source(recipe, recipe.sources[0], root)
    assert (replay.outcome, replay.start, replay.steps) == ("same", "state", STEPS - 1)


def test_the_name_of_a_written_recipe_is_printed_as_a_list(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["d4rl", write_hdf5(classic(maze)), "my/maze-v0", "--recipe", "my-maze"])
    assert "experiment.datasets: [my-maze]" in capsys.readouterr().out


def test_an_ogbench_recipe_evaluates_in_the_tasks_of_the_environment(root: Path) -> None:
    pytest.importorskip("ogbench", reason="the extra 'ogbench' is not installed")
    settings = Environment(id="ogbench:pointmaze-medium-v0", kwargs={"max_episode_steps": 10})
    environment = make_environment(settings)
    state, _ = environment.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (11, 2)).astype(np.float32)
    states = np.array([state, *(environment.step(action)[0] for action in actions[:-1])])
    ends = np.arange(11) == 10
    np.savez_compressed("maze.npz", observations=states, actions=actions, terminals=ends)
    main(["ogbench", "maze.npz", "my/maze-v0", "--environment", settings.id, "--recipe", "my-maze"])
    recipe = load_recipe("my-maze", Path("datasets/recipes"))
    assert recipe.evaluation is not None
    assert recipe.evaluation.fixed_tasks is not None
    assert recipe.evaluation.fixed_tasks.values == (1, 2, 3, 4, 5)
    assert recipe.evaluation.success == "environment"
    assert check_published(recipe, recipe.sources[0], root) == []
    assert ingested(recipe, root)["goals_are_states"]


REFUSED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "an array missing": ({"actions": None}, [], "no array 'actions'; did you mean"),
    "another length": (
        {"rewards": np.zeros(7)},
        [],
        "'rewards' has 7 rows, and 'observations' 240",
    ),
    "pictures": (
        {"observations": np.zeros((240, 8, 8, 3), np.uint8)},
        [],
        r"'observations' has the shape \(240, 8, 8, 3\); agents need vectors",
    ),
    "numbered choices": ({"actions": np.zeros(240, int)}, [], "'actions' has the shape"),
    "text": (
        {"rewards": np.full(240, b"x")},
        [],
        r"'rewards' has values of type \|S1, expected numbers",
    ),
    "NaN": (
        {"observations": np.where(np.arange(240)[:, None] == 77, np.nan, np.zeros((240, 4)))},
        [],
        "episode 1: observations are not finite in row 77",
    ),
    "infinite actions": (
        {"actions": np.full((240, 2), np.inf)},
        [],
        "actions are not finite in row 0",
    ),
    "a constant action": (
        {"actions": np.zeros((240, 2), np.float32)},
        [],
        "dimension 0 of actions would have the bounds 0 and 0; set its true bounds with --action-low",
    ),
    "bounds too narrow": (
        {},
        ["--action-low", "-0.1", "--action-high", "0.1"],
        "dimension 0 of actions ranges from .* outside the bounds -0.1 to 0.1, as given",
    ),
    "bounds too many": (
        {},
        ["--action-low", "1", "2", "3"],
        "expected 1 or 2 numbers, as actions have 2 dimensions, not 3",
    ),
    "another environment": (
        {},
        ["--environment", "FetchReach-v4"],
        "the action space of FetchReach-v4 is .* have 2 dimensions",
    ),
    "no such environment": (
        {},
        ["--environment", "PointMaz_UMaze-v3"],
        "did you mean 'PointMaze_UMaze-v3'",
    ),
    "a package missing": (
        {},
        ["--environment", "no_such_package:Arm-v0"],
        "needs the package 'no_such_package', which is not installed; put no_such_package.py",
    ),
    "no column": ({}, ["--goal-columns", "4", "--tolerance", "1"], "no column 4"),
    "no tolerance": ({}, ["--goal-columns", "0"], "--goal-columns needs --tolerance"),
    "a constant of nothing": (
        {},
        ["--desired-constant", "1"],
        "--desired-constant needs --goal-columns",
    ),
    "a constant of another size": (
        {},
        ["--goal-columns", "0", "1", "--tolerance", "1", "--desired-constant", "1"],
        "--desired-constant: 1 numbers for 2 columns of the goal",
    ),
    "an option of nothing": ({}, ["--option", "a=1"], "--option needs an environment"),
    "rows in no order": (
        {"next_observations": np.ones((240, 4), np.float32)},
        [],
        "'next_observations' of row 0 are not the 'observations' of row 1",
    ),
    "flags that are no numbers": (
        {"timeouts": np.full(240, np.nan)},
        [],
        "timeouts are not finite in row 0",
    ),
    "every row an end": ({"timeouts": np.ones(240)}, [], "no episode has a transition"),
    "no rows": ({"observations": np.zeros((0, 4))}, [], "'observations' has no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_is_refused_and_nothing_is_written(
    case: str, maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, arguments, message = REFUSED[case]
    with pytest.raises(SystemExit):
        main(["d4rl", write_hdf5(classic(maze, **changed)), "my/maze-v0", *arguments])
    assert re.search(f"error: .*{message}", capsys.readouterr().err)
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_an_id_that_minari_does_not_take_is_refused(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["d4rl", write_hdf5(classic(maze)), "my maze"])
    assert "sources.0.dataset" in capsys.readouterr().err
    assert not root.exists() or not list(root.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", "--recipe ../x: the name must be made of letters, digits, '-' and '_'"),
        ("/tmp/x", "--recipe /tmp/x: the name must be made of letters"),
        ("my maze", "--recipe my maze: the name must be made of letters"),
        (".maze", "--recipe .maze: the name must be made of letters"),
        ("maze.yaml", "--recipe maze.yaml: the name must be made of letters"),
        ("", "--recipe : the name must be made of letters"),
        ("_maze", "with a letter or a digit first"),
        ("Taken", "--recipe Taken: differs from the recipe 'taken' in case only"),
        ("taken", "taken.yaml exists already; --replace overwrites it"),
    ],
)
def test_a_recipe_gets_a_name_that_experiments_take_before_anything_is_written(
    name: str, message: str, maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("datasets/recipes/taken.yaml").write_text("")
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit):
        main(["d4rl", write_hdf5(classic(maze)), "my/maze-v0", "--recipe", name])
    assert message in capsys.readouterr().err
    assert sorted(path for path in Path().rglob("*") if path not in before) == [Path("maze2d.hdf5")]


def test_outside_of_a_project_no_recipe_is_written(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("datasets")
    with pytest.raises(SystemExit):
        main(["d4rl", write_hdf5(classic(maze)), "my/maze-v0", "--recipe", "maze"])
    assert "datasets/recipes: no such folder; run from the root" in capsys.readouterr().err
    assert not Path("datasets").exists()
    assert not root.exists()


def test_whole_numbers_keep_their_digits(maze: Arrays, root: Path) -> None:
    counts = (2**24 + 1 + np.arange(240)[:, None] * np.ones((1, 4))).astype(np.int64)
    main(["d4rl", write_hdf5(classic(maze, observations=counts)), "my/maze-v0"])
    stored = np.concatenate([episode.observations for episode in opened(root, "my/maze-v0")])
    assert stored.dtype == np.float64
    np.testing.assert_array_equal(stored, counts)


def test_the_task_of_a_written_recipe_is_a_valid_name(maze: Arrays, root: Path) -> None:
    main(["d4rl", write_hdf5(classic(maze)), "my/_arm-v0", "--recipe", "arm"])
    assert resolve("arm", folder=Path("datasets/recipes")).tasks == ("arm-v0",)


def test_existing_data_is_kept_unless_it_is_to_be_replaced(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["d4rl", write_hdf5(classic(maze)), "my/maze-v0"])
    with pytest.raises(SystemExit):
        main(["ogbench", write_npz(maze), "my/maze-v0"])
    assert "exists already" in capsys.readouterr().err
    assert opened(root, "my/maze-v0")[0].infos.keys() == {"goal", "qpos"}
    main(["ogbench", write_npz(maze), "my/maze-v0", "--replace"])
    assert opened(root, "my/maze-v0")[0].infos.keys() == {"qpos"}


def damaged(path: Path, name: str) -> str:
    """Overwrite the middle of an array in an archive."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
    content = bytearray(path.read_bytes())
    middle = member.header_offset + 100 + member.compress_size // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    return str(path)


def test_a_file_that_is_damaged_in_the_middle_leaves_nothing_half_written(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_npz(maze, qpos=np.random.default_rng(0).normal(size=(EPISODES * STEPS, 500)))
    with pytest.raises(SystemExit):
        main(["ogbench", damaged(Path("play.npz"), "qpos"), "my/play-v0"])
    assert "play.npz: 'qpos' cannot be read; is the file complete?" in capsys.readouterr().err
    assert not [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("layout", ["d4rl", "ogbench"])
def test_a_truncated_file_or_one_of_another_format_is_refused(
    layout: str, maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(write_hdf5(classic(maze)) if layout == "d4rl" else write_npz(maze))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a file of this kind" * 100):
        path.write_bytes(content)
        with pytest.raises(SystemExit):
            main([layout, str(path), "my/data-v0"])
        assert f"{path} cannot be read; is the file complete?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([layout, "nowhere", "my/data-v0"])
    assert "nowhere: no such file" in capsys.readouterr().err


def test_an_ogbench_file_that_does_not_end_with_an_episode_is_refused(
    maze: Arrays, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terminals = maze["timeouts"].astype(np.float32)
    terminals[-1] = 0.0
    with pytest.raises(SystemExit):
        main(["ogbench", write_npz(maze, terminals=terminals), "my/play-v0"])
    assert "the last row does not end an episode" in capsys.readouterr().err


def test_a_killed_conversion_leaves_nothing_and_the_next_one_succeeds(root: Path) -> None:
    rows = 400_000
    flags = np.arange(rows) % 20 == 19
    zeros = np.zeros((rows, 8), np.float32)
    actions = np.random.default_rng(0).uniform(-1, 1, (rows, 2)).astype(np.float32)
    arrays = {"observations": zeros, "actions": actions, "rewards": zeros[:, 0], "terminals": flags}
    file = write_hdf5(arrays)
    command = [sys.executable, "-m", "offline_gcrl.convert", "d4rl", file, "my/long-v0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 60
        while not list(root.rglob("main_data.hdf5")):
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
    assert minari.list_local_datasets() == {}
    assert not (root / "my/long-v0").exists()
    write_hdf5({name: array[:200] for name, array in arrays.items()})
    main(["d4rl", file, "my/long-v0"])
    assert list(minari.list_local_datasets()) == ["my/long-v0"]
    assert not list(root.rglob(".*"))


@pytest.mark.parametrize("layout", ["d4rl", "ogbench"])
def test_memory_does_not_grow_with_the_file(layout: str, tmp_path: Path) -> None:
    rows = 120_000
    flags = (np.arange(rows) % 100 == 99).astype(np.float32)
    random = np.random.default_rng(0)
    arrays = {
        "observations": np.zeros((rows, 50), np.float32),
        "actions": random.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": flags,
        "terminals": flags,
    }
    path = tmp_path / "file"
    if layout == "d4rl":
        write_hdf5(arrays, path)
    else:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)
    size = sum(array.nbytes for array in arrays.values())
    del arrays
    tracemalloc.start()
    plan = inspect_file(path, LAYOUTS[layout])
    assert sum(len(episode.rewards) for episode in read_episodes(plan, np.float32)) == 118_800
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 8


def ingested(recipe: Recipe, root: Path) -> dict[str, Any]:
    Path("parquet").mkdir()
    Path("hindsight").mkdir()
    return ingest(as_dataset(recipe), root, Path("parquet"))


def plain_recipe(goal: dict[str, Any]) -> Recipe:
    """A recipe of the data in `my/data-v0` with goals by distance."""
    content = {
        "title": "mine",
        "sources": [{"dataset": "my/data-v0", "kind": "exploration"}],
        "goal": {**goal, "success": {"kind": "distance", "tolerance": 1.0}},
        "task": "mine",
        "instruction": "Reach it.",
    }
    Path("mine.yaml").write_text(yaml.safe_dump(content))
    return load_recipe("mine", Path())


SHAPES: dict[str, tuple[Any, dict[str, Any], tuple[int, int]]] = {
    "goal dict": ({"observation": 4, "achieved_goal": 2, "desired_goal": 2}, {}, (4, 2)),
    "flat": (4, {"achieved": {"key": "observation", "columns": [0, 1]}, "desired": None}, (4, 2)),
    "full state": (4, {"achieved": "observation", "desired": None}, (4, 4)),
    "nested": (
        {"arm": {"joints": 3, "speeds": 3}, "goals": {"kettle": 2, "door": 1}},
        {"observation": "arm", "achieved": "goals", "desired": {"constant": [1.0, 0.0, 0.0]}},
        (6, 3),
    ),
    "keys with the names of transition keys, and with dots": (
        {"actions": 3, "rewards": 2, "arm.hand": 2, "arm": {"joint": 1}},
        {"observation": ["actions", "arm.joint"], "achieved": "arm.hand", "desired": "rewards"},
        (4, 2),
    ),
    "several keys": (
        {"joints": 3, "hand": 2},
        {"observation": ["joints", "hand"], "achieved": "hand", "desired": None},
        (5, 2),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_observations_of_any_shape_are_ingested_and_relabelled(shape: str, root: Path) -> None:
    sizes, goal, expected = SHAPES[shape]
    write_minari("my/data-v0", root, episode_buffers(sizes), space_of(sizes))
    recipe = plain_recipe(goal)
    ingested(recipe, root)
    relabel(Path("parquet"), Path("hindsight"), Relabel(k=2), recipe.goal)
    episodes = open_episodes(Path("parquet"))
    assert (episodes.observation.shape, episodes.achieved_goal.shape) == (
        (18, expected[0]),
        (18, expected[1]),
    )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"observation": 4, "infos": 2}, "the observation has a key 'infos', under which recipes"),
        ({"observation": 4, "a.b": 2, "a": {"b": 2}}, "'a.b' is the name of 2 observation keys"),
    ],
)
def test_keys_whose_names_are_ambiguous_are_refused(
    sizes: dict[str, Any], message: str, root: Path
) -> None:
    write_minari("my/data-v0", root, episode_buffers(sizes), space_of(sizes))
    goal = {"achieved": [name for name in sizes if name not in ("observation", "a")]}
    recipe = plain_recipe({**goal, "desired": None})
    with pytest.raises(DataError, match=f"dataset 'my/data-v0', episode 0: .*{message}"):
        ingested(recipe, root)


PAGE = (ROOT / "docs/adding-datasets.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def arm(root: Path) -> tuple[Path, Recipe]:
    """The dataset and the recipe of the page."""
    program = next(content for language, content in BLOCKS if language == "python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(program, {})
    Path("my-arm.yaml").write_text(
        next(content for language, content in BLOCKS if "my-arm.yaml" in content)
    )
    return root / "my/arm-v0/data", load_recipe("my-arm", Path())


def test_the_page_quotes_the_real_messages(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message of the last table of the page is produced, each with new data."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    table = PAGE.split("| message | meaning |")[1]
    sayings = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)

    def typo(folder: Path, recipe: Recipe) -> Recipe:
        fetch_published("my/arm-v1", Path("here"))
        return recipe

    def state_missing(folder: Path, recipe: Recipe) -> Recipe:
        with h5py.File(folder / "main_data.hdf5", "a") as file:
            short = file["episode_3/observations"][:-1]
            del file["episode_3/observations"]
            file["episode_3/observations"] = short
        return recipe

    def key_missing(folder: Path, recipe: Recipe) -> Recipe:
        goal = recipe.goal.model_copy(update={"achieved": (Part(key="hand"),)})
        return recipe.model_copy(update={"goal": goal})

    def too_strong(folder: Path, recipe: Recipe) -> Recipe:
        with h5py.File(folder / "main_data.hdf5", "a") as file:
            file["episode_0/actions"][7] = [1.2, 0.0]
        return recipe

    def killed(folder: Path, recipe: Recipe) -> Recipe:
        with h5py.File(folder / "main_data.hdf5", "a") as file:
            for number in range(7, 20):
                del file[f"episode_{number}"]
        facts = json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").write_text(json.dumps({**facts, "total_episodes": 0}))
        return recipe

    def broken_off(folder: Path, recipe: Recipe) -> Recipe:
        path = folder / "main_data.hdf5"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return recipe

    cases = [typo, state_missing, key_missing, too_strong, killed, broken_off]
    for provoke, saying in zip(cases, sayings, strict=True):
        shutil.rmtree(root, ignore_errors=True)
        folder, recipe = arm(root)
        said = r".*".join(map(re.escape, saying.split(" ... ")))
        with pytest.raises(DataError, match=f"(?s){said}"):
            ingest(as_dataset(provoke(folder, recipe)), root, Path())


def test_the_library_trains_on_the_data_of_the_page_without_a_recipe(root: Path) -> None:
    arm(root)
    page = (ROOT / "docs/library.md").read_text()
    (program,) = re.findall(r"```python\n(arm = .*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"og": og, "np": np}
    exec(program.replace("updates=2_000", "updates=10, hidden=[8]"), names)
    assert names["action"].shape == (2,)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_step_of_the_page_on_own_data_works(maze: Arrays, tmp_path: Path) -> None:
    """In the order of the page: every block of Python is run, every file is written, every command is run."""
    small = {
        "experiment": {"name": "own", "datasets": [], "agents": [], "seeds": [0]},
        "train": {"updates": 40, "batch_size": 32, "snapshots": 2},
        "evaluate": {"episodes": 3, "curve_episodes": 1, "video": {"episodes": 1, "size": 64}},
    }
    project = Project.cloned(tmp_path / "repo", small)
    write_hdf5(classic(maze), project.folder / "maze2d.hdf5")
    write_npz(maze, project.folder / "play.npz")
    for language, content in BLOCKS:
        if language == "python":
            typed(project, f"{shlex.quote(sys.executable)} -W ignore -c {shlex.quote(content)}")
        elif language == "yaml":
            write_block(project, content)
        else:
            for line in content.splitlines():
                typed(project, line.removeprefix("$ "))
    results = project.folder / "results/my-arm"
    assert "names no evaluation environment" in (results / "gciql/skipped.json").read_text()
    assert (project.folder / "models/my-arm/gciql/seed-0/policy.pt").exists()


def write_block(project: Project, content: str) -> None:
    """Write the file of a block of YAML; parameters override existing ones."""
    path = content.splitlines()[0].removeprefix("# ")
    if path == "params.yaml":
        project.change(lambda params: params.update(yaml.safe_load(content)))
    else:
        (project.folder / path).write_text(content)


def typed(project: Project, line: str) -> str:
    answer = subprocess.run(
        ["bash", "-c", line],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, f"$ {line}\n{answer.stdout}{answer.stderr}"
    return answer.stdout
