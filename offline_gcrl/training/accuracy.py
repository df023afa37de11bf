"""Comparison of products of matrices with those of float64."""

import torch
from torch import Tensor


def probe(rows: int, columns: int) -> Tensor:
    """Numbers in [-1, 1] that fill a float32's digits, the same on every machine: (rows, columns)."""
    return torch.arange(rows * columns, dtype=torch.float64).sin().float().reshape(rows, columns)


def relative_error(product: Tensor, exact: Tensor) -> float:
    """The norm of the error of a product, divided by that of the exact product in float64."""
    return float((product.double() - exact).norm() / exact.norm())
