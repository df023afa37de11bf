"""Runs collecting policies in worker processes and writes Minari datasets (HDF5).

Every episode is a function of (recipe, seed, index) alone, so the data does not depend on how many
processes made it. What is recorded follows the published ``D4RL/pointmaze`` data: the observations with
their goals, and as infos success, the simulator's qpos and qvel (enough to replay) and the goal; as in
OGBench's, the states of buttons too, which stand beside the simulator.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import minari
import mujoco
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer
from numpy.typing import NDArray

from offline_gcrl.collect.policies import accepts, check_policy, make_policy, reset_options
from offline_gcrl.config import Collect, Environment, Recipe, Selection, Source
from offline_gcrl.environments.making import reported_success, seeded_episode, shared_environment
from offline_gcrl.environments.selection import as_tree, select
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.support.processes import cores, ordered_map, with_callback

MOST_DRAWS = 100
"""How often an episode is drawn anew that its policy does not keep."""


@dataclass(frozen=True)
class EpisodeJob:
    """One episode to collect."""

    environment: Environment
    collect: Collect
    desired: Selection | None
    """Where the goal that is pursued stands, if anywhere."""
    index: int


def collect_source(
    recipe: Recipe,
    source: Source,
    root: Path,
    workers: int | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> minari.MinariDataset:
    """Collect one source of a recipe into the Minari root ``root``; ``on_steps`` hears of progress."""
    assert recipe.environment is not None
    assert source.collect is not None
    assert source.episodes is not None
    environment, collect = recipe.environment, source.collect
    judged = recipe.evaluation and shared_environment(recipe.evaluation.environment)
    jobs = (
        EpisodeJob(environment, collect, recipe.goal.desired, index)
        for index in range(source.episodes)
    )
    episodes = ordered_map(collect_episode, jobs, workers or cores())
    if collect.cut_at_success:
        episodes = (piece for episode in episodes for piece in cut_at_success(episode))
    with minari_root(root):
        return minari.create_dataset_from_buffers(
            source.dataset,
            with_callback(episodes, lambda episode: on_steps(len(episode.rewards))),
            env=shared_environment(environment),
            eval_env=judged,
            algorithm_name=f"{collect.policy}, action noise {collect.noise}",
            author="offline-gcrl",
            author_email="unknown",
            code_permalink="unknown",
            description=f"{recipe.title} ({source.kind})",
            requirements=[f"mujoco=={mujoco.__version__}"],
            data_format="hdf5",
        )


def check_sources(recipe: Recipe, where: str) -> None:
    """Let the policy of every source that is made here act once, before any work.

    Raises:
        SettingsError: naming ``where`` the recipe stands, the key, and what is wrong.
    """
    if recipe.environment is None or not any(source.collect for source in recipe.sources):
        return
    environment = shared_environment(recipe.environment)
    for number, source in enumerate(recipe.sources):
        if source.collect is not None:
            check_policy(source.collect, environment, f"{where}: sources.{number}.collect")
    if not steps_an_episode(recipe):
        raise SettingsError(
            f"{where}: environment.kwargs: max_episode_steps is needed to end collected episodes"
        )


def steps_an_episode(recipe: Recipe) -> int:
    """The most steps that an episode of the collecting environment has; 0 if it has no end."""
    spec = shared_environment(recipe.environment).spec if recipe.environment else None
    return (spec.max_episode_steps or 0) if spec else 0


def collect_episode(job: EpisodeJob) -> EpisodeBuffer:
    """Run one episode from its own seed until the environment ends it; anew if its policy rejects it.

    Raises:
        DataError: its policy rejected every draw.
    """
    environment = shared_environment(job.environment)
    for draw in range(MOST_DRAWS):
        # Three numbers with a last one above 0 would be seeds of evaluation.
        entropy = [job.collect.seed, job.index] + ([0, draw] if draw else [])
        episode = _first_success(environment, job, np.random.SeedSequence(entropy))
        if accepts(job.collect, environment, episode.infos):
            return episode
    raise DataError(
        f"policy '{job.collect.policy}' kept none of {MOST_DRAWS} draws of episode {job.index}"
    )


def _first_success(
    environment: gymnasium.Env[Any, Any], job: EpisodeJob, seeds: np.random.SeedSequence
) -> EpisodeBuffer:
    """The first of the job's attempts that ends in success, else the last; all from the same start."""
    # The first numbers of a sequence do not depend on how many are drawn.
    reset_seed, *policy_seeds = map(int, seeds.generate_state(1 + job.collect.attempts))
    for policy_seed in policy_seeds:
        with seeded_episode(environment, reset_seed):
            episode = _run_episode(environment, job, reset_seed, policy_seed)
        if episode.infos["success"][-1]:
            break
    return episode


def _run_episode(
    environment: gymnasium.Env[Any, Any], job: EpisodeJob, reset_seed: int, policy_seed: int
) -> EpisodeBuffer:
    """Run one episode until the environment ends it."""
    random = np.random.default_rng(policy_seed)
    options = reset_options(job.collect, environment, random)
    observation, info = environment.reset(seed=reset_seed, options=options)
    policy = make_policy(job.collect, environment, random)
    space = environment.action_space
    assert isinstance(space, gymnasium.spaces.Box)

    observations, infos = [observation], [_recorded_info(environment, job, observation, info)]
    actions, rewards, terminations, truncations = [], [], [], []
    ended = False
    while not ended:
        noise = job.collect.noise * random.normal(size=space.shape)
        action = np.clip(policy.act(observation, info) + noise, space.low, space.high).astype(
            space.dtype
        )
        observation, reward, terminated, truncated, info = environment.step(action)
        ended = terminated or truncated
        observations.append(observation)
        infos.append(_recorded_info(environment, job, observation, info))
        actions.append(action)
        rewards.append(float(reward))
        terminations.append(terminated)
        truncations.append(truncated)
    return EpisodeBuffer(
        id=None,
        seed=reset_seed,
        options=options,
        observations=_stacked(observations),
        actions=np.stack(actions),
        rewards=rewards,
        terminations=terminations,
        truncations=truncations,
        infos=_stacked(infos),
    )


def cut_at_success(episode: EpisodeBuffer) -> Iterator[EpisodeBuffer]:
    """The episode in pieces: each ends where a goal was reached, and the next begins in that state.

    The first alone has the seed of the reset. What follows the last goal is a piece too.
    """
    length = len(episode.rewards)
    reached = np.flatnonzero(episode.infos["success"][1:]) + 1
    edges = [0, *(int(edge) for edge in reached if edge < length), length]
    for first, last in pairwise(edges):
        truncations = [False] * (last - first - 1) + [True]
        yield EpisodeBuffer(
            id=None,
            seed=episode.seed if first == 0 else None,
            observations=_sliced(episode.observations, first, last + 1),
            actions=episode.actions[first:last],
            rewards=episode.rewards[first:last],
            terminations=episode.terminations[first:last],
            truncations=truncations,
            infos=_sliced(episode.infos, first, last + 1),
        )


@contextmanager
def minari_root(root: Path) -> Iterator[None]:
    """Let Minari read and write below ``root`` within the block."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(root.resolve())  # Minari trips over relative paths.
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def _recorded_info(
    environment: gymnasium.Env[Any, Any], job: EpisodeJob, observation: Any, info: dict[str, Any]
) -> dict[str, NDArray[Any]]:
    """What is recorded beside the observation, as in the published ``D4RL/pointmaze`` data."""
    recorded = {"success": np.asarray(bool(reported_success(info)))}
    if job.desired is not None:
        recorded["goal"] = select(as_tree(observation, info), job.desired).copy()
    simulator = getattr(environment.unwrapped, "data", None)  # MuJoCo's state, where there is one.
    if simulator is not None:
        recorded |= {"qpos": simulator.qpos.copy(), "qvel": simulator.qvel.copy()}
    if "button_states" in info:
        recorded["button_states"] = np.asarray(info["button_states"], dtype=np.int64).copy()
    return recorded


def _sliced(arrays: Any, first: int, last: int) -> Any:
    """Steps ``first`` to ``last - 1`` of an array, or of a dict of them."""
    if isinstance(arrays, dict):
        return {key: _sliced(values, first, last) for key, values in arrays.items()}
    return arrays[first:last]


def _stacked(steps: list[Any]) -> Any:
    """A list of arrays, or of dicts of them, with a leading step axis."""
    if isinstance(steps[0], dict):
        return {key: _stacked([step[key] for step in steps]) for key in steps[0]}
    return np.stack(steps)
