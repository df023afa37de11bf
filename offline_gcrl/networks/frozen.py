"""Calling a network whose weights are constants: gradients flow through its inputs only."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def frozen(network: nn.Module) -> Callable[..., Tensor]:
    """The forward pass of a network with its weights detached."""
    weights = {name: value.detach() for name, value in network.named_parameters()}

    def call(*inputs: Any, **named: Any) -> Tensor:
        outputs: Tensor = functional_call(network, weights, inputs, named)
        return outputs

    return call
