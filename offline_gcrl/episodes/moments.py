"""Statistics of the vectors of a dataset, which are merged exactly from those of shards.

The last bits of a mean depend on the order in which episodes are merged. A shard therefore keeps the moments of each of
its episodes, and the episodes of all shards are merged one after another, as if there were one shard.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.episodes.outliers import Spread


@dataclass
class Moments:
    """Running mean and variance, merged batch by batch (Chan, Golub, LeVeque 1983)."""

    count: Any = 0
    """Number of values: one for all dimensions, or one per dimension."""
    mean: Any = 0.0
    squares: Any = 0.0
    """Sums of squared distances to the mean."""

    def add(self, values: NDArray[np.float32]) -> None:
        """Add a batch of values, (batch, dimension)."""
        self.merge(len(values), *means_and_squares(values[None]))

    def merge(self, count: Any, means: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        """Add several batches of the same size, one after another.

        Args:
            count: values per batch: one number for all dimensions, or one per dimension.
            means: means of the batches, (batches, dimension).
            squares: sums of squared distances to these means, (batches, dimension).
        """
        for mean, square in zip(means, squares, strict=True):
            total, delta = self.count + count, mean - self.mean
            self.squares += square + delta**2 * self.count * count / total
            self.mean += delta * count / total
            self.count = total

    def summary(self) -> dict[str, list[float]]:
        """Mean and standard deviation of each dimension."""
        return {
            "mean": np.asarray(self.mean).tolist(),
            "std": np.sqrt(self.squares / self.count).tolist(),
        }

    def part(self, columns: slice) -> "Moments":
        """The moments of some of the dimensions."""
        return Moments(self.count[columns], self.mean[columns], self.squares[columns])


def means_and_squares(
    batches: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of batches, and sums of squared distances to them.

    Args:
        batches: batches of the same size, (batches, batch, dimension).

    Returns:
        Means and sums of squares, each (batches, dimension).
    """
    values = batches.astype(np.float64)
    means = values.mean(1)
    return means, ((values - means[:, None]) ** 2).sum(1)


def equal_lengths(
    values: NDArray[np.float32], lengths: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    """Split the rows of several episodes, (R, ...), into runs of equally long episodes, (episodes, T + 1, ...)."""
    row = 0
    for start, stop in _runs(lengths):
        rows, count = int(lengths[start]) + 1, stop - start
        yield values[row : row + rows * count].reshape(count, rows, *values.shape[1:])
        row += rows * count


def _runs(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """The first episode of each run of equally long episodes, and the one after its last."""
    starts = np.flatnonzero(np.diff(lengths, prepend=-1))
    return pairwise([*starts.tolist(), len(lengths)])


@dataclass(frozen=True)
class Measured:
    """What the statistics of E consecutive episodes are computed from; D is the number of dimensions of all vectors."""

    lengths: NDArray[np.int64]
    """(E,), numbers of transitions."""
    means: NDArray[np.float64]
    """(E, D)"""
    squares: NDArray[np.float64]
    """(E, D), sums of squared distances to the means."""
    spreads: dict[str, Spread]
    """By column."""

    def save(self, path: Path) -> None:
        """Write a file that ``load`` reads."""
        own = {name: getattr(self, name) for name in ("lengths", "means", "squares")}
        for column, spread in self.spreads.items():
            own |= {f"{column}/{name}": value for name, value in spread.arrays().items()}
        np.savez(path, **own)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` has written."""
        with np.load(path, allow_pickle=False) as stored:
            spreads: dict[str, dict[str, NDArray[Any]]] = {}
            for name in stored.files:
                if "/" in name:
                    column, part = name.split("/")
                    spreads.setdefault(column, {})[part] = stored[name]
            return cls(
                stored["lengths"],
                stored["means"],
                stored["squares"],
                {column: Spread.of(arrays) for column, arrays in spreads.items()},
            )


def merged(
    parts: Iterable[Measured], sizes: Mapping[str, int]
) -> tuple[dict[str, Moments], dict[str, Spread]]:
    """Moments and spreads of consecutive parts of a dataset, by column.

    Args:
        parts: in the order of their episodes.
        sizes: size of each vector, in the order of the dimensions.
    """
    total, spreads = Moments(), dict[str, Spread]()
    for part in parts:
        for start, stop in _runs(part.lengths):
            count = _values_per_dimension(int(part.lengths[start]), sizes)
            total.merge(count, part.means[start:stop], part.squares[start:stop])
        for column, spread in part.spreads.items():
            spreads.setdefault(column, Spread()).merge(spread)
    stops = np.cumsum(list(sizes.values())).tolist()
    moments = {
        name: total.part(slice(stop - size, stop))
        for (name, size), stop in zip(sizes.items(), stops, strict=True)
    }
    return moments, spreads


def _values_per_dimension(length: int, sizes: Mapping[str, int]) -> NDArray[np.int64]:
    """Number of values of an episode in each dimension, (D,): the last row has no action."""
    rows = [length if name == "action" else length + 1 for name in sizes]
    return np.repeat(rows, list(sizes.values()))
