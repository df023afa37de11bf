"""Numbers of an ingested dataset by source, by task and in total.

Transitions are counted in one pass over ``steps.parquet`` in chunks, so memory does not grow with the dataset. Lengths,
returns and successes come from ``episodes.parquet``. ``moved`` and ``idle`` define moving and idle transitions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.cards.coverage import Coverage, new_coverage
from offline_gcrl.config import Dataset, Success, has_original_goals
from offline_gcrl.config.outputs import EPISODES, SCHEMA, STEPS
from offline_gcrl.episodes.schema import achieved_column
from offline_gcrl.goals.success import reaches
from offline_gcrl.statistics.intervals import wilson
from offline_gcrl.support.digests import intact, read_json

NUMBERS_PER_CHUNK = 2**22
MOVING = 0.01
"""Smallest movement that counts, as a share of the tolerance."""
ACTION_BINS = 41
PERCENTILES = (10, 50, 90)


@dataclass(frozen=True)
class Chunk:
    """n consecutive rows of ``steps.parquet``, with the achieved goal of each next row."""

    source: NDArray[np.int64]
    """Number of the source, in the order of the recipe, (n,)."""
    episode: NDArray[np.int64]
    """(n,)"""
    step: NDArray[np.int64]
    """(n,)"""
    is_transition: NDArray[np.bool_]
    """Whether the row has an action and a next state, (n,)."""
    achieved: NDArray[np.float32]
    """(n, goal)"""
    next_achieved: NDArray[np.float32]
    """(n, goal); undefined for rows without a next state."""
    desired: NDArray[np.float32] | None
    """(n, goal); None if the data has no desired goals."""
    action: NDArray[np.float32]
    """(n, action); undefined for rows without an action."""


@dataclass
class IngestedDataset:
    """An ingested dataset that is read in chunks."""

    folder: Path
    dataset: Dataset
    schema: dict[str, Any] = field(init=False)
    episodes: pl.DataFrame = field(init=False)
    source_of: NDArray[np.int64] = field(init=False)
    """Number of the source of each episode, (episodes,)."""

    def __post_init__(self) -> None:
        self.schema = read_json(self.folder / SCHEMA)
        self.episodes = pl.read_parquet(intact(self.folder / EPISODES))
        number = {name: place for place, name in enumerate(self.sources)}
        self.source_of = self.episodes["source"].replace_strict(number).cast(pl.Int64).to_numpy()

    @property
    def sources(self) -> list[str]:
        """Minari ids of the sources, in the order of the recipes."""
        return [source.dataset for recipe in self.dataset.recipes for source in recipe.sources]

    @property
    def task_of(self) -> NDArray[np.int64]:
        """Number of the task of each source, (sources,)."""
        recipes = enumerate(self.dataset.recipes)
        return np.array([task for task, recipe in recipes for _ in recipe.sources])

    def chunks(self) -> Iterator[Chunk]:
        """All rows in order, in chunks of about ``NUMBERS_PER_CHUNK`` numbers."""
        achieved = achieved_column(self.schema)
        names = [name for name in (achieved, "desired_goal", "action") if name in self._sizes]
        rows = max(1, NUMBERS_PER_CHUNK // sum(self._sizes[name] for name in names))
        steps = pl.scan_parquet(intact(self.folder / STEPS)).select(
            "episode", "step", "reward", *names
        )
        for start in range(0, self.schema["counts"]["steps"], rows):
            yield self._chunk(steps.slice(start, rows + 1).collect(), achieved, rows)

    @property
    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = self.schema["sizes"]
        return sizes

    def _chunk(self, table: pl.DataFrame, achieved_name: str, rows: int) -> Chunk:
        """The chunk of the first ``rows`` rows of a table, which has one more row unless it is the last one."""
        achieved, own = table[achieved_name].to_numpy(), table[:rows]
        following = achieved[1:] if len(table) > rows else np.append(achieved[1:], achieved[-1:], 0)
        episode = own["episode"].cast(pl.Int64).to_numpy()
        return Chunk(
            source=self.source_of[episode],
            episode=episode,
            step=own["step"].cast(pl.Int64).to_numpy(),
            is_transition=own["reward"].is_not_null().to_numpy(),
            achieved=achieved[: len(own)],
            next_achieved=following,
            desired=own["desired_goal"].to_numpy() if "desired_goal" in own.columns else None,
            action=own["action"].to_numpy(),
        )


@dataclass
class Measures:
    """Counts of transitions by source."""

    idle: NDArray[np.int64] | None
    """(sources,); None if the data has no original goals."""
    moving: NDArray[np.int64]
    """(sources,)"""
    still_moving: NDArray[np.int64]
    """Transitions up to the last moving one of their episode, (sources,)."""
    actions: NDArray[np.int64]
    """Histograms of actions, (sources, action, ACTION_BINS)."""
    coverage: Coverage


def measure(data: IngestedDataset) -> Measures:
    """Count the transitions of each source."""
    success, sources = data.dataset.success, len(data.sources)
    scale = movement_scale(success, data.schema)
    knows_goals = has_original_goals(data.dataset.recipes[0].goal)
    totals = Measures(
        idle=np.zeros(sources, dtype=np.int64) if knows_goals else None,
        moving=np.zeros(sources, dtype=np.int64),
        still_moving=np.zeros(sources, dtype=np.int64),
        actions=np.zeros((sources, data.schema["sizes"]["action"], ACTION_BINS), dtype=np.int64),
        coverage=new_coverage(data.chunks(), data.schema, data.task_of),
    )
    last_move = np.full(len(data.episodes), -1)
    for chunk in data.chunks():
        moves = moved(chunk, scale)
        totals.moving += np.bincount(chunk.source[moves], minlength=sources)
        # Steps increase within an episode, so the last assignment is the last moving step.
        last_move[chunk.episode[moves]] = chunk.step[moves]
        if totals.idle is not None:
            totals.idle += np.bincount(chunk.source[idle(chunk, success)], minlength=sources)
        _count_actions(totals.actions, chunk, data.schema["action_space"])
        totals.coverage.add(chunk)
    np.add.at(totals.still_moving, data.source_of, last_move + 1)
    return totals


def movement_scale(success: Success, schema: Mapping[str, Any]) -> NDArray[np.float64]:
    """The unit of movement in each dimension of the goal, (goal,).

    This is the tolerance of the success test if it is above zero, else the standard deviation of the achieved goals.
    Dimensions that never change are ignored; their unit is infinite.
    """
    column = achieved_column(schema)
    spread = np.array(schema["statistics"][column]["std"])
    if success.kind == "per_dimension":
        return np.array(success.tolerances, dtype=np.float64)
    if success.kind == "distance" and success.tolerance:
        return np.full(len(spread), success.tolerance)
    return np.where(spread > 0.0, spread, np.inf)


def moved(chunk: Chunk, scale: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each row is a transition that moves the achieved goal by more than ``MOVING`` units, (n,)."""
    movement = (chunk.next_achieved - chunk.achieved) / scale.astype(np.float32)
    distance = np.einsum("ij,ij->i", movement, movement)
    moves: NDArray[np.bool_] = chunk.is_transition & (distance > np.float32(MOVING) ** 2)
    return moves


def idle(chunk: Chunk, success: Success) -> NDArray[np.bool_]:
    """Whether each row is a transition that starts and ends with its original goal reached, (n,)."""
    assert chunk.desired is not None
    before: NDArray[Any] = reaches(chunk.achieved, chunk.desired, success)
    after: NDArray[Any] = reaches(chunk.next_achieved, chunk.desired, success)
    both: NDArray[np.bool_] = chunk.is_transition & before & after
    return both


def _count_actions(
    counts: NDArray[np.int64], chunk: Chunk, bounds: Mapping[str, list[float]]
) -> None:
    """Add to the histograms of actions, whose bins have equal width between the bounds."""
    low, high = np.array(bounds["low"], np.float32), np.array(bounds["high"], np.float32)
    action, source = chunk.action[chunk.is_transition], chunk.source[chunk.is_transition]
    place = ((action - low) / (high - low) * ACTION_BINS).astype(np.int64)
    place = place.clip(0, ACTION_BINS - 1)
    sources, size, bins = counts.shape
    flat = (source[:, None] * size + np.arange(size)) * bins + place
    counts += np.bincount(flat.ravel(), minlength=sources * size * bins).reshape(counts.shape)


def summarise(data: IngestedDataset, measures: Measures) -> dict[str, Any]:
    """The numbers over all sources, for each task, and for each source."""
    everything = np.ones(len(data.sources), dtype=bool)
    tasks = enumerate(data.dataset.tasks)
    return {
        "all": _summary(data, measures, everything),
        "tasks": {name: _summary(data, measures, data.task_of == number) for number, name in tasks},
        "sources": {
            name: _summary(data, measures, np.arange(len(data.sources)) == number)
            for number, name in enumerate(data.sources)
        },
    }


def _summary(
    data: IngestedDataset, measures: Measures, chosen: NDArray[np.bool_]
) -> dict[str, Any]:
    """The numbers over the chosen sources."""
    table = data.episodes.filter(pl.Series(chosen[data.source_of]))
    transitions = int(table["length"].sum())
    train = table.filter(pl.col("split") == "train")
    return {
        "episodes": len(table),
        "transitions": transitions,
        "train_transitions": int(train["length"].sum()),
        "length": _spread(table["length"]),
        "return": _spread(table["return"]),
        "success": _success(table["success"]),
        "idle_share": _share(measures.idle, chosen, transitions),
        "moving_share": _share(measures.moving, chosen, transitions),
        "still_moving_share": _share(measures.still_moving, chosen, transitions),
    }


def _spread(values: pl.Series) -> dict[str, float]:
    numbers = values.to_numpy().astype(np.float64)
    quantiles = np.percentile(numbers, PERCENTILES)
    return {
        "mean": float(numbers.mean()),
        "min": float(numbers.min()),
        **{f"p{p}": float(value) for p, value in zip(PERCENTILES, quantiles, strict=True)},
        "max": float(numbers.max()),
    }


def _success(reached: pl.Series) -> dict[str, float] | None:
    """The share of episodes that reached their original goal, with Wilson's interval; None if unknown."""
    if reached.null_count():
        return None
    estimate = wilson(int(reached.sum()), len(reached))
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}


def _share(
    counts: NDArray[np.int64] | None, chosen: NDArray[np.bool_], transitions: int
) -> float | None:
    return None if counts is None else float(counts[chosen].sum() / transitions)
