"""The loss of an agent compiled by torch."""

import os
import shutil
import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from offline_gcrl.agents import Batch, Losses
from offline_gcrl.training.accuracy import tensor_cores
from offline_gcrl.training.updates import LossFunction

Precision = Literal["fp32", "tf32", "bf16"]
Device = Literal["cpu", "cuda"]
TOLERANCES: dict[Precision, float] = {"fp32": 1.0e-4, "tf32": 5.0e-3, "bf16": 5.0e-2}
"""Relative difference up to which a compiled loss, which adds up in another order, counts as the same."""
GRADIENT_TOLERANCE = 1.0e-2
"""Relative error of a compiled gradient that is allowed in every precision."""
ALLOWED_ROUNDING = 4.0
"""Error of a compiled loss and gradient in bf16 or tf32 that is allowed beyond that, in units of the error of the eager ones."""


def compiler() -> str | None:
    """Path of the C++ compiler, which is ``g++`` or the one that ``CXX`` names; None if there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def has_compiler(device: str) -> bool:
    """Whether ``torch.compile`` finds what it needs: on a CPU, a C++ compiler."""
    return device != "cpu" or compiler() is not None


class CompiledLoss:
    """A loss compiled at its first call; as it is, with a line of explanation, if that fails or gives another loss.

    Which is found out on the first batch of each process, from the loss and its gradient.

    Args:
        loss: of a batch.
        tolerance: by which the compiled one may differ, relatively.
        device: where the batches are.
        exact: the same loss in float32, if ``loss`` is in another precision. Eager and compiled gradients of bfloat16
            can differ by more than their size where large terms cancel, so both are compared with this one.
        own_products: whether products are those of ``training.products``; torch's, with a line of explanation, if they
            cannot be used.
    """

    def __init__(
        self,
        loss: LossFunction,
        tolerance: float = TOLERANCES["fp32"],
        device: Device = "cpu",
        *,
        exact: LossFunction | None = None,
        own_products: bool = False,
    ) -> None:
        # torch's compiler calls this function, which torch has deprecated, for an assignment to the diagonal.
        warnings.filterwarnings("ignore", r".*_prims_common\.check` is deprecated", FutureWarning)
        self.plain, self.exact, self.tolerance = loss, exact, tolerance
        self.current: LossFunction = torch.compile(
            loss, dynamic=False, options=_options(device, own_products)
        )
        self.called = False

    def __call__(self, batch: Batch) -> Losses:
        """The loss of a batch."""
        if not self.called:
            self.called = True
            problem = self._problem(batch)
            if problem:
                print(f"  the compiled loss is not used, it runs as it is: {problem}", flush=True)
                self.current = self.plain
        return self.current(batch)

    def _problem(self, batch: Batch) -> str:
        """The error of the compiled loss or of its gradient; empty if it is one of rounding."""
        eager = self.plain(batch)[0]
        weights = learned(eager)
        try:
            loss, gradient = _with_gradient(self.current(batch)[0], weights)
        except (
            Exception
        ) as error:  # The compiler raises many kinds; the eager loss repeats real errors.
            return next(iter(str(error).splitlines()), type(error).__name__)
        eager_loss, eager_gradient = exact_loss, exact_gradient = _with_gradient(eager, weights)
        if self.exact is not None:
            with tensor_cores(False):
                exact_loss, exact_gradient = _with_gradient(self.exact(batch)[0], weights)
        allowed = self.tolerance * (1.0 + exact_loss.abs())
        if not _is_rounding(loss, eager_loss, exact_loss, allowed):
            return f"it is {loss:.6g} where it should be {exact_loss:.6g}"
        size = exact_gradient.norm()
        if not _is_rounding(gradient, eager_gradient, exact_gradient, GRADIENT_TOLERANCE * size):
            wrong = (gradient - exact_gradient).norm()
            return f"its gradient has an error of {wrong:.6g}, and the gradient has the norm {size:.6g}"
        return ""


def _is_rounding(found: Tensor, eager: Tensor, exact: Tensor, tolerance: Tensor) -> bool:
    """Whether a compiled result is as near to the exact one as rounding allows; also if the exact one is not finite."""
    allowed = tolerance + ALLOWED_ROUNDING * (eager - exact).norm()
    return bool((found - exact).norm() <= allowed) or not bool(allowed.isfinite())


def learned(loss: Tensor) -> list[Tensor]:
    """The weights that a loss has a gradient of, in the order in which its graph contains them."""
    found: dict[Tensor, None] = {}
    left, seen = [loss.grad_fn], set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [following for following, _ in node.next_functions]
        if hasattr(node, "variable"):  # Only leaves have it.
            found[node.variable] = None
    return list(found)


def _with_gradient(loss: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """A loss and its gradient of all weights in one row, in float64; zero where the loss does not depend on them."""
    gradient = torch.autograd.grad(loss, weights, materialize_grads=True)
    return loss.detach().double(), torch.cat([part.flatten().double() for part in gradient])


def _options(device: Device, own_products: bool) -> dict[str, Any]:
    """Options of torch's compiler."""
    if device != "cpu":
        return {}
    # The calls of the kernels are compiled, too, which saves a millisecond per update.
    options: dict[str, Any] = {"cpp_wrapper": True}
    if own_products:
        from offline_gcrl.training.products import (
            Products,
            ProductsError,
        )  # It imports torch's compiler.

        try:
            options["post_grad_custom_pre_pass"] = Products()
        except ProductsError as error:
            print(f"  torch's products of matrices are used, which are slower: {error}", flush=True)
    return options
