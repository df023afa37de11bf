"""Running percentiles: a queue of the latest values, as a tensor that is replaced and never changed in place."""

import torch
from torch import Tensor

EMPTY = torch.finfo(torch.float32).max
"""Fills the places of a queue that have no value yet: the last in order, and finite, as all of an agent's state is."""


def pushed(queue: Tensor, values: Tensor) -> Tensor:
    """The queue (size,) after values (n,) entered it, the newest last; the oldest values leave."""
    return torch.cat([queue, values.detach().to(queue.dtype)])[-len(queue) :]


def percentile(queue: Tensor, percent: Tensor) -> Tensor:
    """A percentile, from 0 to 100, of the values in a queue, interpolated linearly as ``numpy.percentile`` does.

    Shapes (size,) and () to (). The number of values may differ between calls without a wait for the host.
    """
    in_order = queue.sort().values
    last = (queue < EMPTY).sum() - 1
    position = percent / 100.0 * last
    below = position.floor().long()
    above = torch.minimum(below + 1, last)
    low, high = in_order.gather(0, torch.stack([below, above]))
    return torch.lerp(low, high, (position - below).to(low.dtype))
