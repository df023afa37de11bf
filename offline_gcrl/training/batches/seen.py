"""Images in batches: rows of observations and goals that start with the pixels of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from offline_gcrl.config.images import BRIGHTEST


@dataclass(frozen=True)
class Seen:
    """R observations or goals, each an image that numbers may follow.

    Images are stored as bytes, and only what a batch takes is moved to its device and scaled to 0 to 1 there.
    """

    frames: Tensor
    """(R, height * width * channels), uint8."""
    frame_shape: tuple[int, int, int]
    target: torch.device
    """The device of batches."""
    rest: Tensor | None = None
    """(R, size), the numbers that follow; None for images alone."""
    is_black: bool = False
    """Whether all images are black."""

    def __len__(self) -> int:
        """Number of rows, R."""
        return len(self.frames)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and numbers in a row."""
        return len(self), self.frames.shape[1] + (0 if self.rest is None else self.rest.shape[1])

    def read(self, rows: Tensor, shifts: Tensor | None = None) -> Tensor:
        """Rows as networks read them, (..., numbers), with images shifted by (..., 2) pixels."""
        if self.is_black:
            images = torch.zeros(*rows.shape, self.frames.shape[1], device=self.target)
        else:
            taken = self.frames[rows.flatten()].to(self.target)
            if shifts is not None:
                taken = shifted(taken, self.frame_shape, shifts.flatten(0, -2).to(self.target))
            images = (taken.float() / BRIGHTEST).view(*rows.shape, -1)
        if self.rest is None:
            return images
        return torch.cat([images, self.rest[rows].to(self.target)], -1)


def read_rows(values: Tensor | Seen, rows: Tensor, shifts: Tensor | None) -> Tensor:
    """Rows of vectors, or of what contains images."""
    return values.read(rows, shifts) if isinstance(values, Seen) else values[rows]


def shifted(frames: Tensor, shape: tuple[int, int, int], shifts: Tensor) -> Tensor:
    """Images moved by some pixels, with the pixels at their edges repeated: a random crop of a padded image.

    Args:
        frames: (n, height * width * channels).
        shape: height, width and channels.
        shifts: (n, 2), down and to the right of the new upper left corner.

    Returns:
        (n, height * width * channels).
    """
    height, width, _ = shape
    steps = torch.arange(max(height, width), device=frames.device)
    down = (steps[:height] + shifts[:, :1]).clamp(0, height - 1)
    right = (steps[:width] + shifts[:, 1:]).clamp(0, width - 1)
    number = torch.arange(len(frames), device=frames.device)[:, None, None]
    moved = frames.view(-1, *shape)[number, down[:, :, None], right[:, None, :]]
    return moved.flatten(1)
