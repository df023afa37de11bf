"""Evaluation: episodes of FetchReach in worker processes, compared with a plain Gymnasium loop."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch

from benchmarks.harness import Measurement, cpu_seconds, main
from offline_gcrl.agents import agent_type, settings_type
from offline_gcrl.config import Evaluate, resolve
from offline_gcrl.environments.making import shared_environment
from offline_gcrl.evaluation.jobs import FINAL, EpisodeJob, episode_jobs
from offline_gcrl.evaluation.rollouts import run_episode, run_episodes
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.policy import Policy, load_policy, save_policy
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.support.processes import cores, preload

EPISODES, STEPS, ROUNDS = 80, 50, 3


def measurements() -> Iterator[Measurement]:
    """Steps per CPU-second, cores in use, and the policy's share of a step."""
    torch.set_num_threads(1)
    preload("offline_gcrl.evaluation.rollouts")
    dataset = resolve("fetch-reach")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.pt"
        save_untrained(path)
        jobs = episode_jobs(path, dataset, Evaluate(episodes=EPISODES), 0, FINAL)
        policy = load_policy(path)
        assert jobs[0].evaluation.environment is not None
        environment = shared_environment(jobs[0].evaluation.environment)
        yield from rates(jobs, policy)
        run_episode(jobs[0])
        yield shares(jobs, policy, environment)


def save_untrained(path: Path) -> None:
    """Save an untrained policy of the default size for FetchReach."""
    dimensions = Dimensions(observation=10, goal=3, action=4)
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
    scaling = Scaling((0.0,) * 10, (1.0,) * 10, (0.0,) * 3, (1.0,) * 3, (-1.0,) * 4, (1.0,) * 4)
    save_policy(path, agent, "bc", settings, scaling, dimensions, ("fetch-reach",), {"updates": 0})


def rates(jobs: list[EpisodeJob], policy: Policy) -> Iterator[Measurement]:
    """A plain loop and worker processes in turn; the rate of the workers includes their start-up."""
    name = jobs[0].evaluation.environment.id
    environment = gymnasium.make(name, **jobs[0].evaluation.environment.kwargs)
    seeds = [job.seed for job in jobs]
    plain_loop(environment, policy, seeds[:5])
    list(run_episodes(jobs[: 2 * cores()]))
    plain, ours, used = [], [], []
    for _ in range(ROUNDS):
        spent = cpu_seconds()
        plain_loop(environment, policy, seeds)
        plain.append(EPISODES * STEPS / (cpu_seconds() - spent))
        spent, began = cpu_seconds(), time.perf_counter()
        list(run_episodes(jobs))
        spent, seconds = cpu_seconds() - spent, time.perf_counter() - began
        ours.append(EPISODES * STEPS / spent)
        used.append(spent / seconds)
    middle = [float(np.median(values)) for values in (plain, ours)]
    yield Measurement(
        f"FetchReach, {EPISODES} episodes",
        [mine / theirs for mine, theirs in zip(ours, plain, strict=True)],
        at_least=1.1,
        detail=f"plain loop {middle[0]:,.0f} steps/CPU-s, ours {middle[1]:,.0f} steps/CPU-s",
        floor=f"{raw_steps(environment):,.0f} steps/CPU-s: MuJoCo alone",
    )
    yield Measurement(
        "cores in use during these episodes",
        used,
        "cores",
        detail=f"of {cores()}; fewer if the machine does other work",
    )


def plain_loop(environment: gymnasium.Env[Any, Any], policy: Policy, seeds: list[int]) -> None:
    """A usual loop with Gymnasium, and the network in torch."""
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


def raw_steps(environment: gymnasium.Env[Any, Any], count: int = 500) -> float:
    """Environment steps per CPU-second of the simulator alone."""
    robot: Any = environment.unwrapped
    environment.reset(seed=0)
    began = time.process_time()
    for _ in range(count):
        mujoco.mj_step(robot.model, robot.data, nstep=robot.n_substeps)
    return count / (time.process_time() - began)


def shares(
    jobs: list[EpisodeJob], policy: Policy, environment: gymnasium.Env[Any, Any]
) -> Measurement:
    """The policy's share of the time of an episode, and its share with the network in torch."""
    state, goal = np.zeros(10), np.zeros(3)
    batch = np.zeros((1, 10))
    found, torch_cost = [], []
    for _ in range(ROUNDS):
        spent = time.process_time()
        for job in jobs[:10]:
            run_episode(replace(job))
        step = (time.process_time() - spent) / (10 * STEPS)
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
