"""Reads the numbers of OGBench's released agents, and puts their weights into networks of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.training.updates import PlainUpdater

FOLDER = Path(__file__).parent / "references"
DIMENSIONS = Dimensions(observation=6, goal=6, action=3)
DISCOUNT = 0.99
STATE, GOAL, ACTION = range(0, 6), range(6, 12), range(12, 15)
"""Inputs of a critic there, in this order."""
HERE = [*STATE, *ACTION, *GOAL]
"""The same inputs in the order in which critics of this package read them."""


@dataclass(frozen=True)
class Reference:
    """One update of a released agent."""

    arrays: Mapping[str, NDArray[Any]]

    @property
    def batch(self) -> dict[str, Tensor]:
        """The batch, with the fields of this package that OGBench's does not have."""
        found = {
            name.removeprefix("batch/"): torch.from_numpy(values)
            for name, values in self.arrays.items()
            if name.startswith("batch/")
        }
        size = len(found["rewards"])
        return found | {
            "discounts": torch.full((size,), DISCOUNT),
            "tasks": torch.zeros(size, dtype=torch.int64),
            "following_observations": found["next_observations"],
        }

    def info(self, name: str) -> float:
        """A part of the loss, or the total."""
        return float(self.arrays[name if name == "total" else f"info/{name}"])

    def layers(self, network: str, when: str = "params") -> dict[str, Tensor]:
        """The weights of a network, by the path of each within it."""
        start = f"{when}/modules_{network}/"
        return {
            name.removeprefix(start): torch.from_numpy(np.array(values))
            for name, values in self.arrays.items()
            if name.startswith(start)
        }


def read(name: str) -> Reference:
    """The reference of an agent, by the name of its file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return Reference({key: file[key] for key in file.files})


def put(
    network: nn.Module,
    layers: Mapping[str, Tensor],
    body: str,
    *,
    member: int | None = None,
    last: str | None = None,
    order: Sequence[int] | None = None,
) -> None:
    """Put the weights of a network there into the linear layers and norms of one here.

    Args:
        network: of this package; its linear layers and norms come up in the order of its forward pass.
        layers: as ``Reference.layers`` returns them.
        body: the path of the layers there, as ``value_net``.
        member: which of an ensemble.
        last: the path of the last layer where it is not in the body, as ``mean_net``.
        order: which input there is each input here, where their order differs.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    with torch.no_grad():
        for number, module in enumerate(linear):
            at_end = last is not None and number == len(linear) - 1
            path = last if at_end else f"{body}/Dense_{number}"
            kernel, bias = (_one(layers[f"{path}/{part}"], member) for part in ("kernel", "bias"))
            if number == 0 and order is not None:
                kernel = kernel[list(order)]
            module.weight.copy_(kernel.T)
            module.bias.copy_(bias)
        for number, norm in enumerate(norms):
            scale, bias = (
                _one(layers[f"{body}/LayerNorm_{number}/{part}"], member)
                for part in ("scale", "bias")
            )
            norm.weight.copy_(scale)
            norm.bias.copy_(bias)


def _one(values: Tensor, member: int | None) -> Tensor:
    return values if member is None else values[member]


def assert_same_update(
    agent: Any, expected: nn.Module, batch: dict[str, Tensor], rate: float
) -> None:
    """Run one update and compare all weights with those of the released agent, in units of one step.

    Args:
        agent: with the weights before.
        expected: the same kind of agent, with the weights after.
        batch: of the reference.
        rate: the learning rate; Adam's first step is at most that long.
    """
    optimizer = torch.optim.Adam(agent.parameter_groups())
    PlainUpdater(agent, agent.loss, optimizer).update(batch)
    wanted = dict(expected.named_parameters())
    for name, parameter in agent.named_parameters():
        difference = (parameter - wanted[name]).abs()
        rounding = 4e-7 * max(1.0, wanted[name].abs().max().item())
        allowed = 1e-5 * rate + rounding + rate * _uncertainty(parameter.grad)
        assert (difference <= allowed).all(), (name, difference.max().item() / rate)


def _uncertainty(gradient: Tensor | None) -> Tensor | float:
    """By how much Adam's first step, g / (|g| + 1e-8), changes with the rounding of the gradient to float32."""
    if gradient is None:
        return 0.0
    slope = 1e-8 / (gradient.abs() + 1e-8).square()
    return slope * 1e-7 * gradient.abs().max()
