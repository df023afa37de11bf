"""Images in an export to LeRobot's format: PNG files in the cells of a feature, without loss, and their statistics."""

import io
import math
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from offline_gcrl.config import Images
from offline_gcrl.config.images import BRIGHTEST
from offline_gcrl.convert.lerobot_images import CELL
from offline_gcrl.episodes.stored_frames import iterate_frames

IMAGE = "observation.image"
"""The feature of the images."""


class ExportedImages:
    """The images of an ingested dataset, read once from the first episode to the last.

    Args:
        path: the file of the images.
        images: their size.
        last_states: whether the image of the last state of each episode is exported.
    """

    def __init__(self, path: Path, images: Images, last_states: bool) -> None:
        self.shape, self.left_out = images.shape, 0 if last_states else 1
        self._left = chain.from_iterable(iterate_frames(path, images))
        self.histograms: list[NDArray[np.int64]] = []
        """How often each channel has each value in each episode, (3, 256) each."""

    @property
    def bytes_per_frame(self) -> int:
        """Size of an image that is not compressed; its PNG file is smaller."""
        return math.prod(self.shape)

    @property
    def feature(self) -> dict[str, Any]:
        """The entry in ``features`` of ``meta/info.json``."""
        names = ["height", "width", "channels"]
        return {"dtype": "image", "shape": list(self.shape), "names": names}

    def read(self, frames: int) -> pa.Array:
        """The cells of the next episode, which has this number of frames."""
        rows = list(islice(self._left, frames + self.left_out))[:frames]
        images = np.stack(rows).reshape(frames, *self.shape)
        self.histograms.append(_histograms(images))
        names = (f"frame-{number:06d}.png" for number in range(frames))
        cells = [
            {"bytes": as_png(each), "path": name} for each, name in zip(images, names, strict=True)
        ]
        return pa.array(cells, CELL)


def as_png(image: NDArray[np.uint8]) -> bytes:
    """The content of a PNG file, which has an image, (height, width, 3), without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _histograms(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    channels = np.moveaxis(images, -1, 0).reshape(images.shape[-1], -1)
    return np.stack([np.bincount(channel, minlength=BRIGHTEST + 1) for channel in channels])


def image_statistics(
    histograms: NDArray[np.int64], frames: int, quantiles: tuple[int, ...]
) -> dict[str, Any]:
    """LeRobot's statistics of images: of each channel, on a scale of 0 to 1, as lists of shape (3, 1, 1).

    Args:
        histograms: how often each channel has each value, (3, 256).
        frames: the number of images.
        quantiles: in per cent.
    """
    values = np.arange(BRIGHTEST + 1) / BRIGHTEST
    count = histograms[0].sum()
    mean = histograms @ values / count
    spread = np.sqrt((histograms * (values - mean[:, None]) ** 2).sum(1) / count)
    ends = {name: _ranked(histograms, rank) for name, rank in (("min", 0), ("max", count - 1))}
    cuts = {f"q{q:02d}": _quantile(histograms, q / 100) for q in quantiles}
    found = {**ends, "mean": mean, "std": spread, **cuts}
    return {name: each.reshape(-1, 1, 1).tolist() for name, each in found.items()} | {
        "count": [frames]
    }


def _quantile(histograms: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """The quantile of each channel, interpolated as in ``np.quantile``, (3,)."""
    rank = share * (histograms[0].sum() - 1)
    low, high = _ranked(histograms, math.floor(rank)), _ranked(histograms, math.ceil(rank))
    between: NDArray[np.float64] = low + (high - low) * (rank - math.floor(rank))
    return between


def _ranked(histograms: NDArray[np.int64], rank: int) -> NDArray[np.float64]:
    """The value of each channel that is at a rank, from 0, in the order of size, (3,)."""
    places = [np.searchsorted(each.cumsum(), rank, side="right") for each in histograms]
    return np.array(places) / BRIGHTEST
