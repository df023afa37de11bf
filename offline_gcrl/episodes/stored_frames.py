"""Reading of stored images, which imports no simulator."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Images
from offline_gcrl.episodes.schema import FRAME
from offline_gcrl.support.tables import iterate_batches

FRAMES_PER_GROUP = 128
"""Images in a row group, which are compressed together."""


def iterate_frames(path: Path, images: Images) -> Iterator[NDArray[np.uint8]]:
    """Parts of consecutive images, (part, height * width * 3), which are read-only."""
    size = math.prod(images.shape)
    for part in iterate_batches(path, FRAMES_PER_GROUP, [FRAME]):
        column = part.column(0)
        content = np.frombuffer(column.buffers()[1], np.uint8)
        first = column.offset * size
        yield content[first : first + len(column) * size].reshape(-1, size)
