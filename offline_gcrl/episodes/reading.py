"""Reading Minari datasets: each episode checked, its goals selected, all as float32 arrays.

Whatever is wrong is said with the dataset, the episode and the key.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import minari
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Recipe, Source, has_original_goals
from offline_gcrl.environments.selection import as_tree, select
from offline_gcrl.episodes.sources import reason_of, taken_episodes
from offline_gcrl.goals.success import reaches, size_mismatch
from offline_gcrl.support.errors import DataError

SCALARS = ("rewards", "terminations")
"""What is read of each transition beside its action; truncations are not, for nothing depends on them."""
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

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers a step, by column."""
        return {name: array.shape[1] for name, array in self.vectors.items()}


def read_episodes(
    recipe: Recipe,
    source: Source,
    data: minari.MinariDataset,
    number: int,
    span: range | None = None,
    sizes: dict[str, int] | None = None,
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    """The checked episodes of source ``number``, one by one, each with its row of ``episodes.parquet``.

    Args:
        recipe: says what its goals are.
        source: and how many episodes to take.
        data: the source, opened.
        number: of the source; it chooses the episodes for validation.
        span: some of the episodes; all of them when left out.
        sizes: of the vectors of the episodes before.
    """
    count = taken_episodes(source, data)
    validation = validation_episodes(count, recipe.validation_share, number)
    span = range(count) if span is None else span
    for index, (raw, facts) in zip(span, _stored(source, data, span), strict=True):
        where = f"dataset '{source.dataset}', episode {index}"
        episode = read_episode(raw, recipe.goal, data.action_space, where)
        sizes = sizes or episode.sizes
        if episode.sizes != sizes:
            raise DataError(f"{where}: its sizes {episode.sizes} are not those before, {sizes}")
        seed = _seed(facts.get("seed"), where)
        yield episode, episode_facts(recipe, source, seed, index in validation)


def episode_facts(
    recipe: Recipe, source: Source, seed: int | None, for_validation: bool
) -> dict[str, Any]:
    """What ``episodes.parquet`` says of an episode beside what its arrays do."""
    return {
        "task": recipe.task,
        "source": source.dataset,
        "kind": source.kind,
        "seed": seed,
        "split": "validation" if for_validation else "train",
    }


def _stored(
    source: Source, data: minari.MinariDataset, span: range
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Episodes as Minari reads them, each with its metadata.

    Raises:
        DataError: naming the episode that cannot be read.
    """
    stored = zip(
        data.storage.get_episodes(span),
        data.storage.get_episode_metadata(span),
        strict=True,
    )
    for index in span:
        try:
            episode = next(stored)
        except Exception as error:  # Minari raises whatever h5py met; each means: unreadable.
            raise DataError(
                f"dataset '{source.dataset}', episode {index}: cannot be read ({reason_of(error)}); its file is "
                "damaged, or was not written to the end: copy or download it again"
            ) from error
        yield episode


def read_episode(raw: dict[str, Any], goal: Goal, action_space: spaces.Box, where: str) -> Episode:
    """Check one raw Minari episode and turn it into flat float32 arrays.

    Raises:
        DataError: naming ``where`` and what is wrong.
    """
    length = len(_matrix(raw["actions"], "actions", where))
    if length == 0:
        raise DataError(f"{where}: no transitions")
    tree = as_tree(raw["observations"], raw["infos"])
    vectors, scalars = checked_columns(tree, raw, goal, action_space, length + 1, where)
    return Episode(
        vectors=vectors,
        reward=scalars["rewards"],
        terminated=bool(scalars["terminations"][-1]),
        success=_reached_own_goal(vectors, goal),
    )


def checked_columns(
    tree: dict[str, Any],
    raw: Mapping[str, Any],
    goal: Goal,
    action_space: spaces.Box,
    rows: int,
    where: str,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Select, check and flatten what an episode holds, or several one after another.

    Args:
        tree: observations and infos of ``rows`` rows, as ``as_tree`` makes it.
        raw: ``actions`` and the ``SCALARS`` of each transition.
        goal: what to select.
        action_space: within which actions must lie.
        rows: number of states.
        where: what they are of, for errors.

    Returns:
        The vectors by column, and the scalars, as float32.

    Raises:
        DataError: naming ``where`` and what is wrong.
    """
    action = _matrix(raw["actions"], "actions", where)
    vectors = _selected(tree, goal, rows, where)
    _checked(action, "actions", len(action), where)
    _check_within(action, action_space, where)
    _check_goals(vectors, goal, where)
    scalars = {key: _scalars(raw[key], key, len(action), where) for key in SCALARS}
    return {**vectors, "action": action}, scalars


def vector_sizes(recipe: Recipe, source: Source, data: minari.MinariDataset) -> dict[str, int]:
    """Sizes of the vectors of a source, from its first episode.

    Raises:
        DataError: that episode is broken.
    """
    raw, _ = next(_stored(source, data, range(1)))
    where = f"dataset '{source.dataset}', episode 0"
    return read_episode(raw, recipe.goal, data.action_space, where).sizes


def _selected(
    tree: dict[str, Any], goal: Goal, rows: int, where: str
) -> dict[str, NDArray[np.float32]]:
    """The observations and goals that are stored, checked."""
    chosen = {"observation": goal.observation}
    if not goal.is_full_state:
        chosen["achieved_goal"] = goal.achieved
    if goal.desired is not None:
        chosen["desired_goal"] = goal.desired
    vectors = {}
    for name, selection in chosen.items():
        role = name.removesuffix("_goal")
        try:
            values = select(tree, selection, rows=rows)
        except DataError as error:
            raise DataError(f"{where}: {error} (goal.{role} of the recipe)") from None
        matrix = _matrix(values, f"goal.{role}" if role != name else name, where)
        vectors[name] = _checked(matrix, name, rows, where)
    return vectors


def validation_episodes(count: int, share: float, source: int) -> set[int]:
    """Which of a source's episodes are for validation: a share of them, at least one of two or more."""
    if share == 0.0 or count < 2:
        return set()
    chosen = min(count - 1, max(1, round(share * count)))
    random = np.random.default_rng([0, source])
    return set(random.permutation(count)[:chosen].tolist())


def _matrix(values: Any, key: str, where: str) -> NDArray[np.float32]:
    """What was stored as (rows, numbers) in float32.

    Raises:
        DataError: it is no table of numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise DataError(f"{where}: '{key}' is {_in_words(array)}, expected rows of numbers")
    size = math.prod(array.shape[1:])
    if size == 0:
        raise DataError(f"{where}: '{key}' has no numbers, its shape is {array.shape}")
    with np.errstate(over="ignore"):  # Too large for float32 is infinite, which is refused.
        return array.astype(np.float32, copy=False).reshape(len(array), size)


def _in_words(array: NDArray[Any]) -> str:
    return f"a single {array.dtype}" if array.ndim == 0 else f"rows of type {array.dtype}"


def _scalars(values: Any, key: str, length: int, where: str) -> NDArray[np.float32]:
    """What has one number a transition."""
    matrix = _checked(_matrix(values, key, where), key, length, where)
    if matrix.shape[1] != 1:
        raise DataError(f"{where}: '{key}' has {matrix.shape[1]} numbers a step, expected one")
    return matrix[:, 0]


def _check_goals(vectors: dict[str, NDArray[np.float32]], goal: Goal, where: str) -> None:
    """That goals achieved and pursued can be compared, and by the recipe's success test."""
    size = vectors.get("achieved_goal", vectors["observation"]).shape[1]
    pursued = vectors["desired_goal"].shape[1] if "desired_goal" in vectors else size
    if pursued != size:
        raise DataError(f"{where}: achieved goals have {size} numbers and desired ones {pursued}")
    wrong = size_mismatch(goal.success, size)
    if wrong:
        raise DataError(
            f"{where}: goal.success of the recipe: {wrong}; the goals have {size} numbers"
        )


def _check_within(action: NDArray[np.float32], space: spaces.Box, where: str) -> None:
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    if action.shape[1] != len(low):
        raise DataError(
            f"{where}: its actions have {action.shape[1]} numbers, those of {space} have {len(low)}"
        )
    outside = (action < low - ACTION_SLACK) | (action > high + ACTION_SLACK)
    if outside.any():
        step = int(outside.any(1).argmax())
        raise DataError(f"{where}: step {step}: action {action[step]} is outside {space}")


def _seed(stored: Any, where: str) -> int | None:
    """The seed of an episode's reset, if it was noted."""
    if stored is None:
        return None
    if not isinstance(stored, int) or not 0 <= stored < 2**63:
        raise DataError(f"{where}: its seed {stored} is no whole number below 2^63")
    return stored


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
