"""Planning over states of the data, and maps of values."""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import RECIPES, ROOT, SmallDataset, as_dataset, small_recipe
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import shortest_path
from scipy.spatial import KDTree

from offline_gcrl.agents import agent_type, settings_type
from offline_gcrl.config import (
    Evaluate,
    Planner,
    Recipe,
    ValueMeaning,
    Video,
    check_planner,
    load_params,
    load_recipe,
)
from offline_gcrl.config.outputs import POLICY
from offline_gcrl.environments.cameras import as_pixels, prepare
from offline_gcrl.environments.making import can_render, make_environment, shared_environment
from offline_gcrl.environments.selection import evaluated_goal
from offline_gcrl.evaluation.jobs import FINAL, EpisodeJob, Planning, episode_job, episode_jobs
from offline_gcrl.evaluation.plan import plan_evaluation
from offline_gcrl.evaluation.planner import (
    Graph,
    Nodes,
    PlannedEpisode,
    data_nodes,
    farthest_points,
)
from offline_gcrl.evaluation.probes import planned_jobs
from offline_gcrl.evaluation.rollouts import rollout, run_episode
from offline_gcrl.evaluation.value_maps import position_columns, value_map, write_value_maps
from offline_gcrl.evaluation.videos import plan_videos, write_videos
from offline_gcrl.figures.scenes import free_positions, maze_walls
from offline_gcrl.policies.distances import as_steps
from offline_gcrl.policies.policy import Acting, load_policy, save_policy
from offline_gcrl.support.errors import DataError, PolicyError, SettingsError
from offline_gcrl.training.batches.data import DeviceData

SPEED = 0.04
"""Distance that the controller below covers in a step, in metres."""


def saved(algorithm: str, dataset: SmallDataset, folder: Path) -> Path:
    """An untrained policy with its value, if it has one."""
    content = {"algorithm": algorithm, "hidden": [16], "learning_rate": 0.01}
    settings = settings_type(algorithm).model_validate_json(json.dumps(content))
    data = DeviceData(dataset.episodes)
    torch.manual_seed(0)
    agent = agent_type(algorithm)(settings, data.dimensions)
    tasks, training = tuple(dataset.episodes.schema["tasks"]), {"updates": 10, "agent": algorithm}
    of = (agent, algorithm, settings, data.scaling, data.dimensions, tasks, training)
    save_policy(folder / POLICY, *of, with_value=True)
    return folder / POLICY


@pytest.fixture(scope="module")
def policies(dataset: SmallDataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("policies")
    return {
        name: saved(name, dataset, folder / name) for name in ("gciql", "qrl", "crl", "gofar", "bc")
    }


# ------------------------------------------------------------------------------- values as steps


@pytest.mark.parametrize(
    ("meaning", "value"),
    [
        ("steps", lambda steps: -steps),
        ("discounted_cost", lambda steps: -sum(0.95**k for k in range(steps))),
        ("discounted_success", lambda steps: 0.95**steps / (1.0 - 0.95)),
        ("discounted_probability", lambda steps: 0.95**steps),
    ],
)
def test_a_value_is_turned_into_the_steps_that_it_was_made_of(
    meaning: ValueMeaning, value: Any
) -> None:
    steps = np.arange(1, 60)
    values = np.array([value(int(count)) for count in steps], dtype=np.float32)
    np.testing.assert_allclose(as_steps(values, meaning, 0.95), steps, rtol=0.01)


@pytest.mark.parametrize(
    ("algorithm", "changed", "meaning"),
    [
        ("svl", {}, "discounted_cost"),
        ("actionable_models", {}, "discounted_probability"),
        ("actionable_models", {"form": "released"}, "other"),
    ],
)
def test_the_meaning_of_a_value_depends_on_the_form_of_the_algorithm(
    algorithm: str, changed: dict[str, str], meaning: ValueMeaning
) -> None:
    content = {"algorithm": algorithm, **changed}
    settings = settings_type(algorithm).model_validate_json(json.dumps(content))
    assert settings.value_meaning == meaning


def test_values_beyond_their_bounds_are_finite_numbers_of_steps() -> None:
    steps = as_steps(np.array([-1e6, 5.0], dtype=np.float32), "discounted_cost", 0.99)
    assert steps[0] > 1000
    assert 0.0 <= steps[1] < 0.01
    assert np.isfinite(steps).all()


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [("crl", "a ratio of likelihoods"), ("gofar", "no known relation"), ("bc", "it has no value")],
)
def test_policies_whose_value_is_no_number_of_steps_refuse_to_give_one(
    policies: dict[str, Path], algorithm: str, reason: str
) -> None:
    with pytest.raises(PolicyError, match=reason):
        load_policy(policies[algorithm]).steps(np.zeros(4), np.zeros(2))


# ------------------------------------------------------------------------------------- the graph


@dataclass
class Straight:
    """A controller that goes straight to its goal, whatever is between."""

    def act(
        self,
        observation: ArrayLike,
        goal: ArrayLike,
        task: str | None = None,
        achieved_goal: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        state = np.asarray(observation)
        force = 10.0 * (np.asarray(goal) - state[:2]) - 2.0 * state[2:]
        return np.asarray(force.clip(-1.0, 1.0), dtype=np.float32)


@dataclass
class Exact:
    """The number of steps along the shortest way through a maze, between the nearest positions of a grid."""

    places: NDArray[np.float64]
    lengths: NDArray[np.float64]

    @classmethod
    def of(cls, recipe: Recipe) -> "Exact":
        assert recipe.evaluation is not None
        places = free_positions(maze_walls(shared_environment(recipe.evaluation.environment)), 5)
        near = KDTree(places).sparse_distance_matrix(KDTree(places), 0.29, output_type="coo_matrix")
        return cls(places, shortest_path(near.tocsr()) / SPEED)

    def __call__(
        self, states: NDArray[Any], goals: NDArray[Any], achieved: NDArray[Any]
    ) -> NDArray[np.float32]:
        tree = KDTree(self.places)
        start, end = tree.query(achieved)[1], tree.query(goals)[1]
        return self.lengths[start, end].astype(np.float32)

    @property
    def nodes(self) -> Nodes:
        places = self.places.astype(np.float32)
        return Nodes(np.pad(places, ((0, 0), (0, 2))), places)


SETTINGS = Planner(nodes=2, edge_limit=8.0, subgoal_limit=20.0)


@pytest.fixture(scope="module")
def exact() -> Exact:
    return Exact.of(small_recipe())


def reaches(acting: Acting) -> bool:
    """Whether the other end of the U is reached from its first end."""
    evaluation = small_recipe().evaluation
    assert evaluation is not None
    environment = shared_environment(evaluation.environment)
    options = {"reset_cell": np.array([1, 1]), "goal_cell": np.array([3, 1])}
    observation, info = environment.reset(seed=0, options=options)
    ended = False
    while not ended:
        state, goal, achieved = (
            observation[name] for name in ("observation", "desired_goal", "achieved_goal")
        )
        observation, _, done, cut, info = environment.step(acting.act(state, goal, None, achieved))
        ended = done or cut
    return bool(info["success"])


@pytest.mark.parametrize("long_edges", ["penalised", "removed"])
def test_a_planner_finds_the_detour_that_its_policy_does_not(exact: Exact, long_edges: Any) -> None:
    graph = Graph(exact, exact.nodes, SETTINGS.model_copy(update={"long_edges": long_edges}))
    planned = PlannedEpisode(Straight(), graph)
    assert not reaches(Straight())
    assert reaches(planned)
    assert planned.plan is not None
    assert planned.plan.subgoals[:, 0].max() > 0.5  # The way is around the wall in the middle.


def test_costs_to_the_goal_are_those_of_the_shortest_paths(exact: Exact) -> None:
    goal = exact.nodes.goals[17]
    costs, following = Graph(exact, exact.nodes, SETTINGS).to_goal(goal)
    np.testing.assert_allclose(np.delete(costs, 17), np.delete(exact.lengths[:, 17], 17), rtol=1e-5)
    assert following[17] == len(exact.places)


def test_without_a_path_the_policy_acts_for_the_goal_itself(exact: Exact) -> None:
    settings = SETTINGS.model_copy(update={"long_edges": "removed", "edge_limit": 1.0})
    planned = PlannedEpisode(Straight(), Graph(exact, exact.nodes, settings))
    goal = np.array([-1.0, -1.0], dtype=np.float32)
    action = planned.act([-1.0, 1.0, 0.0, 0.0], goal, None, [-1.0, 1.0])
    np.testing.assert_array_equal(action, Straight().act([-1.0, 1.0, 0.0, 0.0], goal))


def test_long_edges_never_cost_an_infinite_amount(exact: Exact) -> None:
    graph = Graph(exact, exact.nodes, SETTINGS.model_copy(update={"edge_limit": 1e-3}))
    assert np.isfinite(graph.backwards.data).all()
    assert np.isfinite(graph.to_goal(exact.nodes.goals[0])[0]).all()


@pytest.mark.parametrize(("replan", "plans"), [(None, 1), (5, 3)])
def test_a_plan_is_made_as_often_as_the_settings_say(
    exact: Exact, replan: int | None, plans: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    planned = PlannedEpisode(
        Straight(), Graph(exact, exact.nodes, SETTINGS.model_copy(update={"replan": replan}))
    )
    original = PlannedEpisode._planned
    monkeypatch.setattr(
        PlannedEpisode, "_planned", lambda *given: made.append(0) or original(*given)
    )
    for _ in range(12):
        planned.act([-1.0, 1.0, 0.0, 0.0], [-1.0, -1.0], None, [-1.0, 1.0])
    assert len(made) == plans


# ------------------------------------------------------------------------------------- the nodes


def test_nodes_are_states_of_training_episodes(dataset: SmallDataset) -> None:
    (task,) = dataset.resolved.tasks
    episodes = dataset.episodes
    nodes = data_nodes(dataset.parquet, Planner(nodes=40), task)
    rows = [
        np.flatnonzero((episodes.observation == state).all(1))[0] for state in nodes.observations
    ]
    assert len(set(rows)) == 40
    np.testing.assert_array_equal(nodes.goals, episodes.achieved_goal[rows])
    assert set(episodes.per_row("split")[rows]) == {"train"}


def test_all_states_are_nodes_where_fewer_are_there_than_wanted(dataset: SmallDataset) -> None:
    (task,) = dataset.resolved.tasks
    nodes = data_nodes(dataset.parquet, Planner(nodes=10**6), task)
    assert len(nodes.goals) == (dataset.episodes.per_row("split") == "train").sum()


def test_farthest_nodes_are_further_apart_than_random_ones(dataset: SmallDataset) -> None:
    def closest(choice: Any) -> float:
        (task,) = dataset.resolved.tasks
        goals = data_nodes(dataset.parquet, Planner(nodes=20, choice=choice), task).goals
        return float(KDTree(goals).query(goals, k=2)[0][:, 1].min())

    assert closest("farthest") > 3 * closest("random")
    corners = np.array([[0, 0], [0.1, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32)
    assert set(farthest_points(corners, 4)) == {0, 2, 3, 4}


def test_nodes_without_a_dataset_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no ingested dataset; run `dvc repro`"):
        data_nodes(tmp_path, Planner(), "any")


# ---------------------------------------------------------------------------------- the episodes


def planned(job: EpisodeJob, dataset: SmallDataset, **settings: Any) -> EpisodeJob:
    return replace(job, planning=Planning(Planner(nodes=30, **settings), dataset.parquet))


def first_job(policy: Path, dataset: SmallDataset) -> EpisodeJob:
    return episode_job(policy, dataset.recipe, Evaluate(), 0, seed=3)


@pytest.mark.parametrize("algorithm", ["gciql", "qrl"])
def test_an_episode_with_a_planner_pursues_states_of_the_data(
    policies: dict[str, Path], dataset: SmallDataset, algorithm: str
) -> None:
    job = planned(first_job(policies[algorithm], dataset), dataset)
    assert run_episode(job) == run_episode(job)
    environment = shared_environment(job.evaluation.environment)
    steps = rollout(environment, load_policy(job.policy), job)
    _, step = next(steps), next(steps)
    assert step.plan is not None
    np.testing.assert_array_equal(step.plan.subgoals[-1], step.desired.astype(np.float32))
    nodes = data_nodes(dataset.parquet, job.planning.settings, job.task)  # type: ignore[union-attr]
    assert {tuple(goal) for goal in step.plan.subgoals[:-1]} <= {
        tuple(goal) for goal in nodes.goals
    }


def test_a_planner_does_not_change_the_main_evaluation(
    policies: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "snapshots").mkdir()
    plans = [
        plan_evaluation({0: tmp_path}, as_dataset(small_recipe()), Evaluate(planner=planner))
        for planner in (None, Planner())
    ]
    assert plans[0] == plans[1]
    assert "planner" not in Evaluate().identity
    assert Evaluate(planner=Planner()).identity["planner"]["nodes"] == 1000


@pytest.mark.parametrize(
    ("algorithm", "can_plan"), [("gciql", True), ("crl", False), ("bc", False)]
)
def test_the_final_episodes_are_repeated_with_a_planner_where_the_value_allows_it(
    policies: dict[str, Path], dataset: SmallDataset, algorithm: str, can_plan: bool
) -> None:
    settings = Evaluate(episodes=4, planner=Planner())
    jobs = episode_jobs(policies[algorithm], dataset.resolved, settings, 0, FINAL)
    policy = load_policy(policies[algorithm])
    found = planned_jobs(policy, jobs, settings, dataset.parquet)
    assert [job.seed for job in found] == [job.seed for job in jobs] * can_plan
    assert not planned_jobs(policy, jobs, Evaluate(), dataset.parquet)


# ------------------------------------------------------------------------------------ the video


@pytest.mark.skipif(not can_render(), reason="no GL library")
def test_positions_are_found_in_the_picture_of_a_maze() -> None:
    settings = small_recipe().evaluation
    assert settings is not None
    with closing(
        make_environment(settings.environment, render_mode="rgb_array", width=96, height=96)
    ) as environment:
        prepare(environment)
        for seed in range(3):
            observation, _ = environment.reset(seed=seed)
            picture = np.asarray(environment.render()).astype(int)
            pixels = as_pixels(environment, [observation["desired_goal"]], 96)
            assert pixels is not None
            ((x, y),) = pixels.round().astype(int)
            red, green, blue = picture[y, x]
            assert red > green + blue  # The goal is a red ball.


@pytest.mark.skipif(not can_render(), reason="no GL library")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_video_of_planned_episodes_is_separate(
    policies: dict[str, Path], dataset: SmallDataset, tmp_path: Path
) -> None:
    from offline_gcrl.evaluation.probes import Probe

    (tmp_path / "seed-0").mkdir()
    job = first_job(policies["gciql"], dataset)
    environment = job.evaluation.environment
    kwargs = {**environment.kwargs, "max_episode_steps": 10}
    environment = environment.model_copy(update={"kwargs": kwargs})
    job = replace(job, evaluation=job.evaluation.model_copy(update={"environment": environment}))
    probes = {Probe("planned", "", 0): [planned(job, dataset)]}
    videos = plan_videos({(0, FINAL): [job]}, probes, Video(episodes=1, size=96), tmp_path)
    assert write_videos(videos) is None
    rollouts, with_plan = (tmp_path / "seed-0" / f"{name}.mp4" for name in ("rollouts", "planned"))
    assert rollouts.stat().st_size != with_plan.stat().st_size


# --------------------------------------------------------------------------------- maps of values


def test_a_map_has_the_values_of_the_policy_at_free_positions(
    policies: dict[str, Path], dataset: SmallDataset
) -> None:
    job = first_job(policies["gciql"], dataset)
    table, policy = value_map(load_policy(job.policy), job), load_policy(job.policy)
    assert table is not None
    assert len(table) == 7 * 64  # The free cells of the U.
    x, y, value, goal_x, goal_y = table.select("x", "y", "value", "goal_x", "goal_y").row(100)
    assert value == pytest.approx(policy.value([x, y, 0.0, 0.0], [goal_x, goal_y]), rel=1e-4)
    assert run_episode(job)["goal"] == pytest.approx([goal_x, goal_y])


def test_a_map_of_distances_starts_at_the_positions(
    policies: dict[str, Path], dataset: SmallDataset
) -> None:
    policy, job = load_policy(policies["qrl"]), first_job(policies["qrl"], dataset)
    table = value_map(policy, job)
    assert table is not None
    x, y, value, goal_x, goal_y = table.select("x", "y", "value", "goal_x", "goal_y").row(5)
    expected = policy.value(np.zeros(4), [goal_x, goal_y], achieved_goal=[x, y])
    assert value == pytest.approx(expected, rel=1e-4)


def test_maps_are_written_for_mazes_and_values_only(
    policies: dict[str, Path], dataset: SmallDataset, tmp_path: Path
) -> None:
    write_value_maps([first_job(policies["bc"], dataset)], "bc", tmp_path)
    reach = load_recipe("fetch-reach", RECIPES)
    reaching = episode_job(policies["gciql"], reach, Evaluate(), 0, seed=0)
    write_value_maps([reaching], "gciql", tmp_path)
    assert not list(tmp_path.iterdir())
    write_value_maps([first_job(policies["gciql"], dataset)], "gciql", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"value_map.parquet", "value_map.svg"}
    assert pl.read_parquet(tmp_path / "value_map.parquet")["unit"][0] == "discounted sum of rewards"


@pytest.mark.parametrize(
    ("name", "columns"), [("pointmaze-umaze", (0, 1)), ("antmaze-umaze", (0, 1))]
)
def test_the_position_is_found_in_the_observation(name: str, columns: tuple[int, int]) -> None:
    recipe = load_recipe(name, RECIPES)
    assert recipe.evaluation is not None
    found = position_columns(
        shared_environment(recipe.evaluation.environment), evaluated_goal(recipe)
    )
    assert found is not None
    assert tuple(int(column) for axis in found for column in axis) == columns


def test_an_environment_without_a_position_in_its_observation_has_no_map() -> None:
    recipe = load_recipe("hand-reach", RECIPES)
    assert recipe.evaluation is not None
    environment = shared_environment(recipe.evaluation.environment)
    assert position_columns(environment, evaluated_goal(recipe)) is None or not maze_walls(
        environment
    )


# -------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("agents", "reward", "message"),
    [
        (["bc", "crl"], "sparse", "needs an agent whose value is a number of steps, and bc, crl"),
        (["gciql"], "dense", "with relabel.reward 'dense' values are sums of distances"),
    ],
)
def test_a_planner_without_an_agent_to_plan_with_is_refused(
    agents: list[str], reward: str, message: str
) -> None:
    params = load_params(ROOT / "params.yaml")
    params = params.model_copy(
        update={
            "experiment": params.experiment.model_copy(update={"agents": tuple(agents)}),
            "relabel": {**params.relabel, "reward": reward},
            "evaluate": {**params.evaluate, "planner": {}},
        }
    )
    with pytest.raises(SettingsError, match=message):
        check_planner(params, settings_type)
