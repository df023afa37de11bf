"""The loss of an agent compiled by torch."""

import os
import shutil
import warnings
from typing import Any, Literal

import torch

from offline_gcrl.agents import Batch, Losses
from offline_gcrl.training.updates import LossFunction

Precision = Literal["fp32", "tf32", "bf16"]
Device = Literal["cpu", "cuda"]
TOLERANCES: dict[Precision, float] = {"fp32": 1.0e-4, "tf32": 5.0e-3, "bf16": 5.0e-2}
"""Relative difference up to which a compiled loss, which adds up in another order, counts as the same."""


def compiler() -> str | None:
    """Path of the C++ compiler, which is ``g++`` or the one that ``CXX`` names; None if there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def has_compiler(device: str) -> bool:
    """Whether ``torch.compile`` finds what it needs: on a CPU, a C++ compiler."""
    return device != "cpu" or compiler() is not None


class CompiledLoss:
    """A loss compiled at its first call; as it is, with a line of explanation, if that fails or gives another loss.

    Which is found out on the first batch of each process.

    Args:
        loss: of a batch.
        tolerance: by which the compiled one may differ, relatively.
        device: where the batches are.
        own_products: whether products are those of ``training.products``; torch's, with a line of explanation, if they
            cannot be used.
    """

    def __init__(
        self,
        loss: LossFunction,
        tolerance: float = TOLERANCES["fp32"],
        device: Device = "cpu",
        *,
        own_products: bool = False,
    ) -> None:
        # torch's compiler calls this function, which torch has deprecated, for an assignment to the diagonal.
        warnings.filterwarnings("ignore", r".*_prims_common\.check` is deprecated", FutureWarning)
        self.plain, self.tolerance = loss, tolerance
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
        """The error of the compiled loss compared with the eager one; empty if there is none."""
        try:
            found = self.current(batch)[0].detach()
        except (
            Exception
        ) as error:  # The compiler raises many kinds; the eager loss repeats real errors.
            return next(iter(str(error).splitlines()), type(error).__name__)
        expected = self.plain(batch)[0].detach()
        by = self.tolerance
        if torch.isclose(found, expected, rtol=by, atol=by, equal_nan=True):
            return ""
        return f"it is {float(found):.6g} where it should be {float(expected):.6g}"


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
