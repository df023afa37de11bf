"""Quasimetrics: distances between encodings that obey the triangle inequality and need not be symmetric."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offline_gcrl.networks.bilinear import Encoder
from offline_gcrl.networks.conditioning import Conditioning
from offline_gcrl.networks.goal_conditioned import ON_THE_GOAL

INTERVALS = 8
"""Intervals per component of IQE (QRL, OGBench)."""
SORTING_NETWORK = (
    *((0, 2), (1, 3), (4, 6), (5, 7)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
    *((0, 1), (2, 3), (4, 5), (6, 7)),
    *((2, 4), (3, 5)),
    *((1, 4), (3, 6)),
    *((1, 2), (3, 4), (5, 6)),
)
"""Pairs of places, the smaller value of which goes to the first: 19 comparisons that sort eight values."""
SMALLEST_SQUARE = 1.0e-12
"""Lower bound of a squared norm, where the root has no gradient."""


class IQE(nn.Module):
    """Interval quasimetric embeddings (Wang and Isola, 2022): lengths of unions of intervals.

    The d numbers of an encoding are d / 8 components of 8 numbers. A component of the distance from x to y is the length
    of the union of its intervals [x_j, y_j], without those with x_j > y_j. The distance is w times the mean of the
    components plus 1 - w times the largest, with a learned weight w.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.zeros(()))
        """The logit of w."""

    def forward(self, start: Tensor, end: Tensor) -> Tensor:
        """Encodings (..., d) and (..., d) to distances (...)."""
        shape = (*start.shape[:-1], -1, INTERVALS)
        lengths = union_lengths(start.reshape(shape), end.reshape(shape))
        weight = self.mixing.sigmoid()
        return weight * lengths.mean(-1) + (1.0 - weight) * lengths.amax(-1)


class MRN(nn.Module):
    """Metric residual networks (Liu et al., AAAI 2023), in OGBench's form: a norm plus an asymmetric part.

    The distance from x to y is the norm of the difference of the first half of the encodings, plus the largest
    x_j - y_j of the second half, or 0 if that is negative.
    """

    def forward(self, start: Tensor, end: Tensor) -> Tensor:
        """Encodings (..., d) and (..., d) to distances (...)."""
        symmetric, asymmetric = (start - end).chunk(2, -1)
        norm = symmetric.square().sum(-1).clamp(min=SMALLEST_SQUARE).sqrt()
        return norm + asymmetric.amax(-1).relu()


METRICS: dict[str, type[nn.Module]] = {"iqe": IQE, "mrn": MRN}


class Quasimetric(nn.Module):
    """A distance d(x, y) = d(phi(x), phi(y)) between goals, with one encoder phi for both."""

    def __init__(
        self,
        goal: int,
        latent: int,
        hidden: Sequence[int],
        activation: str,
        *,
        metric: str,
        conditioning: Conditioning = ON_THE_GOAL,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            goal, latent, hidden, activation, conditioning=conditioning, layer_norm=layer_norm
        )
        self.metric = METRICS[metric]()

    def forward(self, start: Tensor, end: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, goal), (batch, goal) and task numbers (batch,) to distances (batch,)."""
        distances: Tensor = self.metric(self.encoder(start, task), self.encoder(end, task))
        return distances


def union_lengths(low: Tensor, high: Tensor) -> Tensor:
    """Lengths of unions of eight intervals, (..., 8) to (...); an interval whose ends are reversed is empty.

    A length is the sum of the ends that no other interval covers, minus the sum of the starts that no other interval covers.
    Which ones these are does not change with small changes of the intervals, so it has no gradient.
    """
    with torch.no_grad():
        starts, ends = _boundaries(low, high)
    return (ends * high - starts * low).sum(-1)


def _boundaries(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """1 for the starts and ends of intervals, (..., 8) each, that no other interval covers, else 0; of equal ones, one counts.

    With sorted starts and sorted ends: if start i is after end i - 1, the i intervals that began before it have ended, and
    none covers either of the two.
    """
    first, last = (values.float().movedim(-1, 0).contiguous() for values in (low, high))
    # An empty interval is a point, which covers nothing.
    starts, ends = _sorted(first), _sorted(torch.maximum(first, last))
    start_bits, end_bits = _bit(starts[0]), _bit(ends[-1])
    for start, end in zip(starts[1:], ends[:-1], strict=True):
        is_gap = (start > end).int()
        start_bits, end_bits = start_bits | _bit(start) * is_gap, end_bits | _bit(end) * is_gap
    has_length = sum((first[place] < last[place]).int() << place for place in range(INTERVALS))
    places = torch.arange(INTERVALS, dtype=torch.int32, device=low.device)
    start_mask, end_mask = (
        (((bits & has_length).unsqueeze(-1) >> places) & 1).to(low.dtype)
        for bits in (start_bits, end_bits)
    )
    return start_mask, end_mask


def _sorted(values: Tensor) -> list[Tensor]:
    """Sorted along the first axis of size 8, with the place of each value in its last three bits.

    A sorting network of minima and maxima of contiguous memory takes a small part of the time of ``torch.sort``. Values that
    differ in their last three bits only may change places.
    """
    places = torch.arange(INTERVALS, dtype=torch.int32, device=values.device)
    places = places.reshape(-1, *[1] * (values.ndim - 1))
    rows = list(((values.view(torch.int32) & ~(INTERVALS - 1)) | places).view(torch.float32))
    for one, other in SORTING_NETWORK:
        pair = rows[one], rows[other]
        rows[one], rows[other] = torch.minimum(*pair), torch.maximum(*pair)
    return rows


def _bit(values: Tensor) -> Tensor:
    """2 to the power of the place that is in the last three bits."""
    return 1 << (values.view(torch.int32) & (INTERVALS - 1))
