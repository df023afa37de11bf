"""Runs collecting policies in worker processes and writes Minari datasets (HDF5).

Every episode is a function of (recipe, seed, index) alone, so the data does not depend on the number of processes. As in
the published ``D4RL/pointmaze`` data, an episode contains the observations with their goals, and as infos the success,
the simulator's qpos and qvel (which are sufficient to replay it) and the goal. As in OGBench's data, it also contains
the states of buttons, which are not part of the simulator's state.
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

from offline_gcrl.collect.kept import continued
from offline_gcrl.collect.policies import accepts, check_policy, make_policy, reset_options
from offline_gcrl.collect.room import with_room
from offline_gcrl.config import Collect, Environment, Recipe, Selection, Source
from offline_gcrl.environments.actions import OrderedActions
from offline_gcrl.environments.making import reported_success, seeded_episode, shared_environment
from offline_gcrl.environments.selection import as_tree, select
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.support.processes import cores, ordered_map, with_callback

MAX_DRAWS = 100
"""Largest number of draws of an episode that its policy rejects."""


@dataclass(frozen=True)
class EpisodeJob:
    """One episode to collect."""

    environment: Environment
    collect: Collect
    desired: Selection | None
    """Selection of the goal that is recorded, if there is one."""
    index: int


def collect_source(
    recipe: Recipe,
    source: Source,
    root: Path,
    workers: int | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
    kept: Path | None = None,
) -> minari.MinariDataset:
    """Collect one source of a recipe into a Minari root.

    Args:
        recipe: the recipe, with an environment.
        source: a source with ``collect`` and a number of episodes.
        root: the Minari root.
        workers: number of processes; if left out, one per core. The data does not depend on it.
        on_steps: called with the number of steps of each finished episode.
        kept: folder of the source's finished episodes, with which a killed collection continues; if left out, a
            killed collection starts again.

    Raises:
        OSError: the disk is full.
    """
    assert recipe.environment is not None
    assert source.collect is not None
    assert source.episodes is not None
    environment, collect = recipe.environment, source.collect
    evaluation = recipe.evaluation and shared_environment(recipe.evaluation.environment)
    count, desired = source.episodes, recipe.goal.desired

    def episodes_from(first: int) -> Iterator[EpisodeBuffer]:
        jobs = (EpisodeJob(environment, collect, desired, index) for index in range(first, count))
        return ordered_map(collect_episode, jobs, workers or cores())

    episodes = continued(kept, episodes_from) if kept else episodes_from(0)
    if collect.cut_at_success:
        episodes = (piece for episode in episodes for piece in cut_at_success(episode))
    with minari_root(root):
        return minari.create_dataset_from_buffers(
            source.dataset,
            with_callback(
                with_room(episodes, root), lambda episode: on_steps(len(episode.rewards))
            ),
            env=shared_environment(environment),
            eval_env=evaluation,
            algorithm_name=f"{collect.policy}, action noise {collect.noise}",
            author="offline-gcrl",
            author_email="unknown",
            code_permalink="unknown",
            description=f"{recipe.title} ({source.kind})",
            requirements=[f"mujoco=={mujoco.__version__}"],
            data_format="hdf5",
        )


def check_sources(recipe: Recipe, where: str) -> None:
    """Check that the policy of every generated source can act in the environment, before any work starts.

    Raises:
        SettingsError: naming the recipe (``where``), the key and the problem.
    """
    if recipe.environment is None or not any(source.collect for source in recipe.sources):
        return
    environment = shared_environment(recipe.environment)
    for number, source in enumerate(recipe.sources):
        if source.collect is not None:
            check_policy(source.collect, environment, f"{where}: sources.{number}.collect")
    if not max_steps_per_episode(recipe):
        raise SettingsError(
            f"{where}: environment.kwargs: set max_episode_steps, which ends collected episodes"
        )


def max_steps_per_episode(recipe: Recipe) -> int:
    """Largest number of steps per episode of the collecting environment; 0 if there is no limit."""
    spec = shared_environment(recipe.environment).spec if recipe.environment else None
    return (spec.max_episode_steps or 0) if spec else 0


def collect_episode(job: EpisodeJob) -> EpisodeBuffer:
    """Run one episode with its own seed until the environment ends it; draw it again if its policy rejects it.

    Raises:
        DataError: the policy rejected every draw.
    """
    environment = shared_environment(job.environment)
    for draw in range(MAX_DRAWS):
        # Not three numbers of which the last is positive: those are seeds of evaluation episodes.
        entropy = [job.collect.seed, job.index] + ([0, draw] if draw else [])
        episode = _first_success(environment, job, np.random.SeedSequence(entropy))
        if accepts(job.collect, environment, episode.infos):
            return episode
    raise DataError(
        f"policy '{job.collect.policy}' rejected all {MAX_DRAWS} draws of episode {job.index}; change "
        "'settings' or 'seed' of 'collect' in the recipe"
    )


def _first_success(
    environment: gymnasium.Env[Any, Any], job: EpisodeJob, seeds: np.random.SeedSequence
) -> EpisodeBuffer:
    """The first attempt that ends in success, or the last attempt; all have the same start."""
    # The first numbers of a seed sequence do not depend on how many are generated.
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
    known, converted = _known_to_policies(environment)
    policy = make_policy(job.collect, known, random)
    space = known.action_space
    assert isinstance(space, gymnasium.spaces.Box)

    observations = [_copied(observation)]
    infos = [_recorded_info(environment, job, observation, info)]
    actions, rewards, terminations, truncations = [], [], [], []
    ended = False
    while not ended:
        noise = job.collect.noise * random.normal(size=space.shape)
        chosen = np.clip(policy.act(observation, info) + noise, space.low, space.high)
        action = converted(chosen.astype(space.dtype))
        observation, reward, terminated, truncated, info = environment.step(action)
        ended = terminated or truncated
        observations.append(_copied(observation))
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


def _known_to_policies(
    environment: gymnasium.Env[Any, Any],
) -> tuple[gymnasium.Env[Any, Any], Callable[[NDArray[Any]], NDArray[Any]]]:
    """The environment that policies are written for, and the conversion of its actions to those that are recorded."""
    if isinstance(environment, OrderedActions):
        return environment.env, environment.reverse_action
    return environment, lambda action: action


def cut_at_success(episode: EpisodeBuffer) -> Iterator[EpisodeBuffer]:
    """Cut an episode into pieces, each of which ends where a goal was reached; the next piece starts in that state.

    Only the first piece has the seed of the reset. The steps after the last reached goal are a piece, too.
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
    """Use ``root`` as the Minari root within the block."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(root.resolve())  # Minari fails with relative paths.
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
    """The infos of a step, as in the published ``D4RL/pointmaze`` data."""
    recorded = {"success": np.asarray(bool(reported_success(info)))}
    if job.desired is not None:
        recorded["goal"] = select(as_tree(observation, info), job.desired).copy()
    simulator = getattr(environment.unwrapped, "data", None)  # The state of MuJoCo, if any.
    if simulator is not None:
        recorded |= {"qpos": simulator.qpos.copy(), "qvel": simulator.qvel.copy()}
    if "button_states" in info:
        recorded["button_states"] = np.asarray(info["button_states"], dtype=np.int64).copy()
    return recorded


def _copied(observation: Any) -> Any:
    """An observation whose arrays are copies, because an environment may change its own in later steps."""
    if isinstance(observation, dict):
        return {key: _copied(values) for key, values in observation.items()}
    return np.array(observation)


def _sliced(arrays: Any, first: int, last: int) -> Any:
    """Steps ``first`` to ``last - 1`` of an array, or of a dict of arrays."""
    if isinstance(arrays, dict):
        return {key: _sliced(values, first, last) for key, values in arrays.items()}
    return arrays[first:last]


def _stacked(steps: list[Any]) -> Any:
    """A list of arrays, or of dicts of arrays, stacked along a new first axis for steps."""
    if isinstance(steps[0], dict):
        return {key: _stacked([step[key] for step in steps]) for key in steps[0]}
    return np.stack(steps)
