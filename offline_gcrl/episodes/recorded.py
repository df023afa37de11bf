"""Recorded images of the states of a source: an array of bytes in its observations or infos, which is checked."""

from collections.abc import Iterator
from typing import Any

import minari
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Images, Recipe, Source
from offline_gcrl.environments.selection import as_tree, content_at
from offline_gcrl.episodes.reading import stored_episodes
from offline_gcrl.episodes.sources import taken_episodes
from offline_gcrl.support.errors import DataError


def recorded_frames(
    recipe: Recipe, source: Source, data: minari.MinariDataset, episodes: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """The images of each episode, (T + 1, height, width, 3), one episode after the other.

    Args:
        recipe: the recipe, whose images are recorded.
        source: the source.
        data: the source's opened Minari dataset.
        episodes: the number of episodes; all that are taken from the source by default.

    Raises:
        DataError: an episode cannot be read, or has no images of this size; the message names dataset, episode and key.
    """
    assert recipe.images is not None
    count = taken_episodes(source, data) if episodes is None else episodes
    for index, (raw, _) in enumerate(stored_episodes(source, data, range(count))):
        yield _checked(raw, recipe.images, f"dataset '{source.dataset}', episode {index}")


def check_recorded(recipe: Recipe, source: Source, data: minari.MinariDataset) -> None:
    """Check the images of the first episode, before anything is written.

    Raises:
        DataError: as ``recorded_frames``.
    """
    if recipe.images is not None and recipe.images.recorded is not None:
        next(recorded_frames(recipe, source, data, episodes=1))


def _checked(raw: dict[str, Any], images: Images, where: str) -> NDArray[np.uint8]:
    """The images of an episode in Minari's format."""
    key = images.recorded or ""
    try:
        found = content_at(as_tree(raw["observations"], raw["infos"]), key)
    except DataError as error:
        raise DataError(f"{where}: {error} (images.recorded of the recipe)") from None
    return _as_images(found, key, images, len(raw["actions"]) + 1, where)


def _as_images(found: Any, key: str, images: Images, states: int, where: str) -> NDArray[np.uint8]:
    """The content of a key as images of bytes, (states, height, width, 3)."""
    frames = None if isinstance(found, dict | tuple) else np.asarray(found)
    expected = (states, *images.shape)
    if frames is None or frames.dtype != np.uint8 or frames.ndim != len(expected):
        what = "a group of arrays" if frames is None else f"{frames.dtype} of shape {frames.shape}"
        raise DataError(
            f"{where}: '{key}' is {what}, expected images of bytes, uint8 of shape {expected}; name another key in "
            "images.recorded of the recipe, or record the images as bytes"
        )
    if frames.shape[1:] != images.shape:
        height, width, channels = frames.shape[1:]
        raise DataError(
            f"{where}: the images of '{key}' have {height} x {width} pixels with {channels} channels, and the recipe expects "
            f"{images.height} x {images.width} with {images.shape[2]}; set images.height and images.width of the recipe, or "
            "write the images in one size, in red, green and blue"
        )
    if len(frames) != states:
        raise DataError(
            f"{where}: '{key}' has {len(frames)} images, expected {states}, one for each state and so one more than there "
            "are actions; record that of the last state, too"
        )
    return np.ascontiguousarray(frames)
