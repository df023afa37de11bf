"""How exact products of matrices are, and whether a GPU may round their inputs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def probe(rows: int, columns: int) -> Tensor:
    """Numbers in [-1, 1] that fill a float32's digits, the same on every machine: (rows, columns)."""
    return torch.arange(rows * columns, dtype=torch.float64).sin().float().reshape(rows, columns)


def relative_error(product: Tensor, exact: Tensor) -> float:
    """The norm of the error of a product, divided by that of the exact product in float64."""
    return float((product.double() - exact).norm() / exact.norm())


@contextmanager
def tensor_cores(wanted: bool) -> Iterator[None]:
    """Whether a GPU rounds the inputs of float32 products to TF32, with 10 bits of mantissa, within the block."""
    backend = torch.backends.cuda.matmul
    before = backend.allow_tf32
    backend.allow_tf32 = wanted
    try:
        yield
    finally:
        backend.allow_tf32 = before
