"""Reads Minari datasets episode by episode: checks each episode, selects its goals, and converts it to float32 arrays.

Errors name the dataset, the episode and the key.
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
from offline_gcrl.episodes.digits import check_digits, check_tolerance
from offline_gcrl.episodes.sources import reason_of, taken_episodes
from offline_gcrl.goals.success import reaches, size_mismatch
from offline_gcrl.support.errors import DataError

SCALARS = ("rewards", "terminations", "truncations")
"""Keys that are read for each transition in addition to its action."""
ACTION_SLACK = 1e-5  # Actions are stored as float32, but their bounds may have more digits.


@dataclass(frozen=True)
class Episode:
    """One checked episode of T transitions, as float32."""

    vectors: dict[str, NDArray[np.float32]]
    """Arrays by column: T + 1 observations and goals, T actions."""
    reward: NDArray[np.float32]
    """(T,)"""
    terminated: bool
    success: bool | None
    """Whether any transition reached its original goal; None if the data has no original goals."""

    def __len__(self) -> int:
        """The number of transitions, T."""
        return len(self.reward)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of values per step, by column."""
        return {name: array.shape[1] for name, array in self.vectors.items()}


def read_episodes(
    recipe: Recipe,
    source: Source,
    data: minari.MinariDataset,
    number: int,
    span: range | None = None,
    sizes: dict[str, int] | None = None,
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    """Read and check the episodes of a source one by one; yields each with its facts for ``episodes.parquet``.

    Args:
        recipe: the recipe with the goal spec.
        source: the source; it determines how many episodes are taken.
        data: the source's opened Minari dataset.
        number: the number of the source, from which the validation episodes are drawn.
        span: the episodes to read; all by default.
        sizes: the vector sizes that the episodes must have; by default those of the first one.

    Raises:
        DataError: an episode is broken; the message names dataset and episode.
    """
    count = taken_episodes(source, data)
    validation = validation_episodes(count, recipe.validation_share, number)
    span = range(count) if span is None else span
    for index, (raw, facts) in zip(span, stored_episodes(source, data, span), strict=True):
        where = f"dataset '{source.dataset}', episode {index}"
        episode = read_episode(raw, recipe.goal, data.action_space, where)
        sizes = sizes or episode.sizes
        if episode.sizes != sizes:
            raise DataError(
                f"{where}: its sizes {episode.sizes} differ from those of earlier episodes, {sizes}"
            )
        seed = _seed(facts.get("seed"), where)
        yield episode, episode_facts(recipe, source, seed, index in validation)


def episode_facts(
    recipe: Recipe, source: Source, seed: int | None, for_validation: bool
) -> dict[str, Any]:
    """The columns of ``episodes.parquet`` that do not follow from the arrays of an episode."""
    return {
        "task": recipe.task,
        "source": source.dataset,
        "kind": source.kind,
        "seed": seed,
        "split": "validation" if for_validation else "train",
    }


def stored_episodes(
    source: Source, data: minari.MinariDataset, span: range
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Episodes in Minari's format, each with its metadata, one by one.

    Raises:
        DataError: an episode cannot be read; the message names it.
    """
    stored = zip(
        data.storage.get_episodes(span),
        data.storage.get_episode_metadata(span),
        strict=True,
    )
    for index in span:
        try:
            episode = next(stored)
        except MemoryError:
            raise
        except Exception as error:  # Minari passes on any exception of h5py.
            raise DataError(
                f"dataset '{source.dataset}', episode {index}: cannot be read ({reason_of(error)}); its file is "
                "damaged or incomplete: copy or download it again"
            ) from error
        yield episode


def read_episode(raw: dict[str, Any], goal: Goal, action_space: spaces.Box, where: str) -> Episode:
    """Check an episode in Minari's format and convert it to flat float32 arrays.

    Raises:
        DataError: the episode is broken; the message starts with ``where``.
    """
    length = len(_matrix(raw["actions"], "actions", where))
    if length == 0:
        raise DataError(f"{where}: no transitions")
    try:
        tree = as_tree(raw["observations"], raw["infos"])
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    vectors, scalars = checked_columns(tree, raw, goal, action_space, length + 1, where)
    _check_ends(scalars, where)
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
    """Select, check and flatten the arrays of one episode, or of several ones after each other.

    Args:
        tree: observations and infos of ``rows`` states, as ``as_tree`` returns them.
        raw: ``actions`` and the ``SCALARS`` of each transition.
        goal: the goal spec, which determines what is selected.
        action_space: the bounds of the actions.
        rows: number of states.
        where: the start of error messages, such as the names of dataset and episode.

    Returns:
        The vectors by column, and the scalars, as float32.

    Raises:
        DataError: a check failed; the message starts with ``where``.
    """
    action = _matrix(raw["actions"], "actions", where)
    vectors = _selected(tree, goal, rows, where)
    _checked(action, "actions", len(action), where)
    _check_within(action, action_space, where)
    _check_goals(vectors, goal, where)
    scalars = {key: _scalars(raw[key], key, len(action), where) for key in SCALARS}
    return {**vectors, "action": action}, scalars


def vector_sizes(recipe: Recipe, source: Source, data: minari.MinariDataset) -> dict[str, int]:
    """The sizes of the vectors of a source, from its first episode.

    Raises:
        DataError: the first episode is broken.
    """
    raw, _ = next(stored_episodes(source, data, range(1)))
    where = f"dataset '{source.dataset}', episode 0"
    return read_episode(raw, recipe.goal, data.action_space, where).sizes


def _selected(
    tree: dict[str, Any], goal: Goal, rows: int, where: str
) -> dict[str, NDArray[np.float32]]:
    """Select and check the observations and goals that are stored."""
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
    """Draw the validation episodes of a source: a share of all, and at least one if there are two or more."""
    if share == 0.0 or count < 2:
        return set()
    chosen = min(count - 1, max(1, round(share * count)))
    random = np.random.default_rng([0, source])
    return set(random.permutation(count)[:chosen].tolist())


def _matrix(values: Any, key: str, where: str) -> NDArray[np.float32]:
    """Stored values as float32, (rows, numbers).

    Raises:
        DataError: the values are not rows of numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise DataError(f"{where}: '{key}' is {_in_words(array)}, expected rows of numbers")
    size = math.prod(array.shape[1:])
    if size == 0:
        raise DataError(f"{where}: '{key}' has no numbers, its shape is {array.shape}")
    with np.errstate(
        over="ignore"
    ):  # Infinite where too large for float32, which is refused later.
        single = array.astype(np.float32, copy=False).reshape(len(array), size)
    check_digits(array.reshape(len(array), size), single, key, where)
    return single


def _in_words(array: NDArray[Any]) -> str:
    return f"a single {array.dtype}" if array.ndim == 0 else f"rows of type {array.dtype}"


def _scalars(values: Any, key: str, length: int, where: str) -> NDArray[np.float32]:
    """Values with one number per transition."""
    matrix = _checked(_matrix(values, key, where), key, length, where)
    if matrix.shape[1] != 1:
        raise DataError(f"{where}: '{key}' has {matrix.shape[1]} numbers per step, expected one")
    return matrix[:, 0]


def _check_goals(vectors: dict[str, NDArray[np.float32]], goal: Goal, where: str) -> None:
    """Check that achieved and desired goals have the same size, and that the success test fits it."""
    size = vectors.get("achieved_goal", vectors["observation"]).shape[1]
    desired = vectors["desired_goal"].shape[1] if "desired_goal" in vectors else size
    if desired != size:
        raise DataError(f"{where}: achieved goals have {size} numbers and desired ones {desired}")
    wrong = size_mismatch(goal.success, size)
    if wrong:
        raise DataError(
            f"{where}: goal.success of the recipe: {wrong}; the goals have {size} numbers"
        )
    for key in ("achieved_goal", "desired_goal"):
        if key in vectors:
            check_tolerance(vectors[key], goal.success, f"goal.{key.removesuffix('_goal')}", where)
    if "achieved_goal" not in vectors:
        check_tolerance(vectors["observation"], goal.success, "observation", where)


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


def end_flags(scalars: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Whether each transition ends an episode, (transitions,)."""
    return np.asarray((scalars["terminations"] != 0) | (scalars["truncations"] != 0))


def _check_ends(scalars: Mapping[str, NDArray[np.float32]], where: str) -> None:
    """Check that no transition before the last one ends the episode: hindsight goals would cross a reset."""
    inside = end_flags(scalars)[:-1]
    if inside.any():
        step = int(inside.argmax())
        raise DataError(
            f"{where}: step {step} is marked as the end of an episode, and {len(inside) - step} steps follow: several "
            "episodes are stored as one; write each as an episode of its own (in Minari, one EpisodeBuffer each)"
        )


def _seed(stored: Any, where: str) -> int | None:
    """The seed of an episode's reset, if it is recorded."""
    if stored is None:
        return None
    if not isinstance(stored, int) or not 0 <= stored < 2**63:
        raise DataError(f"{where}: its seed {stored} is not an integer from 0 to 2^63 - 1")
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
    """Whether any transition reached its original goal; None if the data has no original goals.

    Only the goals of steps up to T - 1 count. In continuing data, the goal of the last state is already the next one.
    """
    if not has_original_goals(goal):
        return None
    achieved = vectors.get("achieved_goal", vectors["observation"])
    return bool(reaches(achieved[1:], vectors["desired_goal"][:-1], goal.success).any())
