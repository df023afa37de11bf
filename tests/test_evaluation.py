"""Evaluation gives the same table for any number of workers, and intervals with correct coverage."""

import gc
import json
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import numpy as np
import polars as pl
import pytest
import torch
from conftest import SmallDataset, as_dataset, small_recipe
from numpy.typing import NDArray

from offline_gcrl.agents import agent_type, settings_type
from offline_gcrl.config import Evaluate, Goal, Success, Video
from offline_gcrl.environments.cameras import as_pixels, prepare, shows_goal
from offline_gcrl.environments.making import can_render, make_environment
from offline_gcrl.environments.selection import as_tree
from offline_gcrl.evaluation import videos
from offline_gcrl.evaluation.jobs import CURVE, FINAL, episode_jobs, evaluation_seeds
from offline_gcrl.evaluation.results import episode_table, flat, learning_curve, summarise
from offline_gcrl.evaluation.rollouts import has_reached, run_episode, run_episodes
from offline_gcrl.evaluation.videos import (
    FAILED,
    REACHED,
    plan_videos,
    with_circle,
    write_videos,
)
from offline_gcrl.policies.policy import load_policy, save_policy
from offline_gcrl.report.numbers import estimate, shown
from offline_gcrl.statistics.intervals import (
    across_seeds,
    means_at_once,
    means_one_by_one,
    rate_across_seeds,
    wilson,
)
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.training.batches.data import DeviceData


@pytest.fixture(scope="module")
def policy(dataset: SmallDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy, which sometimes reaches its goal by chance."""
    content = {"algorithm": "bc", "hidden": [16]}
    settings = settings_type("bc").model_validate_json(json.dumps(content))
    data = DeviceData(dataset.episodes)
    torch.manual_seed(0)
    agent = agent_type("bc")(settings, data.dimensions)
    with torch.no_grad():
        for parameter in agent.actor.parameters():
            parameter.mul_(30.0)
    path = tmp_path_factory.mktemp("policy") / "policy.pt"
    tasks = tuple(dataset.episodes.schema["tasks"])
    save_policy(path, agent, "bc", settings, data.scaling, data.dimensions, tasks, {"updates": 10})
    return path


def test_any_number_of_workers_gives_the_same_table(policy: Path) -> None:
    jobs = episode_jobs(policy, as_dataset(small_recipe()), Evaluate(episodes=8), 0, FINAL)
    tables = [episode_table(run_episodes(jobs, workers)) for workers in (1, 2, 4)]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
    assert tables[0]["goal"].n_unique() == 8


def test_no_evaluation_seed_is_a_seed_of_the_data() -> None:
    collected = {
        int(np.random.SeedSequence([seed, index]).generate_state(2)[0])
        for seed in range(3)
        for index in range(2000)
    }
    evaluated = {
        reset_seed
        for training_seed in range(10)
        for purpose in (FINAL, CURVE)
        for reset_seed in evaluation_seeds(0, training_seed, purpose, 100)
    }
    assert not collected & evaluated


def test_the_final_episodes_are_not_those_of_the_curve_or_of_another_seed() -> None:
    seeds = [
        set(evaluation_seeds(0, training_seed, purpose, 200))
        for training_seed in (0, 1)
        for purpose in (FINAL, CURVE)
    ]
    assert len(set.union(*seeds)) == 800


@pytest.mark.parametrize("name", ["pointmaze-umaze", "fetch-reach"])
def test_success_is_what_the_environment_says(name: str) -> None:
    recipe = small_recipe(name)
    environment = make_environment(recipe.evaluation.environment)
    random = np.random.default_rng(0)
    for seed in range(3):
        observation, info = environment.reset(seed=seed)
        for _ in range(40):
            drive = 5 * (observation["desired_goal"] - observation["achieved_goal"])
            action = random.normal(scale=0.1, size=environment.action_space.shape)
            action[: len(drive)] += drive
            observation, _, terminated, truncated, info = environment.step(
                action.astype(np.float32)
            )
            said = info.get("success", info.get("is_success"))
            assert has_reached(as_tree(observation, info), recipe.goal) == bool(said)
            if terminated or truncated:
                break


def test_goals_without_a_tolerance_use_the_success_of_the_environment() -> None:
    goal = Goal.model_validate_json('{"success": {"kind": "same_step"}}')
    assert has_reached(as_tree({}, {"success": 1.0}), goal)
    # The difference of 16 in uint8 has the square 0.
    small = {"achieved_goal": np.array([1], np.uint8), "desired_goal": np.array([17], np.uint8)}
    assert not has_reached(as_tree(small), Goal(success=Success(kind="distance", tolerance=0.5)))
    assert not has_reached(as_tree({}, {"is_success": False}), goal)


def test_a_row_has_the_outcome_of_its_episode(policy: Path) -> None:
    job = episode_jobs(
        policy, as_dataset(small_recipe()), Evaluate(episodes=1, discount=0.9), 0, FINAL
    )[0]
    row = run_episode(job)
    environment = make_environment(job.evaluation.environment)
    observation, _ = environment.reset(seed=job.seed)
    assert row["goal"] == observation["desired_goal"].tolist()
    assert row["length"] <= 300
    if row["success"]:
        assert row["steps_to_goal"] == row["length"]
        assert row["discounted_return"] == pytest.approx(0.9 ** (row["length"] - 1))
    else:
        assert row["steps_to_goal"] is None
        assert row["discounted_return"] == 0.0


class Diverging(gymnasium.ObservationWrapper):
    """A simulation in which one part of the observation is NaN."""

    def __init__(self, environment: gymnasium.Env, part: str) -> None:
        super().__init__(environment)
        self.part = part

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        return observation | {self.part: np.full_like(observation[self.part], np.nan)}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("observation", r"the observation is not finite at \[0\]: nan"),
        ("achieved_goal", r"the achieved goal is not finite: \[nan nan\]"),
        ("desired_goal", r"the desired goal is not finite: \[nan nan\]"),
    ],
)
def test_an_environment_whose_numbers_are_not_finite_is_named_with_the_episode(
    policy: Path, part: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = episode_jobs(policy, as_dataset(small_recipe()), Evaluate(episodes=1), 0, FINAL)[0]
    monkeypatch.setattr(
        "offline_gcrl.evaluation.rollouts.shared_environment",
        lambda settings: Diverging(make_environment(settings), part),
    )
    where = f"PointMaze_UMaze-v3, evaluation episode 0 with seed {job.seed}: {message}"
    with pytest.raises(OfflineGCRLError, match=where):
        run_episode(job)


def table(success: list[bool]) -> pl.DataFrame:
    rows = [
        {
            "update": 1,
            "episode": number,
            "seed": number,
            "task": "t",
            "task_id": None,
            "start": [0.0],
            "goal": [1.0],
            "success": value,
            "success_any": True,
            "final_distance": 0.5,
            "return": 1.0,
            "discounted_return": 0.5,
            "steps_to_goal": 3 if value else None,
            "length": 5,
        }
        for number, value in enumerate(success)
    ]
    return episode_table(rows)


def test_a_summary_has_every_metric_with_its_interval() -> None:
    summary = summarise([table([True, False] * 10), table([True] * 20)])
    rate = summary["success_rate"]
    assert rate["mean"] == pytest.approx(0.75)
    assert rate["low"] < 0.75 < rate["high"]
    assert (rate["seeds"], rate["episodes"]) == (2, 40)
    assert summary["steps_to_goal"]["mean"] == 3.0
    assert summary["steps_to_goal"]["episodes"] == 30
    assert summarise([table([False] * 4)])["steps_to_goal"]["mean"] is None


def test_a_metric_of_a_single_episode_has_no_interval() -> None:
    summary = summarise([table([True, False]), table([False])])
    steps = {"mean": 3.0, "low": None, "high": None, "episodes": 1, "seeds": 1}
    assert summary["steps_to_goal"] == steps
    assert shown(steps) == "3.00"
    assert shown(summary["success_rate"]) == estimate(summary["success_rate"])
    assert "steps_to_goal_low" not in flat(summary)


def test_a_learning_curve_has_one_row_per_snapshot() -> None:
    both = pl.concat(
        [table([True, False]), table([True, True]).with_columns(update=pl.lit(2, pl.Int64))]
    )
    curve = learning_curve(both)
    assert curve["update"].to_list() == [1, 2]
    assert curve["mean"].to_list() == [0.5, 1.0]


def test_wilson_is_the_published_interval() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    estimate = wilson(81, 263)
    assert (estimate.low, estimate.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert (wilson(0, 20).low, wilson(0, 20).high) == pytest.approx((0.0, 0.1611), abs=5e-5)


def seeds_of(random: np.random.Generator, seeds: int, episodes: int) -> list[NDArray[np.float64]]:
    rates = np.clip(random.normal(0.7, 0.05, seeds), 0, 1)
    return [random.binomial(1, rate, episodes).astype(np.float64) for rate in rates]


def test_intervals_across_seeds_cover_the_true_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offline_gcrl.statistics.intervals.RESAMPLES", 500)
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        estimate = rate_across_seeds(seeds_of(random, 5, 50))
        covered += estimate.low <= 0.7 <= estimate.high
    assert covered >= 50


def test_an_interval_never_claims_certainty() -> None:
    estimate = rate_across_seeds([np.ones(100)] * 3)
    assert estimate.mean == 1.0
    assert estimate.low == pytest.approx(wilson(300, 300).low)


@pytest.mark.parametrize(("seeds", "episodes"), [(3, 100), (10, 7), (2, 1)])
def test_resamples_drawn_at_once_are_those_drawn_one_by_one(seeds: int, episodes: int) -> None:
    values = np.random.default_rng(2).normal(size=(seeds, episodes))
    np.testing.assert_array_equal(means_at_once(values), means_one_by_one(list(values)))


def test_intervals_are_the_same_each_time() -> None:
    groups = seeds_of(np.random.default_rng(1), 3, 20)
    assert across_seeds(groups) == across_seeds(groups)


@pytest.mark.skipif(not can_render(), reason="no GL library")
# imageio-ffmpeg leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_video_shows_the_episodes(policy: Path, tmp_path: Path) -> None:
    settings = Evaluate(video=Video(episodes=3, size=96))
    (tmp_path / "seed-0").mkdir()
    jobs = episode_jobs(policy, as_dataset(small_recipe()), settings, 0, FINAL)
    assert write_videos(plan_videos({(0, FINAL): jobs}, {}, settings.video, tmp_path)) is None
    with closing(imageio_ffmpeg.read_frames(str(tmp_path / "seed-0/rollouts.mp4"))) as frames:
        # Two rows of two pictures with a line of text each, below a heading.
        assert next(frames)["size"] == (192, 264)
        pictures = [np.frombuffer(frame, np.uint8) for frame in frames]
    assert len(pictures) > 10
    assert any(not np.array_equal(pictures[0], other) for other in pictures[1:])
    last = pictures[-1].reshape(264, 192, 3)
    # The strip below each picture has the colour of its end, and the fourth place is blank.
    ends = [REACHED if run_episode(job)["success"] else FAILED for job in jobs[:3]]
    for place, colour in enumerate([*ends, (255, 255, 255)]):
        row, column = divmod(place, 2)
        found = last[24 + 120 * (row + 1) - 3, 96 * column + 48]
        assert np.abs(found - np.array(colour)).max() < 25


@pytest.mark.skipif(not can_render(), reason="no GL library")
def test_an_environment_that_is_freed_late_blackens_no_picture(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*arguments: Any, **named: Any) -> Any:
        environment = make_environment(*arguments, **named)
        environment.unwrapped.itself = environment.unwrapped  # type: ignore[attr-defined]
        render, pictures = environment.render, []

        def render_after_collection() -> Any:
            if len(pictures) == 2 and gc.isenabled():  # Garbage could be collected now.
                gc.collect()
            pictures.append(render())
            return pictures[-1]

        environment.render = render_after_collection  # type: ignore[method-assign]
        return environment

    monkeypatch.setattr(videos, "make_environment", make)
    jobs = episode_jobs(policy, as_dataset(small_recipe()), Evaluate(), 0, FINAL)
    for job in jobs[:2]:
        for picture in videos._rendered_episode(job, load_policy(policy), Video(size=96)):
            assert np.median(picture[:96]) > 20


@pytest.mark.skipif(not can_render(), reason="no GL library")
def test_an_episode_leaves_no_environment_of_a_maze_behind() -> None:
    settings = small_recipe().evaluation
    assert settings is not None
    environment = make_environment(settings.environment)
    maze = weakref.ref(environment.unwrapped)
    gc.disable()
    try:
        environment.close()
        del environment
        assert maze() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not can_render(), reason="no GL library")
def test_the_camera_shows_the_complete_maze_and_its_goal_from_above() -> None:
    settings = small_recipe().evaluation
    assert settings is not None
    with closing(
        make_environment(settings.environment, render_mode="rgb_array", width=96, height=96)
    ) as environment:
        prepare(environment)
        environment.reset(seed=0)
        picture = np.asarray(environment.render()).astype(int)
        assert shows_goal(environment)
    walls = picture[[2, -3, 48, 48], [48, 48, 2, -3]]  # Near the middle of each edge.
    assert (walls[:, 0] > walls[:, 2] + 40).all()  # Orange, as the walls are; the floor is blue.


@pytest.mark.skipif(not can_render(), reason="no GL library")
def test_the_circle_around_a_goal_has_the_radius_of_success() -> None:
    recipe = small_recipe()
    assert recipe.evaluation is not None
    size, goal = 240, np.array([1.0, 1.0])
    with closing(
        make_environment(
            recipe.evaluation.environment, render_mode="rgb_array", width=size, height=size
        )
    ) as environment:
        prepare(environment)
        environment.reset(seed=0)
        plain = np.array(environment.render(), dtype=np.uint8)
        drawn = with_circle(plain, recipe.goal.success, goal, environment)
        places = as_pixels(environment, np.stack([goal, goal + np.array([0.45, 0.0])]), size)
    assert recipe.goal.success.tolerance == 0.45
    assert places is not None
    centre, edge = places
    rows, columns = np.nonzero((plain != drawn).any(2))
    distances = np.hypot(columns - centre[0], rows - centre[1])
    assert distances.mean() == pytest.approx(np.hypot(*(edge - centre)), abs=1.0)
    assert np.ptp(distances) < 12  # Smooth edges of a line of 2.5 pixels.
    unlimited = recipe.goal.success.model_copy(update={"kind": "same_step"})
    assert with_circle(plain, unlimited, goal, environment) is plain


def test_an_environment_that_shows_no_goal_is_recognised() -> None:
    environment = gymnasium.make("Pendulum-v1")
    prepare(environment)
    assert not shows_goal(environment)


def test_without_gl_there_is_one_plain_line(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    jobs = episode_jobs(policy, as_dataset(small_recipe()), Evaluate(), 0, FINAL)
    reason = write_videos(plan_videos({(0, FINAL): jobs}, {}, Video(), tmp_path))
    assert reason is not None
    assert "no GL library found" in reason
