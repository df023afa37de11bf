"""Reading Minari datasets: each episode checked, its goals selected, all as float32 arrays.

Whatever is wrong is said with the dataset, the episode and the key.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minari
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Recipe, Source, has_original_goals
from offline_gcrl.errors import DataError
from offline_gcrl.goals import reaches
from offline_gcrl.selection import as_tree, select

ACTION_SLACK = 1e-5  # Actions are stored as float32; the bounds may not be.


@dataclass(frozen=True)
class Episode:
    """One checked episode of T transitions, as float32."""

    vectors: dict[str, NDArray[np.float32]]
    """By column: T + 1 observations and goals, T actions."""
    reward: NDArray[np.float32]
    terminated: bool
    success: bool | None
    """Whether some transition reached the goal pursued in it; None where that is not known."""

    def __len__(self) -> int:
        """Number of transitions, T."""
        return len(self.reward)


def open_source(source: Source, root: Path) -> minari.MinariDataset:
    """Open one source's Minari dataset.

    Raises:
        DataError: it is missing, empty, or no Minari dataset.
    """
    path = root / source.dataset / "data"
    try:
        data = minari.MinariDataset(path)
    except Exception as error:  # Minari raises whatever its reader met; each means: unreadable.
        raise DataError(
            f"dataset '{source.dataset}' in {path} cannot be read as Minari data: {error}"
        ) from error
    if data.total_episodes == 0:
        raise DataError(f"dataset '{source.dataset}' has no episodes")
    return data


def taken_episodes(source: Source, data: minari.MinariDataset) -> int:
    """How many episodes are taken: all of what is made here, which may have been cut into more."""
    every = int(data.total_episodes)
    return every if source.collect else source.episodes or every


def read_episodes(
    recipe: Recipe, source: Source, data: minari.MinariDataset, number: int
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    """The checked episodes of source ``number``, each with its row of ``episodes.parquet``."""
    count = taken_episodes(source, data)
    validation = _validation_episodes(count, recipe.validation_share, number)
    raw_episodes = data.storage.get_episodes(range(count))
    metadata = data.storage.get_episode_metadata(range(count))
    for index, (raw, facts) in enumerate(zip(raw_episodes, metadata, strict=True)):
        where = f"dataset '{source.dataset}', episode {index}"
        yield (
            read_episode(raw, recipe.goal, data.action_space, where),
            {
                "task": recipe.task,
                "source": source.dataset,
                "kind": source.kind,
                "seed": facts.get("seed"),
                "split": "validation" if index in validation else "train",
            },
        )


def read_episode(raw: dict[str, Any], goal: Goal, action_space: spaces.Box, where: str) -> Episode:
    """Check one raw Minari episode and turn it into flat float32 arrays.

    Raises:
        DataError: naming ``where`` and what is wrong.
    """
    action = _matrix(raw["actions"])
    length = len(action)
    if length == 0:
        raise DataError(f"{where}: no transitions")
    vectors = _selected(as_tree(raw["observations"], raw["infos"]), goal, length, where)
    _checked(action, "actions", length, where)
    reward = _checked(_matrix(raw["rewards"]), "rewards", length, where)[:, 0]
    for key in ("terminations", "truncations"):
        _checked(_matrix(raw[key]), key, length, where)
    low, high = action_space.low.reshape(-1), action_space.high.reshape(-1)
    outside = (action < low - ACTION_SLACK) | (action > high + ACTION_SLACK)
    if outside.any():
        step = int(outside.any(1).argmax())
        raise DataError(f"{where}: step {step}: action {action[step]} is outside {action_space}")
    return Episode(
        vectors={**vectors, "action": action},
        reward=reward,
        terminated=bool(np.asarray(raw["terminations"])[-1]),
        success=_reached_own_goal(vectors, goal),
    )


def check_source(recipe: Recipe, source: Source, data: minari.MinariDataset, root: Path) -> None:
    """Check what holds for a whole source: bounded actions, spaces of the recipe, enough episodes.

    Raises:
        DataError: naming the dataset and the remedy.
    """
    space = data.action_space
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        raise DataError(
            f"dataset '{source.dataset}': its actions are {space}; agents need a Box with finite bounds"
        )
    reference = open_source(recipe.sources[0], root)
    for kind in ("observation_space", "action_space"):
        mine, theirs = getattr(data, kind), getattr(reference, kind)
        if mine != theirs:
            raise DataError(
                f"dataset '{source.dataset}': its {kind} {mine} is not that of "
                f"'{recipe.sources[0].dataset}', {theirs}; sources of one recipe must share their spaces"
            )
    if taken_episodes(source, data) > data.total_episodes:
        raise DataError(
            f"dataset '{source.dataset}' has {data.total_episodes} episodes, and its recipe asks for "
            f"{source.episodes}"
        )


def vector_sizes(recipe: Recipe, source: Source, data: minari.MinariDataset) -> dict[str, int]:
    """Sizes of the vectors of a source, from its first episode.

    Raises:
        DataError: that episode is broken, or its goals differ in size.
    """
    raw = next(iter(data.storage.get_episodes([0])))
    where = f"dataset '{source.dataset}', episode 0"
    episode = read_episode(raw, recipe.goal, data.action_space, where)
    sizes = {name: array.shape[1] for name, array in episode.vectors.items()}
    goal = sizes.get("achieved_goal", sizes["observation"])
    if sizes.get("desired_goal", goal) != goal:
        raise DataError(
            f"{where}: achieved goals have {goal} numbers and desired ones {sizes['desired_goal']}"
        )
    return sizes


def _selected(
    tree: dict[str, Any], goal: Goal, length: int, where: str
) -> dict[str, NDArray[np.float32]]:
    """The observations and goals of an episode that are stored, checked."""
    chosen = {"observation": goal.observation}
    if not goal.is_full_state:
        chosen["achieved_goal"] = goal.achieved
    if goal.desired is not None:
        chosen["desired_goal"] = goal.desired
    vectors = {}
    for name, selection in chosen.items():
        try:
            values = select(tree, selection, rows=length + 1)
        except DataError as error:
            role = name.removesuffix("_goal")
            raise DataError(f"{where}: {error} (goal.{role} of the recipe)") from None
        vectors[name] = _checked(_matrix(values), name, length + 1, where)
    return vectors


def _validation_episodes(count: int, share: float, source: int) -> set[int]:
    """Which of a source's episodes are for validation: a share of them, at least one of two or more."""
    if share == 0.0 or count < 2:
        return set()
    chosen = min(count - 1, max(1, round(share * count)))
    random = np.random.default_rng([0, source])
    return set(random.permutation(count)[:chosen].tolist())


def _matrix(values: Any) -> NDArray[np.float32]:
    array = np.asarray(values, dtype=np.float32)
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _checked_length(values: Any, key: str, length: int, where: str) -> None:
    if len(values) != length:
        raise DataError(
            f"{where}: '{key}' has {len(values)} rows, expected {length}; an episode of T actions has "
            "T rewards and T + 1 observations"
        )


def _checked(values: NDArray[np.float32], key: str, length: int, where: str) -> NDArray[np.float32]:
    _checked_length(values, key, length, where)
    finite = np.isfinite(values).all(1)
    if not finite.all():
        raise DataError(f"{where}: '{key}' is not finite at step {int(finite.argmin())}")
    return values


def _reached_own_goal(vectors: dict[str, NDArray[np.float32]], goal: Goal) -> bool | None:
    """Whether some transition reached the goal pursued in it.

    The goal of step t counts up to t = T - 1: in continuing data the last one is already the next goal.
    """
    if not has_original_goals(goal):
        return None
    achieved = vectors.get("achieved_goal", vectors["observation"])
    return bool(reaches(achieved[1:], vectors["desired_goal"][:-1], goal.success).any())
