"""Evaluation: episodes of FetchReach and PointMaze in worker processes, compared with a plain Gymnasium loop."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch

from benchmarks.harness import Measurement, cpu_seconds, main
from offline_gcrl.agents import agent_type, settings_type
from offline_gcrl.config import Dataset, Evaluate, resolve
from offline_gcrl.environments.making import shared_environment, shown_sizes
from offline_gcrl.evaluation.jobs import FINAL, EpisodeJob, episode_jobs
from offline_gcrl.evaluation.rollouts import run_episode, run_episodes
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.policy import Policy, load_policy, save_policy
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.support.processes import cores, preload

ROUNDS = 3
TARGET = 1.3


@dataclass(frozen=True)
class Case:
    """Episodes of a dataset, each until its time limit or, in a maze, until its goal is reached."""

    dataset: str
    title: str
    episodes: int


FETCH = Case("fetch-reach", "FetchReach", 80)
MAZE = Case("pointmaze-umaze", "PointMaze UMaze", 200)


def measurements() -> Iterator[Measurement]:
    """Steps per CPU-second, cores in use, and the policy's share of a step."""
    torch.set_num_threads(1)
    preload("offline_gcrl.evaluation.rollouts")
    with tempfile.TemporaryDirectory() as folder:
        for case in (FETCH, MAZE):
            jobs = untrained_jobs(case, Path(folder) / f"{case.dataset}.pt")
            yield from rates(case, jobs)
            if case is FETCH:
                run_episode(jobs[0])
                yield shares(jobs)


def untrained_jobs(case: Case, path: Path) -> list[EpisodeJob]:
    """Evaluation episodes of an untrained policy of the default size, which is saved to ``path``."""
    dataset = resolve(case.dataset)
    jobs = episode_jobs(path, dataset, Evaluate(episodes=case.episodes), 0, FINAL)
    environment = shared_environment(jobs[0].evaluation.environment)
    sizes = shown_sizes(environment, jobs[0].goal)
    assert isinstance(environment.action_space, gymnasium.spaces.Box)
    actions = environment.action_space.shape[0]
    save_untrained(path, Dimensions(sizes["observation"], sizes["desired_goal"], actions), dataset)
    return jobs


def save_untrained(path: Path, dimensions: Dimensions, dataset: Dataset) -> None:
    """Save an untrained policy with two hidden layers of 128."""
    settings = settings_type("bc").model_validate(
        {
            "algorithm": "bc",
            "learning_rate": 1e-3,
            "hidden": (128, 128),
            "activation": "relu",
            "actor_goals": {"future": 1.0},
        }
    )
    torch.manual_seed(0)
    agent = agent_type("bc")(settings, dimensions)
    sizes = (dimensions.observation, dimensions.goal, dimensions.action)
    (shift, scale), (goal_shift, goal_scale) = (((0.0,) * n, (1.0,) * n) for n in sizes[:2])
    bounds = (-1.0,) * sizes[2], (1.0,) * sizes[2]
    scaling = Scaling(shift, scale, goal_shift, goal_scale, *bounds)
    save_policy(path, agent, "bc", settings, scaling, dimensions, (dataset.name,), {"updates": 0})


def rates(case: Case, jobs: list[EpisodeJob]) -> Iterator[Measurement]:
    """A plain loop and worker processes in turn; the rate of the workers includes their start-up."""
    settings, policy = jobs[0].evaluation.environment, load_policy(jobs[0].policy)
    environment = gymnasium.make(settings.id, **settings.kwargs)
    seeds = [job.seed for job in jobs]
    plain_loop(environment, policy, seeds[:5])
    list(run_episodes(jobs[: 2 * cores()]))
    plain, ours, used = [], [], []
    for _ in range(ROUNDS):
        spent = cpu_seconds()
        steps = plain_loop(environment, policy, seeds)
        plain.append(steps / (cpu_seconds() - spent))
        spent, began = cpu_seconds(), time.perf_counter()
        steps = sum(row["length"] for row in run_episodes(jobs))
        spent, seconds = cpu_seconds() - spent, time.perf_counter() - began
        ours.append(steps / spent)
        used.append(spent / seconds)
    middle = [float(np.median(values)) for values in (plain, ours)]
    yield Measurement(
        f"{case.title}, {case.episodes} episodes",
        [mine / theirs for mine, theirs in zip(ours, plain, strict=True)],
        at_least=TARGET,
        detail=f"plain loop {middle[0]:,.0f} steps/CPU-s, ours {middle[1]:,.0f} steps/CPU-s",
        floor=f"{raw_steps(environment):,.0f} steps/CPU-s: MuJoCo alone",
    )
    yield Measurement(
        f"{case.title}: cores in use during these episodes",
        used,
        "cores",
        detail=f"of {cores()}; fewer if the machine does other work",
    )


def plain_loop(environment: gymnasium.Env[Any, Any], policy: Policy, seeds: list[int]) -> int:
    """A usual loop with Gymnasium, and the network in torch; returns the number of steps."""
    steps = 0
    for seed in seeds:
        observation, _ = environment.reset(seed=seed)
        ended = False
        while not ended:
            state = torch.as_tensor(observation["observation"], dtype=torch.float32)[None]
            goal = torch.as_tensor(observation["desired_goal"], dtype=torch.float32)[None]
            with torch.no_grad():
                action = policy.actor(state, goal)[0].clamp(-1.0, 1.0).numpy()
            observation, _, terminated, truncated, _ = environment.step(action)
            ended = terminated or truncated
            steps += 1
    return steps


def raw_steps(environment: gymnasium.Env[Any, Any], count: int = 500) -> float:
    """Environment steps per CPU-second of the simulator alone."""
    robot: Any = environment.unwrapped
    substeps = robot.n_substeps if hasattr(robot, "n_substeps") else robot.point_env.frame_skip
    environment.reset(seed=0)
    began = time.process_time()
    for _ in range(count):
        mujoco.mj_step(robot.model, robot.data, nstep=substeps)
    return count / (time.process_time() - began)


def shares(jobs: list[EpisodeJob]) -> Measurement:
    """The policy's share of the time of an episode, and its share with the network in torch."""
    policy = load_policy(jobs[0].policy)
    state, goal = np.zeros(policy.dimensions.observation), np.zeros(policy.dimensions.goal)
    batch = state[None]
    found, torch_cost = [], []
    for _ in range(ROUNDS):
        spent = time.process_time()
        steps = sum(run_episode(replace(job))["length"] for job in jobs[:10])
        step = (time.process_time() - spent) / steps
        found.append(100.0 * seconds_per_call(lambda: policy.act(state, goal)) / step)
        torch_cost.append(100.0 * seconds_per_call(lambda: policy.act(batch, goal)) / step)
    return Measurement(
        "the policy's share of an episode",
        found,
        "%",
        at_most=5.0,
        detail=f"with torch {np.median(torch_cost):.1f} %",
    )


def seconds_per_call(call: Any, count: int = 2000) -> float:
    began = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - began) / count


if __name__ == "__main__":
    main(__doc__, measurements)
