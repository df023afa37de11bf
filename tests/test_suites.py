"""Several recipes as tasks of one dataset: padding, separate goals, task inputs of policies, evaluation per task."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg
import numpy as np
import polars as pl
import pytest
from conftest import RECIPES, as_dataset, small_recipe
from numpy.typing import NDArray

from offline_gcrl.agents import settings_type
from offline_gcrl.collect.collector import collect_source
from offline_gcrl.config import (
    Dataset,
    Environment,
    Evaluate,
    Params,
    Recipe,
    Relabel,
    Sampling,
    Source,
    Success,
    Train,
    Video,
    check_evaluation,
    resolve,
)
from offline_gcrl.config.episode_checks import remark_on_episodes
from offline_gcrl.config.outputs import POLICY
from offline_gcrl.environments.making import can_render, make_environment
from offline_gcrl.environments.tasks import check_tasks
from offline_gcrl.episodes.dataset import Episodes, open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.evaluation.jobs import FINAL, episode_jobs
from offline_gcrl.evaluation.plan import evaluate, plan_evaluation
from offline_gcrl.evaluation.results import SeedResult, flat_metrics, summarise_by_task
from offline_gcrl.evaluation.rollouts import rollout, run_episode
from offline_gcrl.evaluation.videos import plan_videos, write_videos
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.policy import load_policy
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_seed

REACH, MAZE = "fetch-reach", "pointmaze-umaze"
SIZES = {REACH: {"observation": 10, "goal": 3, "action": 4}, MAZE: {"observation": 4, "goal": 2, "action": 2}}  # fmt: skip


def task(name: str, steps: int = 30, tolerance: float = 0.3) -> Recipe:
    """A small recipe with short evaluation episodes and the success test of all tasks here."""
    recipe = small_recipe(name, steps=steps)
    assert recipe.evaluation is not None
    environment = recipe.evaluation.environment
    kwargs = {**environment.kwargs, "max_episode_steps": steps}
    evaluation_environment = environment.model_copy(update={"kwargs": kwargs})
    success = Success(kind="distance", tolerance=tolerance)
    return recipe.model_copy(
        update={
            "goal": recipe.goal.model_copy(update={"success": success}),
            "evaluation": recipe.evaluation.model_copy(
                update={"environment": evaluation_environment}
            ),
        }
    )


@dataclass(frozen=True)
class SuiteFolders:
    """The outputs of all stages for a padded suite of two tasks that differ in every size."""

    root: Path
    dataset: Dataset = field(default_factory=lambda: as_dataset(task(REACH), task(MAZE), pad=True))

    @property
    def episodes(self) -> Episodes:
        return open_episodes(self.root / "parquet")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> SuiteFolders:
    made = SuiteFolders(tmp_path_factory.mktemp("suite"))
    for name in ("minari", "parquet", "hindsight"):
        (made.root / name).mkdir()
    for recipe in made.dataset.recipes:
        for source in recipe.sources:
            collect_source(recipe, source, made.root / "minari", workers=1)
    ingest(made.dataset, made.root / "minari", made.root / "parquet")
    goal = made.dataset.recipes[0].goal
    relabel(made.root / "parquet", made.root / "hindsight", Relabel(k=2), goal)
    return made


@pytest.fixture(scope="module")
def policies(suite: SuiteFolders) -> Path:
    """Behaviour cloning conditioned on the goal and the task, after some updates."""
    content = {
        "algorithm": "bc",
        "hidden": [32],
        "learning_rate": 0.01,
        "conditioning": "goal+one_hot",
    }
    job = TrainingJob(
        dataset="small",
        agent="bc",
        seed=0,
        episodes=suite.root / "parquet",
        hindsight=suite.root / "hindsight",
        train=Train(updates=100, batch_size=64, snapshots=1),
        settings=settings_type("bc").model_validate_json(json.dumps(content)),
        checkpoints=suite.root / "checkpoints" / "one",
        output=suite.root / "models" / "seed-0",
    )
    train_seed(job, lambda event: None)
    return job.output


def test_tasks_follow_each_other_in_the_order_of_the_suite(suite: SuiteFolders) -> None:
    episodes = suite.episodes
    assert episodes.schema["tasks"] == [REACH, MAZE]
    assert episodes.table["task"].to_list() == [REACH] * 9 + [MAZE] * 9
    assert episodes.schema["instructions"][1] == "Go to the red ball."
    sources = episodes.schema["counts"]["sources"].values()
    assert [source["task"] for source in sources] == [REACH, REACH, MAZE, MAZE]


def test_smaller_vectors_are_padded_with_zeros(suite: SuiteFolders) -> None:
    episodes = suite.episodes
    tasks = episodes.per_row("task")
    for name, column in (
        ("observation", "observation"),
        ("goal", "achieved_goal"),
        ("goal", "desired_goal"),
        ("action", "action"),
    ):
        values = getattr(episodes, column)
        assert values.shape[1] == SIZES[REACH][name]
        assert not values[tasks == MAZE, SIZES[MAZE][name] :].any()
        assert values[tasks == MAZE, SIZES[MAZE][name] - 1].any()
        assert values[tasks == REACH, SIZES[REACH][name] - 1].any()
    assert episodes.schema["action_space"] == {"low": [-1.0] * 4, "high": [1.0] * 4}


def test_random_goals_are_states_of_the_same_task(suite: SuiteFolders) -> None:
    table = pl.read_parquet(suite.root / "hindsight/table.parquet")
    tasks = suite.episodes.per_row("task")
    for draw in range(2):
        goals = table[f"random_goal_{draw}"].to_numpy()
        np.testing.assert_array_equal(tasks[goals], tasks[table["row"].to_numpy()])
    reached = table["random_goal_0"].to_numpy()
    assert len(np.unique(suite.episodes.per_row("episode")[reached])) == 18


def test_labels_equal_those_of_the_task_alone(suite: SuiteFolders) -> None:
    """Zeros of padding do not change a distance."""
    episodes = suite.episodes
    table = pl.read_parquet(suite.root / "hindsight/table.parquet")
    rows = table["row"].to_numpy()
    size = np.where(episodes.per_row("task") == MAZE, 2, 3)
    goals = table["future_goal_0"].to_numpy()
    for row, goal, reward in zip(rows, goals, table["future_reward_0"], strict=True):
        own = slice(size[row])
        gap = episodes.achieved_goal[row + 1, own] - episodes.achieved_goal[goal, own]
        assert (reward == 0) == (np.sqrt(gap @ gap) <= np.float32(0.3))


def test_a_batch_contains_the_task_of_each_state(suite: SuiteFolders) -> None:
    data = DeviceData(suite.episodes)
    sampling = Sampling(fields=("observations", "tasks"), actor_goals={"original": 1.0})
    sampler = BatchSampler(
        data, suite.root / "hindsight", sampling, split="train", batch_size=64, seed=0
    )
    batch = {name: tensor.flatten(0, 1) for name, tensor in sampler.batches(0, 4).items()}
    in_maze = batch["tasks"] == 1
    assert 0.2 < in_maze.float().mean() < 0.8
    nothing = data.scaling.observations(np.zeros(10, dtype=np.float32))[4:]
    np.testing.assert_array_equal(batch["observations"][in_maze][:, 4:] == nothing, True)
    assert not (batch["observations"][~in_maze][:, 4:].numpy() == nothing).all(1).any()


class Witness:
    """A fake policy that records its inputs."""

    dimensions = Dimensions(observation=10, goal=3, action=4, tasks=2)
    vocabulary = None
    inputs = SimpleNamespace(sees_states=False, sees_goals=False)

    def __init__(self) -> None:
        self.asked: list[tuple[NDArray[Any], NDArray[Any], str]] = []

    def episode(self) -> "Witness":
        return self

    def act(self, observation: Any, goal: Any, task: str) -> NDArray[np.float32]:
        self.asked.append((observation, goal, task))
        return np.full(4, 0.5, dtype=np.float32)


def test_in_evaluation_a_policy_gets_padded_states_and_its_task(suite: SuiteFolders) -> None:
    jobs = episode_jobs(Path("unused"), suite.dataset, Evaluate(episodes=4), 0, FINAL)
    assert [job.task for job in jobs] == [REACH, MAZE, REACH, MAZE]
    for job in jobs[:2]:
        witness = Witness()
        environment = make_environment(job.evaluation.environment)
        moments = list(rollout(environment, witness, job))  # type: ignore[arg-type]
        assert len(witness.asked) == len(moments) - 1
        for observation, goal, task in witness.asked:
            assert (observation.shape, goal.shape, task) == ((10,), (3,), job.task)
            assert not observation[SIZES[job.task]["observation"] :].any()
            assert not goal[SIZES[job.task]["goal"] :].any()
        assert moments[0].desired.shape == (SIZES[job.task]["goal"],)


def test_an_evaluation_episode_belongs_to_its_own_task(suite: SuiteFolders, policies: Path) -> None:
    """Repeated by hand, conditioned on its task, the episode ends the same way; with the other task, differently."""
    policy = load_policy(policies)
    job = episode_jobs(policies / POLICY, suite.dataset, Evaluate(episodes=2), 0, FINAL)[1]
    row = run_episode(job)
    ends = {}
    for task in (MAZE, REACH):
        environment = make_environment(job.evaluation.environment)
        seen, _ = environment.reset(seed=job.seed)
        ended = False
        while not ended:
            state = np.concatenate([seen["observation"], np.zeros(6)])
            goal = np.concatenate([seen["desired_goal"], np.zeros(1)])
            action = policy.act(state, goal, task)[:2]
            seen, _, terminated, truncated, _ = environment.step(action)
            ended = terminated or truncated
        ends[task] = np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"])
    assert row["final_distance"] == pytest.approx(ends[MAZE])
    assert row["final_distance"] != pytest.approx(ends[REACH], abs=1e-4)


@pytest.fixture(scope="module")
def result(suite: SuiteFolders, policies: Path) -> SeedResult:
    plan = plan_evaluation({0: policies}, suite.dataset, Evaluate(episodes=10, curve_episodes=2))
    return evaluate(plan, workers=1)[0]


def test_any_number_of_workers_gives_the_same_evaluation_of_a_suite(
    suite: SuiteFolders, policies: Path, result: SeedResult
) -> None:
    settings = Evaluate(episodes=10, curve_episodes=2)
    again = evaluate(plan_evaluation({0: policies}, suite.dataset, settings), workers=3)[0]
    assert again.episodes.equals(result.episodes)


def test_each_task_has_its_own_metrics(result: SeedResult) -> None:
    by_task = summarise_by_task([result.episodes])
    assert set(by_task) == {REACH, MAZE}
    for name, metrics in by_task.items():
        own = result.episodes.filter(pl.col("task") == name)
        assert metrics["success_rate"]["episodes"] == len(own) == 5
        assert metrics["success_rate"]["mean"] == own["success"].mean()
        assert metrics["final_distance"]["mean"] == pytest.approx(own["final_distance"].mean())
    flat = flat_metrics(result)
    assert flat[f"success_any_rate/{REACH}"] == by_task[REACH]["success_any_rate"]["mean"]
    assert flat["success_rate"] == pytest.approx(
        np.mean([flat[f"success_rate/{name}"] for name in (REACH, MAZE)])
    )


@pytest.mark.skipif(not can_render(), reason="no GL library")
# imageio-ffmpeg leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_video_shows_tasks_side_by_side(
    suite: SuiteFolders, policies: Path, tmp_path: Path
) -> None:
    (tmp_path / "seed-0").mkdir()
    settings = Evaluate(video=Video(episodes=2, size=96))
    plan = plan_evaluation({0: policies}, suite.dataset, settings)
    assert write_videos(plan_videos(plan, {}, settings.video, tmp_path)) is None
    with closing(imageio_ffmpeg.read_frames(str(tmp_path / "seed-0/rollouts.mp4"))) as frames:
        width, height = next(frames)["size"]
        picture = np.frombuffer(next(frames), np.uint8).reshape(height, width, 3).astype(float)
    assert width == 2 * 96
    assert np.abs(picture[:, :96].mean((0, 1)) - picture[:, 96:].mean((0, 1))).max() > 5


def pendulum(**changed: Any) -> Recipe:
    """A task with other bounds of actions than a maze, -2 and 2."""
    environment = {"id": "Pendulum-v1"}
    content = {
        "title": "a pendulum",
        "environment": environment,
        "sources": [
            {
                "dataset": "test/pendulum-v0",
                "kind": "exploration",
                "episodes": 2,
                "collect": {"policy": "uniform"},
            }
        ],
        "goal": {
            "achieved": {"key": "observation", "columns": [0, 1]},
            "desired": {"constant": [1.0, 0.0]},
            "success": {"kind": "distance", "tolerance": 0.3},
        },
        "evaluation": {"environment": environment},
        "task": "pendulum",
        "instruction": "Stand up.",
        **changed,
    }
    return Recipe.model_validate_json(json.dumps(content))


def test_tasks_that_one_policy_fits_pass(suite: SuiteFolders) -> None:
    check_tasks(suite.dataset, "suite.yaml")
    check_tasks(as_dataset(task(MAZE), task("pointmaze-medium")), "suite.yaml")


def faulty_suites() -> Iterator[tuple[Dataset, str]]:
    reach, maze = task(REACH), task(MAZE)
    yield (
        as_dataset(reach, maze),
        "members: 'fetch-reach' and 'pointmaze-umaze' have observations of 10 and of 4 numbers; 'pad: true'",
    )
    yield (
        as_dataset(maze, pendulum(), pad=True),
        r"'pendulum' have different bounds of actions: the range of dimension 0 is \[-1.0, 1.0\] in one and "
        r"\[-2.0, 2.0\]",
    )
    assert reach.evaluation is not None
    elsewhere = reach.evaluation.model_copy(
        update={"environment": Environment(id="FetchPush-v4", kwargs={"max_episode_steps": 5})}
    )
    yield (
        as_dataset(reach.model_copy(update={"evaluation": elsewhere})),
        "the environments for collecting and evaluation of 'fetch-reach' have observations of 10 and of 25",
    )
    yield (
        as_dataset(pendulum(evaluation=None, environment={"id": "CartPole-v1"})),
        r"CartPole-v1: the action space is Discrete\(2\); agents need a Box with finite bounds",
    )
    split = Success(kind="distance", tolerance=0.3, parts=(1, 1))
    goal = maze.goal.model_copy(update={"success": split})
    yield (
        as_dataset(reach, maze.model_copy(update={"goal": goal})).model_copy(
            update={"recipes": (maze.model_copy(update={"goal": goal}), reach), "pad": True}
        ),
        "'parts' sum to 2, and padded goals have 3 dimensions",
    )


@pytest.mark.parametrize(("dataset", "message"), list(faulty_suites()))
def test_tasks_that_one_policy_cannot_fit_are_named_before_any_work(
    dataset: Dataset, message: str
) -> None:
    with pytest.raises(SettingsError, match=f"suite.yaml: .*{message}"):
        check_tasks(dataset, "suite.yaml")


def test_a_suite_needs_an_episode_of_each_task_also_on_the_curve(suite: SuiteFolders) -> None:
    def params(**settings: int) -> Params:
        experiment = {"datasets": ["small"], "agents": ["bc"], "seeds": [0]}
        content = {"experiment": experiment, "relabel": {}, "train": {}, "agents": {}}
        return Params.model_validate_json(json.dumps({**content, "evaluate": settings}))

    check_evaluation(params(episodes=2, curve_episodes=2), suite.dataset)
    with pytest.raises(SettingsError, match="evaluate.episodes: 1 are too few .* at least 2"):
        check_evaluation(params(episodes=1, curve_episodes=2), suite.dataset)
    with pytest.raises(SettingsError, match="evaluate.curve_episodes: 1 are too few"):
        check_evaluation(params(episodes=2, curve_episodes=1), suite.dataset)
    assert remark_on_episodes(Evaluate(episodes=4), suite.dataset) == ""
    assert "is no multiple of the 2 tasks of small" in remark_on_episodes(
        Evaluate(episodes=5), suite.dataset
    )
    assert remark_on_episodes(Evaluate(episodes=5), suite.dataset).endswith("set 4 or 6")


def written(folder: Path, **recipes: str) -> Path:
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


MEMBER = """
title: t
sources: [{dataset: test/%s-v0, kind: exploration}]
goal: {success: {kind: distance, tolerance: 0.1}%s}
evaluation: {environment: {id: PointMaze_UMaze-v3}, criterion: %s}
task: %s
instruction: Go.
"""
SUITE = "title: t\nmembers: [one, two]\n"


@pytest.mark.parametrize(
    ("two", "message"),
    [
        (MEMBER % ("two", "", "any_step", "two"), "evaluation.criterion is 'last_step' for some and 'any_step' for others"),
        (MEMBER % ("two", "", "last_step", "one"), "task 'one' occurs twice"),
        (MEMBER % ("one", "", "last_step", "two"), "source 'test/one-v0' occurs twice"),
        (
            MEMBER % ("two", ", achieved: observation", "last_step", "two"),
            "the goals of only one of 'two' and 'one' are full states",
        ),
        (MEMBER.replace("0.1", "0.2") % ("two", "", "last_step", "two"), "'two' and 'one' differ in goal.success"),
        (SUITE, "this is a suite; a recipe with sources is needed"),
    ],
)  # fmt: skip
def test_members_that_do_not_fit_together_are_named(two: str, message: str, tmp_path: Path) -> None:
    one = MEMBER % ("one", "", "last_step", "one")
    folder = written(tmp_path, one=one, two=two, suite=SUITE)
    with pytest.raises(SettingsError, match=message):
        resolve("suite", folder=folder)


def test_the_mazes_are_a_suite_of_three_tasks() -> None:
    dataset = resolve("pointmaze-suite", episodes=20, folder=RECIPES)
    assert dataset.tasks == ("pointmaze-umaze", "pointmaze-medium", "pointmaze-large")
    counts = [[source.episodes for source in recipe.sources] for recipe in dataset.recipes]
    assert counts == [[18, 2]] * 3
    check_tasks(dataset, "pointmaze-suite.yaml")


def test_sizes_that_differ_without_padding_are_refused_at_ingest(
    suite: SuiteFolders, tmp_path: Path
) -> None:
    unpadded = suite.dataset.model_copy(update={"pad": False})
    with pytest.raises(
        DataError,
        match="observation has 10 numbers in 'fetch-reach' and 4 in 'pointmaze-umaze'; set 'pad: true'",
    ):
        ingest(unpadded, suite.root / "minari", tmp_path)


def test_bounds_that_differ_are_refused_at_ingest(suite: SuiteFolders, tmp_path: Path) -> None:
    recipe, maze = pendulum(), suite.dataset.recipes[1]
    root = suite.root / "minari"
    collect_source(recipe, recipe.sources[0], root, workers=1)
    with pytest.raises(
        DataError,
        match=r"action 0 has the bounds \[-1.0, 1.0\] in one task and \[-2.0, 2.0\] in another",
    ):
        ingest(as_dataset(maze, recipe, pad=True), root, tmp_path)


def test_sources_of_one_recipe_share_their_spaces(suite: SuiteFolders, tmp_path: Path) -> None:
    reach, maze = suite.dataset.recipes
    sources: tuple[Source, ...] = (maze.sources[0], reach.sources[0])
    with pytest.raises(DataError, match="observation_space .* is not that of .*umaze/explore-v0"):
        ingest(
            as_dataset(maze.model_copy(update={"sources": sources})),
            suite.root / "minari",
            tmp_path,
        )
