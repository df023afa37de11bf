"""Target networks: copies that follow by a fused lerp."""

import copy

import torch
from torch import nn


def copy_as_target(network: nn.Module) -> nn.Module:
    """A copy that receives no gradient and moves by ``move_targets`` only."""
    target = copy.deepcopy(network)
    target.requires_grad_(False)
    return target


def move_targets(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Target += rate * (source - target), for all parameters in one fused operation."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
