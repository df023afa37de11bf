"""Runs complete evaluation episodes in MuJoCo, in worker processes.

An episode depends only on (policy, environment, seed). Any number of workers therefore gives the same table, row for
row.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from offline_gcrl.config import Goal
from offline_gcrl.environments.making import reported_success, seeded_episode, shared_environment
from offline_gcrl.environments.selection import INFOS, as_tree, select_live
from offline_gcrl.evaluation.instructed import (
    Saying,
    instructed_by,
    saying_of,
    without_sentence,
)
from offline_gcrl.evaluation.jobs import NOISE, EpisodeJob, Planning
from offline_gcrl.evaluation.planner import Graph, Plan, PlannedEpisode, planning_graph
from offline_gcrl.evaluation.seen import Given, padded
from offline_gcrl.goals.held_out import in_region
from offline_gcrl.goals.success import reaches, squared_distance
from offline_gcrl.policies.policy import Acting, Policy, load_policy
from offline_gcrl.support.errors import DataError, PolicyError, SettingsError
from offline_gcrl.support.processes import cores, ordered_map

STARTS = 100
"""Starts that are tried for an episode with a sentence that is true of its goal."""


def run_episodes(
    jobs: Iterable[EpisodeJob], workers: int | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of the table of episodes (``EPISODE_COLUMNS``), in the order of the jobs."""
    yield from ordered_map(run_episode, jobs, workers or cores())


@dataclass(frozen=True)
class RolloutStep:
    """The state of an episode at one step."""

    achieved: NDArray[Any]
    """Achieved goal, (goal,)."""
    desired: NDArray[Any]
    """Desired goal, (goal,)."""
    reached: bool
    ended: bool
    plan: Plan | None = None
    """The plan that the last action followed, if there is a planner."""
    saying: Saying | None = None
    """The sentence of the episode, if ``reached`` says whether it is true."""


def rollout(
    environment: gymnasium.Env[Any, Any], policy: Policy, job: EpisodeJob
) -> Iterator[RolloutStep]:
    """Run one episode from its seed until the environment ends it; yields the start, then every step.

    Entries of the reset's info, such as a goal, are valid for the complete episode. In a suite with padding,
    observations and goals are padded with zeros to the policy's sizes, and actions are cut to the environment's size.
    """
    given, goal_given = given_in(job, environment, policy), None
    space, acting = environment.action_space, acting_in(job, policy)
    assert isinstance(space, gymnasium.spaces.Box)
    planned = acting if isinstance(acting, PlannedEpisode) else None
    tree, reset_info, saying = _started(environment, policy, job)
    noise = np.random.default_rng([job.seed, NOISE])
    ended, reached = False, False
    while True:
        achieved, desired = _goals(tree, job)
        plan = planned.plan if planned else None
        yield RolloutStep(achieved, desired, reached, ended, plan, saying)
        if ended:
            return
        state, task = given.observation(tree), job.conditioned_task or job.task
        if goal_given is None or not given.inputs.sees_goals:  # Goal images are rendered once.
            goal = desired if job.conditioned_goal is None else np.array(job.conditioned_goal)
            goal_given = given.goal(goal)
        if saying and saying.given is not None:
            action = policy.act(state, None if saying.captions else goal_given, task, saying.given)
        elif planned:  # It also needs the achieved goal, because some values are between goals.
            action = planned.act(state, goal_given, task, padded(achieved, policy.dimensions.goal))
        else:
            action = acting.act(state, goal_given, task)
        observation, _, terminated, truncated, info = environment.step(
            as_action(action, space, job.action_noise, noise)
        )
        tree = as_tree(observation, {**reset_info, **info})
        reached = _reached_by(tree, job, saying)
        if job.chosen_goal is not None or (saying and saying.captions):
            # An environment that ends at its own goal does not end the episode of another one.
            terminated = terminated and not reported_success(info)
        ended = terminated or truncated or (reached and job.stop_at_success)


def _reached_by(tree: dict[str, Any], job: EpisodeJob, saying: Saying | None) -> bool:
    """Whether a state reaches the goal of an episode: its sentence, its chosen goal, or the environment's."""
    if saying and saying.captions:
        return saying.is_true(_goals(tree, job)[0])
    if job.chosen_goal is not None:
        return bool(reaches(*_goals(tree, job), job.goal.success))
    return has_reached(tree, job.goal, job.evaluation.success)


def _started(
    environment: gymnasium.Env[Any, Any], policy: Policy, job: EpisodeJob
) -> tuple[dict[str, Any], dict[str, Any], Saying | None]:
    """Start an episode from its seed: observation and info as a tree, the info, and the sentence if it has one.

    An episode with a sentence is started from further seeds until a sentence of its set is true of its goal.

    Raises:
        SettingsError: no start has such a sentence, and none that is true of another goal.
    """
    how = instructed_by(job, policy)
    if how is None:
        observation, info = environment.reset(seed=job.seed, options=job.reset_options)
        return as_tree(observation, info), info, None
    others = np.random.SeedSequence([job.seed, STARTS]).generate_state(STARTS - 1)
    for seed in (job.seed, *map(int, others)):
        observation, info = environment.reset(seed=seed, options=job.reset_options)
        tree = as_tree(observation, info)
        start, desired = _goals(tree, job)
        saying = saying_of(job, how, policy, start, desired)
        if saying is not None:
            return tree, info, saying
    saying = None if how.given == "goal" else saying_of(job, how, policy, start, None)
    if saying is None:
        raise without_sentence(job, how)
    return tree, info, saying


def _goals(tree: dict[str, Any], job: EpisodeJob) -> tuple[NDArray[Any], NDArray[Any]]:
    """Achieved and desired goal, (goal,) each.

    Raises:
        DataError: a number is not finite.
    """
    assert job.goal.desired is not None
    achieved = _finite(select_live(tree, job.goal.achieved), "achieved goal")
    if job.chosen_goal is not None:
        return achieved, np.array(job.chosen_goal)
    return achieved, _finite(select_live(tree, job.goal.desired), "desired goal")


def goal_of(job: EpisodeJob) -> tuple[float, ...]:
    """The goal of an episode, which its seed determines."""
    environment = shared_environment(job.evaluation.environment)
    with seeded_episode(environment, job.seed):
        tree = as_tree(*environment.reset(seed=job.seed, options=job.reset_options))
    return tuple(map(float, _goals(tree, job)[1]))


def given_in(job: EpisodeJob, environment: gymnasium.Env[Any, Any], policy: Policy) -> Given:
    """What the policy is given in an episode."""
    settings = job.evaluation.environment
    return Given(environment, policy, job.goal.observation, settings, job.images)


def acting_in(job: EpisodeJob, policy: Policy) -> Acting:
    """What acts in an episode: the policy, or a planner in front of it."""
    if job.planning is None:
        return policy.episode()
    return PlannedEpisode(policy.episode(), _graph(job.policy, job.planning, job.task))


def as_action(
    action: NDArray[Any],
    space: gymnasium.spaces.Box,
    noise: float = 0.0,
    random: np.random.Generator | None = None,
) -> NDArray[Any]:
    """A policy's action as a member of an environment's space: cut to its size, and of its shape and type.

    Args:
        action: the action, (size,) or longer.
        space: the environment's actions.
        noise: standard deviation of normal noise in units of the largest action, added before the action is clipped.
        random: generator of the noise; the draws of a step do not depend on the level of noise.
    """
    own = action[: math.prod(space.shape)].reshape(space.shape).astype(space.dtype)
    if noise and random is not None:
        own = (own + noise * space.high * random.standard_normal(space.shape)).astype(space.dtype)
    clipped: NDArray[Any] = np.clip(own, space.low, space.high)
    return clipped


def run_episode(job: EpisodeJob) -> dict[str, Any]:
    """Run one episode and return its row with the columns ``EPISODE_COLUMNS``.

    Raises:
        OfflineGCRLError: the environment gives numbers that are not finite, or that do not fit the policy.
    """
    policy = _policy(job.policy)
    environment = shared_environment(job.evaluation.environment)
    with seeded_episode(environment, job.seed):
        try:
            steps = list(rollout(environment, policy, job))
        except (DataError, PolicyError) as error:
            raise type(error)(
                f"{job.evaluation.environment.id}, evaluation episode {job.number} with seed {job.seed}: {error}"
            ) from None
    start, end = steps[0], steps[-1]
    reached = [step.reached for step in steps[1:]]
    rewards = np.array(reached, dtype=np.float64)
    return {
        "update": policy.training["updates"],
        "episode": job.number,
        "seed": job.seed,
        "task": job.task,
        "task_id": job.task_id,
        "start": start.achieved.tolist(),
        "goal": start.desired.tolist(),
        "instruction": start.saying.instruction.text if start.saying else None,
        "held_out": job.held_out is not None and bool(in_region(start.desired, job.held_out)),
        "success": reached[-1],
        "success_any": any(reached),
        "final_distance": float(np.sqrt(squared_distance(end.achieved, end.desired))),
        "return": float(rewards.sum()),
        "discounted_return": float(rewards @ job.discount ** np.arange(len(rewards))),
        "steps_to_goal": reached.index(True) + 1 if any(reached) else None,
        "length": len(reached),
    }


def _finite(values: NDArray[Any], what: str) -> NDArray[Any]:
    """The values, of which a distance and a success test are computed.

    Raises:
        DataError: a number is not finite.
    """
    if not np.isfinite(values).all():
        raise DataError(f"the {what} is not finite: {values}")
    return values


def has_reached(tree: dict[str, Any], goal: Goal, source: str = "goal") -> bool:
    """Whether the goal is reached, by the recipe's success test or by the success that the environment reports.

    Args:
        tree: observation and info of a step, as ``as_tree`` returns them.
        goal: the goal spec with its success test.
        source: ``goal`` for the success test, ``environment`` for the environment's own success.

    Raises:
        SettingsError: the environment does not report success.
    """
    if source == "goal" and goal.success.kind != "same_step":
        assert goal.desired is not None
        achieved, desired = (select_live(tree, each) for each in (goal.achieved, goal.desired))
        return bool(reaches(achieved, desired, goal.success))
    success = reported_success(tree[INFOS])
    if success is None:
        raise SettingsError(
            "the recipe takes success from the environment (goal.success.kind 'same_step', or evaluation.success "
            "'environment'), but the environment's info has neither 'success' nor 'is_success'; choose another "
            "goal.success.kind"
        )
    return success


@functools.lru_cache(maxsize=8)  # One per task of a suite; a graph of 1,000 nodes takes 12 MB.
def _graph(path: Path, planning: Planning, task: str) -> Graph:
    return planning_graph(_policy(path), planning.data, planning.settings, task)


@functools.lru_cache(maxsize=2)
def _policy(path: Path) -> Policy:
    torch.set_num_threads(1)
    return load_policy(path)
