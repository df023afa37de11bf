"""An actor's forward pass in NumPy for one state at a time, in a sixth of the time of torch's module calls.

Networks are defined in ``networks`` only; this module reads their layers. Only a plain MLP can be read; any other
actor acts through torch, with the same result.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from offline_gcrl.networks.actors import Actor
from offline_gcrl.networks.mlp import GELU, MLP

Layer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def plain_layers(actor: nn.Module) -> list[Layer] | None:
    """The layers of an actor that is one MLP of state and goal; None for any other actor."""
    if not isinstance(actor, Actor):
        return None
    network = actor.network
    plain = (
        network.network == "concatenate"
        and network.images is None
        and network.task_encoder.parts == ("goal",)
        and isinstance(network.state_encoder, nn.Identity)
        and isinstance(network.goal_encoder, nn.Identity)
        and isinstance(network.trunk, MLP)
    )
    if not plain:
        return None
    tail = [nn.Tanh()] if actor.squash else []
    found = [_layer(module) for module in [*network.trunk.children(), *tail]]
    layers = [layer for layer in found if layer is not None]
    return layers if len(layers) == len(found) else None


def _layer(module: nn.Module) -> Layer | None:
    if isinstance(module, nn.Linear):
        weight = np.ascontiguousarray(module.weight.detach().numpy().T)
        bias = module.bias.detach().numpy().copy()
        return lambda values: values @ weight + bias
    if isinstance(module, nn.ReLU):
        return lambda values: np.maximum(values, np.float32(0.0))
    if isinstance(module, GELU):
        return _gelu
    return np.tanh if isinstance(module, nn.Tanh) else None


def _gelu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """GELU by the tanh approximation, as ``networks.mlp.GELU``."""
    inner = np.float32(math.sqrt(2.0 / math.pi)) * (
        values + np.float32(0.044715) * values * values * values
    )
    activated: NDArray[Any] = np.float32(0.5) * values * (np.float32(1.0) + np.tanh(inner))
    return activated


def forward(layers: list[Layer], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply all layers: (inputs,) to (outputs,)."""
    for layer in layers:
        values = layer(values)
    return values
