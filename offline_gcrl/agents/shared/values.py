"""Losses of values: expectile regression."""

import torch
from torch import Tensor


def expectile_losses(difference: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(difference < 0)| difference^2, of each (IQL, equation 4)."""
    return expectile_weight(difference, expectile) * difference.square()


def expectile_weight(difference: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(difference < 0)|: the expectile at or above zero, one minus it below."""
    return torch.where(difference < 0.0, 1.0 - expectile, expectile)
