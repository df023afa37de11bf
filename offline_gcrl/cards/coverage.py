"""Coverage of the goal space by achieved and desired goals: counts on a grid, which the figures show.

Goals of two or three numbers are positions. They are counted in the plane of the first two numbers, separately for each
task. Goals that are full states of more numbers are counted in the plane of their first two principal axes. For other
goals, each dimension is counted separately.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.episodes.schema import achieved_column

if TYPE_CHECKING:
    from offline_gcrl.cards.measure import Chunk

BINS = 48
PRINCIPAL_REACH = 4.0
"""Half the range of a principal axis, in standard deviations."""
Kind = Literal["places", "principal", "dimensions"]


@dataclass(frozen=True)
class Axes:
    """The axes of a grid: dimensions of the goal, or linear combinations of them."""

    low: NDArray[np.float64]
    """(tasks, axes)"""
    high: NDArray[np.float64]
    """(tasks, axes)"""
    dimensions: int
    """The number of goal dimensions that are axes, starting from the first; 0 with ``directions``."""
    centre: NDArray[np.float64] | float = 0.0
    """(goal,)"""
    directions: NDArray[np.float64] | None = None
    """(goal, axes)"""
    explained: tuple[float, ...] = ()
    """Explained share of the variance, for each of the directions."""

    def bins(
        self, goals: NDArray[np.float32], task: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The bin of each goal along each axis, (n, axes), and whether the goal is on the grid, (n, axes)."""
        points = self.points(goals)
        low, width = self.low[task], (self.high - self.low)[task]
        places = np.floor((points - low) / width * BINS)
        places = np.where(points == low + width, BINS - 1, places)  # The last bin is closed.
        inside = (places >= 0) & (places < BINS)
        return np.where(inside, places, 0).astype(np.int64), inside

    def points(self, goals: NDArray[np.float32]) -> NDArray[np.float64]:
        """The coordinates of goals, (n, goal), along the axes, (n, axes)."""
        if self.directions is None:
            return goals[:, : self.dimensions].astype(np.float64)
        along: NDArray[np.float64] = (goals.astype(np.float64) - self.centre) @ self.directions
        return along


@dataclass
class Coverage:
    """Counts of goals on a grid for each source."""

    kind: Kind
    axes: Axes
    task_of: NDArray[np.int64]
    """The task of each source, (sources,)."""
    achieved: NDArray[np.int64]
    """Achieved goals by state: (sources, BINS, BINS) in a plane, x first; else (sources, axes, BINS)."""
    desired: NDArray[np.int64] | None
    """Desired goals by transition, in the same shape; None if the data has no desired goals."""

    def add(self, chunk: "Chunk") -> None:
        """Count the achieved goals of all states of a chunk, and the desired goals of all transitions."""
        self._count(self.achieved, chunk.achieved, chunk.source)
        if self.desired is not None and chunk.desired is not None:
            own = chunk.is_transition
            self._count(self.desired, chunk.desired[own], chunk.source[own])

    def _count(
        self, counts: NDArray[np.int64], goals: NDArray[np.float32], source: NDArray[np.int64]
    ) -> None:
        places, inside = self.axes.bins(goals, self.task_of[source])
        if self.kind == "dimensions":
            rows = source[:, None] * counts.shape[1] + np.arange(counts.shape[1])
            flat = (rows * BINS + places)[inside]
        else:
            flat = (source * BINS + places[:, 0]) * BINS + places[:, 1]
            flat = flat[inside.all(1)]
        counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)


def new_coverage(
    chunks: Iterable["Chunk"], schema: Mapping[str, Any], task_of: NDArray[np.int64]
) -> Coverage:
    """An empty grid whose range includes all goals.

    Args:
        chunks: all rows of the dataset, from which the range is computed.
        schema: the schema of the dataset.
        task_of: the task of each source, (sources,).
    """
    sizes = schema["sizes"]
    goal = sizes[achieved_column(schema)]
    kind: Kind = "dimensions"
    if goal in (2, 3):
        kind, axes = "places", _own_axes(chunks, task_of, 2)
    elif schema["goals_are_states"] and goal > 3:
        kind, axes = "principal", _principal_axes(chunks, schema, int(task_of.max()) + 1)
    else:
        axes = _own_axes(chunks, np.zeros_like(task_of), goal)
        tasks = int(task_of.max()) + 1
        axes = Axes(axes.low.repeat(tasks, 0), axes.high.repeat(tasks, 0), goal)
    shape = (len(task_of), goal, BINS) if kind == "dimensions" else (len(task_of), BINS, BINS)
    desired = np.zeros(shape, dtype=np.int64) if "desired_goal" in sizes else None
    return Coverage(kind, axes, task_of, np.zeros(shape, dtype=np.int64), desired)


def _own_axes(chunks: Iterable["Chunk"], task_of: NDArray[np.int64], axes: int) -> Axes:
    """Axes along the first dimensions of the goal, from the minimum to the maximum of each task."""
    tasks = int(task_of.max()) + 1
    low, high = np.full((tasks, axes), np.inf), np.full((tasks, axes), -np.inf)
    for chunk in chunks:
        task = task_of[chunk.source]
        goals = [(chunk.achieved, task)]
        if chunk.desired is not None:
            goals.append((chunk.desired[chunk.is_transition], task[chunk.is_transition]))
        for values, of in goals:
            for number in np.unique(of):
                own = values[of == number, :axes]
                low[number] = np.minimum(low[number], own.min(0))
                high[number] = np.maximum(high[number], own.max(0))
    # A dimension that never changes gets a range of 1, with its value in the middle.
    flat = high - low <= 1e-6 * np.maximum(1.0, np.abs(high))
    return Axes(low - 0.5 * flat, high + 0.5 * flat, axes)


def _principal_axes(chunks: Iterable["Chunk"], schema: Mapping[str, Any], tasks: int) -> Axes:
    """The first two principal axes of the achieved goals, with each dimension in units of its standard deviation."""
    statistics = schema["statistics"][achieved_column(schema)]
    mean, spread = np.array(statistics["mean"]), np.array(statistics["std"])
    scale = np.where(spread > 0.0, spread, 1.0)
    products, count = np.zeros((len(mean), len(mean))), 0
    for chunk in chunks:
        standard = (chunk.achieved - mean) / scale
        products += standard.T @ standard
        count += len(standard)
    variances, vectors = np.linalg.eigh(products / count)
    variances, vectors = variances[::-1], vectors[:, ::-1][:, :2]
    largest = np.abs(vectors).argmax(0)
    vectors = vectors * np.sign(vectors[largest, [0, 1]])  # The sign of eigenvectors is arbitrary.
    reach = PRINCIPAL_REACH * np.sqrt(np.maximum(variances[:2], 1e-12))
    return Axes(
        low=np.tile(-reach, (tasks, 1)),
        high=np.tile(reach, (tasks, 1)),
        dimensions=0,
        centre=mean,
        directions=vectors / scale[:, None],
        explained=tuple(float(value / variances.sum()) for value in variances[:2]),
    )
