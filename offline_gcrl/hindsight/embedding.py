"""The learned embedding of images for the reward -||e(s') - e(g)||, minus the distance of the next state to the goal.

The embedding is linear and learned without labels: the principal components of images of training episodes, scaled so that
an embedded image has a mean square norm of 1 around the mean. It needs no state, which is what it is for.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config.images import BRIGHTEST
from offline_gcrl.config.outputs import EMBEDDING
from offline_gcrl.episodes.dataset import StoredEpisodes, open_stored
from offline_gcrl.episodes.stored_frames import iterate_frames
from offline_gcrl.hindsight.stored import StoredGoals
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.tables import rows_of_parts

SIZE = 16
"""Numbers of an embedding."""
SAMPLES = 1024
"""Largest number of images that the embedding is learned from."""


@dataclass(frozen=True)
class Embedding:
    """A linear map of images of p numbers."""

    mean: NDArray[np.float32]
    """(p,)"""
    components: NDArray[np.float32]
    """(p, size)"""

    @classmethod
    def learned(cls, images: NDArray[np.uint8], size: int = SIZE) -> "Embedding":
        """Principal components of images, (n, p), at most n - 1 of them.

        Raises:
            DataError: all images are equal.
        """
        values: NDArray[np.float64] = images.astype(np.float64) / BRIGHTEST
        mean = values.mean(0)
        values = values - mean
        # The eigenvectors of n x n products give those of p x p covariances.
        variances, vectors = np.linalg.eigh(values @ values.T / len(values))
        chosen = np.argsort(variances)[::-1][: min(size, len(values) - 1)]
        chosen = chosen[variances[chosen] > 1e-9 * max(variances.max(), 1e-9)]
        if len(chosen) == 0:
            raise DataError(
                "relabel.reward: 'embedding': all images are equal; check 'images' of the recipe"
            )
        scale = np.sqrt(len(values) * variances[chosen] * variances[chosen].sum())
        components = values.T @ vectors[:, chosen] / scale
        # The sign of an eigenvector is arbitrary.
        largest = np.take_along_axis(components, np.abs(components).argmax(0)[None], 0)
        return cls(mean.astype(np.float32), (components * np.sign(largest)).astype(np.float32))

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images, (n, p), to embeddings, (n, size)."""
        values = images.astype(np.float32) / np.float32(BRIGHTEST) - self.mean
        return np.asarray(values @ self.components, dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write the embedding to a file; the same embedding gives the same bytes."""
        np.savez(path, mean=self.mean, components=self.components)


def embedded_goals(episodes: Path, output: Path) -> StoredGoals:
    """The embeddings of the images of all steps, in memory; the embedding itself is written to ``output``.

    Raises:
        DataError: the dataset has no images.
    """
    data = open_stored(episodes)
    images, path = data.images, data.frames
    if images is None or path is None:
        raise DataError(
            f"{episodes}: has no images, which relabel.reward 'embedding' compares; use 'sparse' or 'dense'"
        )
    embedding = Embedding.learned(rows_of_parts(iterate_frames(path, images), training_rows(data)))
    embedding.save(output / EMBEDDING)
    return StoredGoals(np.concatenate([embedding(part) for part in iterate_frames(path, images)]))


def training_rows(data: StoredEpisodes) -> NDArray[np.int64]:
    """Evenly spaced rows of training episodes."""
    rows = data.transition_rows("train")
    return rows[np.linspace(0, len(rows) - 1, min(SAMPLES, len(rows))).astype(np.int64)]
