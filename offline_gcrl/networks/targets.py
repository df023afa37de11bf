"""Target networks: sets of parameters that follow others by a fused lerp, never by a gradient."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

TargetPair = tuple[list[Tensor], list[Tensor], float]
"""Target parameters, the source parameters that they follow, and the rate; a part of a network may be a pair."""


def copy_as_target(network: nn.Module) -> nn.Module:
    """A copy that receives no gradient and moves by ``move_targets`` only."""
    target = copy.deepcopy(network)
    target.requires_grad_(False)
    return target


def target_pair(target: nn.Module, source: nn.Module, rate: float) -> TargetPair:
    """The pair of all parameters of two modules of the same shape."""
    return list(target.parameters()), list(source.parameters()), rate


def move_targets(targets: Sequence[Tensor], sources: Sequence[Tensor], rate: float) -> None:
    """Target += rate * (source - target), for all parameters in one fused operation."""
    with torch.no_grad():
        torch._foreach_lerp_(list(targets), list(sources), rate)
