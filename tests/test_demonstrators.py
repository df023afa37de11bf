"""Demonstrators of Fetch and the Shadow hand reach their goals, within bounds and reproducibly."""

import io
from types import SimpleNamespace

import gymnasium
import mujoco
import numpy as np
import pytest
from conftest import RECIPES
from gymnasium_robotics.utils import mujoco_utils
from rich.console import Console

from offline_gcrl.collect.collector import EpisodeJob, check_sources, collect_episode
from offline_gcrl.collect.demonstrators import (
    DemonstratorSuccess,
    episode_outcome,
    measure_demonstrator,
    table,
)
from offline_gcrl.collect.explorers import UniformExplorer
from offline_gcrl.collect.fetch import _starting_velocity
from offline_gcrl.collect.hand import HandModel
from offline_gcrl.collect.policies import make_policy
from offline_gcrl.config import Collect, Environment, Recipe, Source, load_recipe
from offline_gcrl.environments.making import make_environment, shared_environment
from offline_gcrl.statistics.intervals import Estimate
from offline_gcrl.support.errors import SettingsError

LEAST = {
    "fetch-reach": 20,
    "fetch-push": 17,
    "fetch-pick-and-place": 17,
    "fetch-slide": 6,
    "hand-reach": 6,
}
"""Lower bound of successes in 20 demonstrations, far below the expected number."""


def demonstration(name: str) -> tuple[Recipe, Source]:
    recipe = load_recipe(name, RECIPES)
    return recipe, next(source for source in recipe.sources if source.kind == "demonstration")


def job(name: str, index: int = 0, **settings: object) -> EpisodeJob:
    recipe, source = demonstration(name)
    assert recipe.environment is not None
    assert source.collect is not None
    collect = source.collect.model_copy(update=settings)
    return EpisodeJob(recipe.environment, collect, recipe.goal.desired, index)


@pytest.mark.parametrize("name", LEAST)
def test_demonstrations_end_on_their_goals(name: str) -> None:
    outcomes = [episode_outcome(job(name, index)) for index in range(20)]
    assert sum(outcome.last_step for outcome in outcomes) >= LEAST[name]
    assert all(outcome.any_step >= outcome.last_step for outcome in outcomes)
    assert {outcome.steps for outcome in outcomes} == {50}


@pytest.mark.parametrize("name", LEAST)
def test_actions_are_within_bounds_before_noise(name: str) -> None:
    recipe, source = demonstration(name)
    assert source.collect is not None
    environment = shared_environment(recipe.environment)
    space = environment.action_space
    observation, info = environment.reset(seed=3)
    policy = make_policy(source.collect, environment, np.random.default_rng(0))
    for _ in range(30):
        action = policy.act(observation, info)
        assert action.shape == space.shape
        assert (action >= space.low).all()
        assert (action <= space.high).all()
        observation, *_, info = environment.step(action.astype(np.float32))


@pytest.mark.parametrize("name", LEAST)
def test_an_episode_does_not_depend_on_earlier_episodes(name: str) -> None:
    first = collect_episode(job(name, attempts=1))
    collect_episode(job(name, index=1, attempts=1))
    again = collect_episode(job(name, attempts=1))
    np.testing.assert_array_equal(first.actions, again.actions)
    np.testing.assert_array_equal(
        first.observations["observation"], again.observations["observation"]
    )


def failing_and_succeeding() -> tuple[int, int]:
    """Indices of an episode of Slide that fails at the first attempt, and of one that succeeds."""
    ends = [
        bool(collect_episode(job("fetch-slide", index, attempts=1)).infos["success"][-1])
        for index in range(8)
    ]
    return ends.index(False), ends.index(True)


def test_only_failed_episodes_are_attempted_again_from_the_same_start() -> None:
    failed, succeeded = failing_and_succeeding()
    for index, same in ((succeeded, True), (failed, False)):
        once = collect_episode(job("fetch-slide", index, attempts=1))
        retried = collect_episode(job("fetch-slide", index, attempts=2))
        assert retried.seed == once.seed
        for key in ("observation", "desired_goal"):
            np.testing.assert_array_equal(retried.observations[key][0], once.observations[key][0])
        assert np.array_equal(retried.actions, once.actions) == same


def test_the_last_attempt_is_kept_when_all_fail() -> None:
    """With a push so weak that the puck does not move, every attempt fails, each with different noise."""
    weak = {"settings": {"gain": 1000.0}, "noise": 0.001}
    failed, _ = failing_and_succeeding()
    kept = [collect_episode(job("fetch-slide", failed, attempts=n, **weak)) for n in (1, 2, 3)]
    assert not any(episode.infos["success"][-1] for episode in kept)
    assert len({episode.actions.tobytes() for episode in kept}) == 3


def test_the_first_seeds_do_not_depend_on_the_number_of_attempts() -> None:
    seeds = [
        np.random.SeedSequence([1, 7]).generate_state(count)[:2].tolist() for count in (2, 3, 9)
    ]
    assert seeds[0] == seeds[1] == seeds[2]


@pytest.mark.parametrize("way", [(0.4, 0.0), (0.3, 0.25), (0.25, -0.3), (0.15, 0.1)])
def test_a_puck_with_the_computed_velocity_stops_at_the_goal(
    way: tuple[float, float],
) -> None:
    environment = shared_environment(Environment(id="FetchSlide-v4"))
    environment.reset(seed=0)
    robot = environment.unwrapped
    puck, start = robot.model.joint("object0:joint"), np.array([1.1, 0.75])
    address, degree = int(puck.qposadr[0]), int(puck.dofadr[0])
    robot.data.qpos[address : address + 2] = start
    robot.data.qvel[degree : degree + 2] = _starting_velocity(np.array(way), 0.98)
    robot.data.mocap_pos[:, 2] += 0.2
    mujoco.mj_step(robot.model, robot.data, nstep=500)
    np.testing.assert_allclose(robot.data.qpos[address : address + 2] - start, way, atol=0.03)


def test_the_jacobian_of_the_hand_equals_finite_differences() -> None:
    environment = shared_environment(Environment(id="HandReach-v3"))
    environment.reset(seed=0)
    model = environment.unwrapped.model
    hand, angles = HandModel(model), environment.unwrapped.data.qpos.copy()
    jacobian, tiny = hand.jacobian(angles), 1e-6

    def fingertips(changed: np.ndarray) -> np.ndarray:
        hand.jacobian(changed)
        return hand.data.site_xpos[hand.sites].ravel().copy()

    for actuator in range(model.nu):
        there = fingertips(angles + tiny * hand.coupling[:, actuator])
        back = fingertips(angles - tiny * hand.coupling[:, actuator])
        np.testing.assert_allclose(jacobian[:, actuator], (there - back) / (2 * tiny), atol=1e-6)


def test_environments_use_the_cached_lookups() -> None:
    robot = make_environment(Environment(id="FetchReach-v4")).unwrapped
    assert robot._utils.robot_get_obs is not mujoco_utils.robot_get_obs


@pytest.mark.parametrize(
    "name", ["FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4", "HandReach-v3"]
)
def test_cached_lookups_of_joints_sites_and_gripper_change_no_bit(name: str) -> None:
    ours = make_environment(Environment(id=name))
    plain = gymnasium.make(name, disable_env_checker=True)
    random = np.random.default_rng(0)
    shown = [environment.reset(seed=5)[0] for environment in (ours, plain)]
    for _ in range(20):
        for key in shown[0]:
            assert shown[0][key].tobytes() == shown[1][key].tobytes()
        action = random.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
        shown = [environment.step(action)[0] for environment in (ours, plain)]


@pytest.mark.parametrize("reward", ["sparse", "dense"])
@pytest.mark.parametrize("continuing", [True, False])
def test_shorter_steps_of_mazes_change_no_bit(reward: str, continuing: bool) -> None:
    name, options = "PointMaze_UMaze-v3", {"reward_type": reward, "continuing_task": continuing}
    ours = make_environment(Environment(id=name, kwargs=options))
    plain = gymnasium.make(name, disable_env_checker=True, **options)
    assert "compute_terminated" in vars(ours.unwrapped)
    random = np.random.default_rng(0)
    ended = 0
    for episode in range(20):
        shown = [environment.reset(seed=episode) for environment in (ours, plain)]
        for _ in range(300):
            for key in shown[0][0]:
                assert shown[0][0][key].tobytes() == shown[1][0][key].tobytes()
            assert shown[0][1:] == shown[1][1:]
            # Towards the goal at full force, so that velocities reach their limit and some episodes end.
            towards = np.sign(shown[0][0]["desired_goal"] - shown[0][0]["achieved_goal"])
            action = np.float32(towards * random.uniform(0.5, 1, 2))
            shown = [environment.step(action) for environment in (ours, plain)]
            if shown[0][2]:
                break
        ended += shown[0][2]
    assert ended == 0 if continuing else ended > 3


def test_uniform_actions_equal_those_of_numpy() -> None:
    space = gymnasium.spaces.Box(np.float32([-1.0, 0.3]), np.float32([0.7, 1.1]))
    environment = SimpleNamespace(action_space=space)
    explorer = UniformExplorer(environment, np.random.default_rng(3))
    random = np.random.default_rng(3)
    for _ in range(50):
        expected = random.uniform(space.low, space.high)
        assert explorer.act(None, {}).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("fetch_push", "needs a Fetch arm with an object, and FetchReach-v4 has none"),
        ("fetch_slide", "needs a Fetch arm with an object"),
        ("hand_reach", "'hand_reach' needs HandReach, and FetchReach-v4 has no fingertips"),
    ],
)
def test_a_demonstrator_of_another_robot_is_refused(policy: str, said: str) -> None:
    recipe, source = demonstration("fetch-reach")
    wrong = source.model_copy(update={"collect": Collect(policy=policy)})
    with pytest.raises(SettingsError, match=f"here: sources.0.collect: .*{said}"):
        check_sources(recipe.model_copy(update={"sources": (wrong,)}), "here")


def test_a_measurement_uses_the_episodes_that_would_be_collected() -> None:
    recipe, source = demonstration("fetch-slide")
    assert source.collect is not None
    once = source.model_copy(update={"collect": job("fetch-slide", attempts=1).collect})
    measured = measure_demonstrator(recipe, once, episodes=8, workers=2)
    outcomes = [episode_outcome(job("fetch-slide", index, attempts=1)) for index in range(8)]
    ends, meets = (
        [getattr(outcome, key) for outcome in outcomes] for key in ("last_step", "any_step")
    )
    assert measured.last_step.mean == np.mean(ends)
    assert measured.any_step.mean == np.mean(meets)
    assert measured.last_step.low < measured.last_step.mean < measured.last_step.high
    assert measured.steps == 8 * 50


def test_the_table_has_one_row_per_demonstrator() -> None:
    name, rate = "fetch-reach", Estimate(0.5, 0.25, 0.75)
    measured = DemonstratorSuccess(rate, rate, steps=1000, seconds=0.5, cpu_seconds=1.0)
    console = Console(width=160, file=io.StringIO())
    console.print(table(iter([(name, demonstration(name)[1], measured)])))
    said = console.file.getvalue()
    for part in (name, "fetch_reach", "0.2", "0.500 [0.250, 0.750]", "2,000", "1,000"):
        assert part in said
