"""Images in LeRobot's format: the rule for their columns, and the decoding of the files in their cells.

A cell is a struct of ``bytes``, the content of a PNG file, and ``path``, its name.
"""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from offline_gcrl.convert.columns import readable
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.support.tables import iterate_batches

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""Type of the column of an image feature."""
NONE = "none"
"""Value of ``--image`` that leaves all images out."""
CELLS_PER_READ, READ_BYTES = 64, 2**20
"""Cells that are read at once, and size of the buffer: without it, all images of a row group would be in memory."""
UNDECODABLE = (OSError, SyntaxError, ValueError, struct.error)
"""Exceptions of Pillow for files that are damaged or of another format."""
VIDEO = "videos are not decoded; write the dataset with use_videos=False, so that it has images"


class PNGColumn:
    """The images of a feature in all files of a dataset, (frames, height, width, 3), decoded while they are read.

    Args:
        files: the files of the frames, in order.
        name: name of the feature.
        size: height and width that images are scaled to, in pixels; those of the data by default.

    Raises:
        DataError: a file or an image cannot be read, or images differ in size; the message names feature and frame.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, files: Sequence[Path], name: str, size: tuple[int, int] | None = None
    ) -> None:
        self.files, self.name, self.size, self.row = files, name, size, 0
        with readable(files[0], name):
            rows = sum(pq.read_metadata(file).num_rows for file in files)
            first = self._decoded(next(self._cells()))
        self.shape: tuple[int, ...] = (rows, *first.shape)
        self._left = self._cells()

    def read(self, rows: int) -> NDArray[np.uint8]:
        """The next ``rows`` images."""
        frames = np.empty((rows, *self.shape[1:]), np.uint8)
        for place, cell in enumerate(islice(self._left, rows)):
            frame = self._decoded(cell)
            if frame.shape != self.shape[1:]:
                expected, found = (
                    f"{each[0]} x {each[1]}" for each in (self.shape[1:], frame.shape)
                )
                raise DataError(
                    f"{self._where()}: has {found} pixels, and frame 0 has {expected}; --image-size scales all images to one size"
                )
            frames[place] = frame
            self.row += 1
        return frames

    def _cells(self) -> Iterator[Mapping[str, Any] | None]:
        for file in self.files:
            for part in iterate_batches(file, CELLS_PER_READ, [self.name], READ_BYTES):
                yield from part.column(0).to_pylist()

    def _decoded(self, cell: Mapping[str, Any] | None) -> NDArray[np.uint8]:
        """One image, (height, width, 3)."""
        content = (cell or {}).get("bytes")
        if content is None:
            raise DataError(
                f"{self._where()}: has no bytes of an image; write the images into the Parquet files, or leave them out with "
                f"--image {NONE}"
            )
        try:
            image: Image.Image = Image.open(io.BytesIO(content), formats=["PNG"])
            image.load()
        except UNDECODABLE as error:
            raise DataError(
                f"{self._where()}: is not a complete PNG image ({error}); copy or write the dataset again"
            ) from None
        if image.mode != "RGB":
            raise DataError(
                f"{self._where()}: has the mode {image.mode}, and agents see red, green and blue (RGB); choose another feature "
                f"with --image, or leave images out with --image {NONE}"
            )
        if self.size is not None and image.size != self.size[::-1]:
            image = image.resize(self.size[::-1], Image.Resampling.BOX)
        return np.asarray(image)

    def _where(self) -> str:
        return f"{self.files[0].parent.parent}: the image '{self.name}' of frame {self.row}"


def chosen_image(path: Path, info: Mapping[str, Any], name: str | None) -> str | None:
    """The image feature that is read; None if there is none, or all are left out.

    Args:
        path: folder of the dataset.
        info: the content of ``meta/info.json``.
        name: name of the feature, or ``none``; by default the only one.

    Raises:
        SettingsError: there is no image feature of this name, or there are several and none is named.
    """
    images = features_of(info, "image")
    listed = f"its images are {', '.join(images)}" if images else "it has no images"
    if name == NONE:
        return None
    if name is None and len(images) > 1:
        raise SettingsError(
            f"{path}: {listed}, and a policy sees one of them; name it with --image {images[0]}, or leave all out with "
            f"--image {NONE}"
        )
    if name is None:
        return next(iter(images), None)
    if name in features_of(info, "video"):
        raise SettingsError(f"--image {name}: is a video of {path}; {VIDEO}; {listed}")
    if name not in images:
        raise SettingsError(f"--image {name}: no such feature in {path}; {listed}")
    return name


def features_of(info: Mapping[str, Any], kind: str) -> list[str]:
    """Names of the features of a kind: ``image``, ``video``, ``string`` or a type of numbers."""
    return [name for name, feature in info["features"].items() if feature["dtype"] == kind]


def check_images(files: Sequence[Path], info: Mapping[str, Any]) -> None:
    """Check that image features have three dimensions, and columns of structs of bytes and path.

    Raises:
        DataError: naming the file and the feature.
    """
    images = features_of(info, "image")
    for name in images:
        if len(info["features"][name]["shape"]) != 3:
            raise DataError(f"the image '{name}': its shape must be height, width and channels")
    for file in files if images else ():
        with readable(file):
            schema = pq.read_schema(file)
        for name in images:
            kind = schema.field(name).type if name in schema.names else pa.null()
            is_struct = pa.types.is_struct(kind)
            if not is_struct or {field.name for field in kind} != {"bytes", "path"}:
                raise DataError(
                    f"{file}: the image '{name}' must be a column of structs of bytes and path, not {kind}"
                )
