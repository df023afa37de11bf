"""Minari to Parquet, an episode at a time: memory does not grow with the dataset."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import minari
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from gymnasium import spaces
from minari.serialization import serialize_space
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Recipe, Source
from offline_gcrl.episodes.schema import (
    EPISODES,
    EPISODES_SCHEMA,
    FORMAT,
    SCHEMA,
    STEPS,
    steps_schema,
)
from offline_gcrl.errors import DataError
from offline_gcrl.files import write_json
from offline_gcrl.goals import is_within

ROWS_A_GROUP = 2**16
ACTION_SLACK = 1e-5  # Actions are stored as float32; the bounds may not be.
VERSIONED = ("minari", "gymnasium", "gymnasium-robotics", "mujoco")


@dataclass(frozen=True)
class Episode:
    """One checked episode: T + 1 observations and goals, T actions and rewards, as float32."""

    observation: NDArray[np.float32]
    achieved_goal: NDArray[np.float32]
    desired_goal: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    terminated: bool

    def __len__(self) -> int:
        """Number of transitions, T."""
        return len(self.action)


@dataclass
class Moments:
    """Mean and variance of a stream, merged batch by batch (Chan, Golub, LeVeque 1983)."""

    count: int = 0
    mean: Any = 0.0
    squares: Any = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in a batch, shape (batch, dimension)."""
        values64 = values.astype(np.float64)
        count, mean = len(values64), values64.mean(0)
        total, delta = self.count + count, mean - self.mean
        self.squares += ((values64 - mean) ** 2).sum(0) + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total

    def summary(self) -> dict[str, list[float]]:
        """Mean and standard deviation in each dimension."""
        return {
            "mean": np.asarray(self.mean).tolist(),
            "std": np.sqrt(self.squares / self.count).tolist(),
        }


def ingest(
    recipe: Recipe,
    name: str,
    root: Path,
    output: Path,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> dict[str, Any]:
    """Write the sources of a recipe, found below the Minari root, as Parquet into ``output``.

    Returns:
        What ``schema.json`` holds.

    Raises:
        DataError: naming dataset and episode, for data that is broken or does not fit the recipe.
    """
    datasets = [open_source(source, root) for source in recipe.sources]
    reference = datasets[0]
    for source, dataset in zip(recipe.sources, datasets, strict=True):
        _check_spaces(source, dataset, reference, recipe)
        _check_episodes(source, dataset)
    with Writer(output) as writer:
        for index, (source, dataset) in enumerate(zip(recipe.sources, datasets, strict=True)):
            count = source.episodes or int(dataset.total_episodes)
            validation = _validation_episodes(count, recipe.validation_share, index)
            metadata = dataset.storage.get_episode_metadata(range(count))
            for number, (raw, facts) in enumerate(
                zip(dataset.storage.get_episodes(range(count)), metadata, strict=True)
            ):
                where = f"dataset '{source.dataset}', episode {number}"
                episode = read_episode(raw, recipe.goal, dataset.action_space, where)
                split = "validation" if number in validation else "train"
                writer.write(episode, recipe, source, split, facts.get("seed"))
                on_steps(len(episode))
    schema = _describe(recipe, name, reference, writer)
    write_json(output / SCHEMA, schema)
    return schema


def open_source(source: Source, root: Path) -> minari.MinariDataset:
    """Open one source's Minari dataset.

    Raises:
        DataError: it is missing, empty, or no Minari dataset.
    """
    path = root / source.dataset / "data"
    try:
        dataset = minari.MinariDataset(path)
    except Exception as error:  # Minari raises whatever its reader met; each means: unreadable.
        raise DataError(
            f"dataset '{source.dataset}' in {path} cannot be read as Minari data: {error}"
        ) from error
    if dataset.total_episodes == 0:
        raise DataError(f"dataset '{source.dataset}' has no episodes")
    return dataset


def read_episode(raw: dict[str, Any], goal: Goal, action_space: spaces.Box, where: str) -> Episode:
    """Check one raw Minari episode and turn it into flat float32 arrays.

    Raises:
        DataError: naming ``where`` and what is wrong.
    """
    observations = raw["observations"]
    if not isinstance(observations, dict):
        raise DataError(f"{where}: observations are not a dict with goals")
    action = _matrix(raw["actions"])
    length = len(action)
    if length == 0:
        raise DataError(f"{where}: no transitions")
    arrays = {}
    for role in ("observation", "achieved", "desired"):
        key = getattr(goal, role)
        if key not in observations:
            raise DataError(
                f"{where}: no observation key '{key}' (goal.{role} of the recipe); "
                f"there are: {', '.join(sorted(observations))}"
            )
        arrays[role] = _checked(_matrix(observations[key]), key, length + 1, where)
    _checked(action, "actions", length, where)
    reward = _checked(_matrix(raw["rewards"]), "rewards", length, where)[:, 0]
    low, high = action_space.low.reshape(-1), action_space.high.reshape(-1)
    outside = (action < low - ACTION_SLACK) | (action > high + ACTION_SLACK)
    if outside.any():
        step = int(outside.any(1).argmax())
        raise DataError(f"{where}: step {step}: action {action[step]} is outside {action_space}")
    return Episode(
        arrays["observation"],
        arrays["achieved"],
        arrays["desired"],
        action,
        reward,
        bool(np.asarray(raw["terminations"])[-1]),
    )


@dataclass
class Writer:
    """Writes checked episodes to ``steps.parquet`` and ``episodes.parquet``, in row groups."""

    output: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    statistics: dict[str, Moments] = field(default_factory=dict)
    row: int = 0
    file: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        """Open nothing yet: the columns are known from the first episode."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Write what waits, unless the block failed."""
        if error is None:
            self._flush()
            pq.write_table(pa.Table.from_pylist(self.rows, EPISODES_SCHEMA), self.output / EPISODES)
        if self.file is not None:
            self.file.close()

    def write(
        self, episode: Episode, recipe: Recipe, source: Source, split: str, seed: int | None
    ) -> None:
        """Add one episode to the files and to the statistics."""
        number, length = len(self.rows), len(episode)
        for column in ("observation", "achieved_goal", "desired_goal", "action"):
            self.statistics.setdefault(column, Moments()).add(getattr(episode, column))
        self.rows.append(
            {
                "episode": number,
                "first_row": self.row,
                "length": length,
                "task": source.task or recipe.task,
                "source": source.dataset,
                "kind": source.kind,
                "seed": seed,
                "split": split,
                "terminated": episode.terminated,
                "success": _reached_own_goal(episode, recipe.goal),
                "return": float(episode.reward.sum()),
            }
        )
        self.waiting.append(_as_batch(episode, number))
        self.row += length + 1
        if sum(map(len, self.waiting)) >= ROWS_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self.waiting:
            return
        table = pa.Table.from_batches(self.waiting)
        if self.file is None:
            self.file = pq.ParquetWriter(self.output / STEPS, table.schema, compression="zstd")
        self.file.write_table(table, row_group_size=len(table))
        self.waiting.clear()


def _check_spaces(
    source: Source, dataset: minari.MinariDataset, reference: minari.MinariDataset, recipe: Recipe
) -> None:
    space = dataset.action_space
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        raise DataError(
            f"dataset '{source.dataset}': its actions are {space}; agents need a Box with finite bounds"
        )
    first = recipe.sources[0].dataset
    for kind in ("observation_space", "action_space"):
        mine, theirs = getattr(dataset, kind), getattr(reference, kind)
        if mine != theirs:
            raise DataError(
                f"dataset '{source.dataset}': its {kind} {mine} is not that of '{first}', {theirs}; "
                "sources of one recipe must share their spaces"
            )


def _check_episodes(source: Source, dataset: minari.MinariDataset) -> None:
    if source.episodes is not None and source.episodes > dataset.total_episodes:
        raise DataError(
            f"dataset '{source.dataset}' has {dataset.total_episodes} episodes, and its recipe asks for "
            f"{source.episodes}"
        )


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


def _checked(values: NDArray[np.float32], key: str, length: int, where: str) -> NDArray[np.float32]:
    if len(values) != length:
        raise DataError(
            f"{where}: '{key}' has {len(values)} rows, expected {length}; an episode of T actions has "
            "T rewards and T + 1 observations"
        )
    finite = np.isfinite(values).all(1)
    if not finite.all():
        raise DataError(f"{where}: '{key}' is not finite at step {int(finite.argmin())}")
    return values


def _reached_own_goal(episode: Episode, goal: Goal) -> bool | None:
    """Whether some transition reached the goal pursued in it; unknown where goals are single states.

    The goal of step t counts up to t = T - 1: in continuing data the last one is already the next goal.
    """
    if goal.success.tolerance is None:
        return None
    reached = is_within(
        episode.achieved_goal[1:], episode.desired_goal[:-1], goal.success.tolerance
    )
    return bool(reached.any())


def _as_batch(episode: Episode, number: int) -> pa.RecordBatch:
    rows = len(episode) + 1
    last = np.zeros(rows, dtype=bool)
    last[-1] = True
    columns = [
        pa.array(np.full(rows, number, dtype=np.uint32)),
        pa.array(np.arange(rows, dtype=np.uint32)),
        _fixed_size(episode.observation),
        _fixed_size(episode.achieved_goal),
        _fixed_size(episode.desired_goal),
        _fixed_size(np.pad(episode.action, ((0, 1), (0, 0))), pa.array(last)),
        pa.array(np.append(episode.reward, np.float32(0.0)), mask=last),
    ]
    dimensions = [episode.observation, episode.achieved_goal, episode.action]
    schema = steps_schema(*(array.shape[1] for array in dimensions))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _fixed_size(values: NDArray[np.float32], null: pa.Array | None = None) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), values.shape[1], mask=null
    )


def _describe(
    recipe: Recipe, name: str, dataset: minari.MinariDataset, writer: Writer
) -> dict[str, Any]:
    transitions = sum(row["length"] for row in writer.rows)
    return {
        "format": FORMAT,
        "dataset": name,
        "title": recipe.title,
        "tasks": list(recipe.tasks),
        "counts": {
            "episodes": len(writer.rows),
            "steps": writer.row,
            "transitions": transitions,
            "sources": _count_sources(recipe, writer.rows),
        },
        "goal": recipe.goal.model_dump(mode="json"),
        "observation_space": json.loads(serialize_space(dataset.observation_space)),
        "action_space": json.loads(serialize_space(dataset.action_space)),
        "statistics": {column: moments.summary() for column, moments in writer.statistics.items()},
        "collected_with": dataset.storage.metadata.get("requirements", []),
        "versions": {package: version(package) for package in VERSIONED},
    }


def _count_sources(recipe: Recipe, rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {}
    for source in recipe.sources:
        mine = [row for row in rows if row["source"] == source.dataset]
        counts[source.dataset] = {
            "kind": source.kind,
            "episodes": len(mine),
            "transitions": sum(row["length"] for row in mine),
            "successful_episodes": sum(bool(row["success"]) for row in mine),
        }
    return counts
