"""Quasimetrics: distances between encodings that obey the triangle inequality and need not be symmetric."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offline_gcrl.networks.bilinear import Encoder
from offline_gcrl.networks.conditioning import Conditioning
from offline_gcrl.networks.goal_conditioned import ON_THE_GOAL

INTERVALS = 8
"""Intervals per component of IQE (QRL, OGBench)."""
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
    """Lengths of unions of intervals, (..., intervals) to (...); an interval whose ends are reversed is empty.

    A length is the sum of the ends that no other interval covers, minus the sum of the starts that no other interval covers.
    Which ones these are does not change with small changes of the intervals, so it has no gradient.
    """
    with torch.no_grad():
        starts, ends = _boundaries(low, high)
    return (ends * high - starts * low).sum(-1)


def _boundaries(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Which starts and ends of intervals, (..., intervals) each, no other interval covers; of equal ones, one counts."""
    # Comparisons over contiguous memory are several times as fast.
    low, high = (values.movedim(-1, 0).contiguous() for values in (low, high))
    is_empty = ~(low < high)
    reach = torch.where(is_empty, -torch.inf, high)  # An empty interval covers nothing.
    start_is_covered, end_is_covered = is_empty.clone(), is_empty.clone()
    for place in range(len(low)):
        start, end = low[place], reach[place]
        # Of equal starts or ends, the first in the order of intervals covers the others.
        ahead, behind = slice(place), slice(place + 1, None)
        for others, before, after in ((ahead, torch.lt, torch.gt), (behind, torch.le, torch.ge)):
            start_is_covered[others] |= before(start, low[others]) & (low[others] <= end)
            end_is_covered[others] |= after(end, high[others]) & (start <= high[others])
    return ~start_is_covered.movedim(0, -1), ~end_is_covered.movedim(0, -1)
