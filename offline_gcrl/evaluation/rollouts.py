"""Complete episodes in MuJoCo, in worker processes, each with a seed and a goal of its own.

An episode is a function of (policy, environment, seed) alone, so any number of workers gives the same
table, row for row.
"""

import functools
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
from offline_gcrl.environments.selection import INFOS, as_tree, select
from offline_gcrl.evaluation.jobs import EpisodeJob
from offline_gcrl.goals.held_out import in_region
from offline_gcrl.goals.success import reaches, squared_distance
from offline_gcrl.policies.policy import Policy, load_policy
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.processes import cores, ordered_map


def run_episodes(
    jobs: Iterable[EpisodeJob], workers: int | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of the table of episodes (``EPISODE_COLUMNS``), in the order of the jobs."""
    yield from ordered_map(run_episode, jobs, workers or cores())


@dataclass(frozen=True)
class RolloutStep:
    """What is seen at one step of an episode."""

    achieved: NDArray[Any]
    desired: NDArray[Any]
    reached: bool
    ended: bool


def rollout(
    environment: gymnasium.Env[Any, Any], policy: Policy, job: EpisodeJob
) -> Iterator[RolloutStep]:
    """Run one episode from its seed until the environment ends it: the start, then every step.

    A goal that is told at the reset holds for the episode. In a suite with padding, observations and goals
    are filled with zeros to the size that the policy knows, and its action is cut to the environment's.
    """
    fixed, sizes = job.evaluation.fixed_tasks, policy.dimensions
    options = {fixed.option: job.task_id} if fixed else None
    assert job.goal.desired is not None
    actions, acting = environment.action_space.shape or (0,), policy.episode()
    observation, told = environment.reset(seed=job.seed, options=options)
    info, ended, reached = told, False, False
    while True:
        tree = as_tree(observation, {**told, **info})
        achieved, desired = select(tree, job.goal.achieved), select(tree, job.goal.desired)
        yield RolloutStep(achieved, desired, reached, ended)
        if ended:
            return
        state = _padded(select(tree, job.goal.observation), sizes.observation)
        goal = desired if job.conditioned_goal is None else np.array(job.conditioned_goal)
        task = job.conditioned_task or job.task
        action = acting.act(state, _padded(goal, sizes.goal), task)[: actions[0]]
        observation, _, terminated, truncated, info = environment.step(action)
        ended = terminated or truncated
        tree = as_tree(observation, {**told, **info})
        reached = has_reached(tree, job.goal, job.evaluation.success)
        ended = ended or (reached and job.stop_at_success)


def run_episode(job: EpisodeJob) -> dict[str, Any]:
    """Run one episode and say how it went, as a row of ``EPISODE_COLUMNS``."""
    policy = _policy(job.policy)
    environment = shared_environment(job.evaluation.environment)
    with seeded_episode(environment, job.seed):
        moments = list(rollout(environment, policy, job))
    start, end = moments[0], moments[-1]
    reached = [moment.reached for moment in moments[1:]]
    rewards = np.array(reached, dtype=np.float64)
    return {
        "update": policy.training["updates"],
        "episode": job.number,
        "seed": job.seed,
        "task": job.task,
        "task_id": job.task_id,
        "start": start.achieved.tolist(),
        "goal": start.desired.tolist(),
        "held_out": job.held_out is not None and bool(in_region(start.desired, job.held_out)),
        "success": reached[-1],
        "success_any": any(reached),
        "final_distance": float(np.sqrt(squared_distance(end.achieved, end.desired))),
        "return": float(rewards.sum()),
        "discounted_return": float(rewards @ job.discount ** np.arange(len(rewards))),
        "steps_to_goal": reached.index(True) + 1 if any(reached) else None,
        "length": len(reached),
    }


def has_reached(tree: dict[str, Any], goal: Goal, says: str = "goal") -> bool:
    """The recipe's success test; what the environment says, where the recipe asks for that.

    Raises:
        SettingsError: the environment is asked, and does not say.
    """
    if says == "goal" and goal.success.kind != "same_step":
        assert goal.desired is not None
        return bool(reaches(select(tree, goal.achieved), select(tree, goal.desired), goal.success))
    said = reported_success(tree[INFOS])
    if said is None:
        raise SettingsError(
            "success is asked of the environment (goal.success.kind 'same_step', or evaluation.success "
            "'environment'), and it tells neither 'success' nor 'is_success'"
        )
    return said


def _padded(values: NDArray[Any], size: int) -> NDArray[Any]:
    missing = size - len(values)
    return np.pad(values, (0, missing)) if missing > 0 else values


@functools.lru_cache(maxsize=2)
def _policy(path: Path) -> Policy:
    torch.set_num_threads(1)
    return load_policy(path)
