"""Collecting policies by the names that recipes use."""

import inspect
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.collect.explorers import HeldDirectionExplorer, UniformExplorer
from offline_gcrl.collect.fetch import (
    FetchPickAndPlaceDemonstrator,
    FetchPushDemonstrator,
    FetchReachDemonstrator,
    FetchSlideDemonstrator,
)
from offline_gcrl.collect.hand import HandReachDemonstrator
from offline_gcrl.collect.mazes import MazeWaypointDemonstrator
from offline_gcrl.collect.metaworld import MetaWorldDemonstrator
from offline_gcrl.collect.ogbench import OGBenchMaze, OGBenchPlay
from offline_gcrl.config import Collect, nearest
from offline_gcrl.environments.actions import NEEDED, is_scalable
from offline_gcrl.environments.making import seeded_episode, shown_error
from offline_gcrl.support.errors import OfflineGCRLError, SettingsError


class CollectingPolicy(Protocol):
    """Chooses actions from observations of the environment, for one episode.

    A policy may have two static methods: ``reset_options(environment, random, **settings)`` returns the options of
    ``reset`` for its episode, and ``accepts(environment, infos)`` decides whether a finished episode is recorded.
    """

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action, shape (action,), from the last observation and info of the environment."""
        ...


POLICIES: dict[str, Any] = {
    "uniform": UniformExplorer,
    "held_direction": HeldDirectionExplorer,
    "maze_waypoint": MazeWaypointDemonstrator,
    "fetch_reach": FetchReachDemonstrator,
    "ogbench_maze": OGBenchMaze,
    "ogbench_play": OGBenchPlay,
    "metaworld_scripted": MetaWorldDemonstrator,
    "fetch_push": FetchPushDemonstrator,
    "fetch_pick_and_place": FetchPickAndPlaceDemonstrator,
    "fetch_slide": FetchSlideDemonstrator,
    "hand_reach": HandReachDemonstrator,
}


def check_policy(collect: Collect, environment: gymnasium.Env[Any, Any], where: str) -> None:
    """Check the name and settings of a policy, and that it can act in the environment.

    Raises:
        SettingsError: naming the place in the recipe (``where``), and the nearest valid name.
    """
    if collect.policy not in POLICIES:
        raise SettingsError(
            f"{where}.policy: no policy '{collect.policy}'; {nearest(collect.policy, POLICIES)}"
        )
    known = list(inspect.signature(POLICIES[collect.policy]).parameters)[2:]
    for name in collect.settings:
        if name not in known:
            raise SettingsError(
                f"{where}.settings: '{collect.policy}' has no setting '{name}'; "
                f"{nearest(name, known)}"
            )
    if not is_scalable(environment.action_space):
        raise SettingsError(f"{where}: the action space is {environment.action_space}; {NEEDED}")
    random = np.random.default_rng(0)
    try:
        with seeded_episode(environment, 0):
            options = reset_options(collect, environment, random)
            observation, info = environment.reset(seed=0, options=options)
            make_policy(collect, environment, random).act(observation, info)
    except MemoryError:
        raise
    except Exception as error:
        said = error if isinstance(error, OfflineGCRLError) else shown_error(error)
        raise SettingsError(f"{where}: policy '{collect.policy}' cannot act: {said}") from error


def make_policy(
    collect: Collect, environment: gymnasium.Env[Any, Any], random: np.random.Generator
) -> CollectingPolicy:
    """A policy for one episode."""
    policy: CollectingPolicy = POLICIES[collect.policy](environment, random, **collect.settings)
    return policy


def reset_options(
    collect: Collect, environment: gymnasium.Env[Any, Any], random: np.random.Generator
) -> dict[str, Any] | None:
    """Options of ``reset`` that a policy needs for its episode; None if it needs none."""
    choose = getattr(POLICIES[collect.policy], "reset_options", None)
    return choose(environment, random, **collect.settings) if choose else None


def accepts(
    collect: Collect, environment: gymnasium.Env[Any, Any], infos: dict[str, NDArray[Any]]
) -> bool:
    """Whether a policy accepts its finished episode; most policies accept all."""
    check = getattr(POLICIES[collect.policy], "accepts", None)
    return check is None or bool(check(environment, infos))
