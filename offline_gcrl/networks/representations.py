"""Representations of goals that depend on the state, and values that read them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from offline_gcrl.networks.conditioning import Conditioning
from offline_gcrl.networks.goal_conditioned import ON_THE_GOAL, GoalConditioned
from offline_gcrl.networks.targets import copy_as_target
from offline_gcrl.networks.values import Ensemble, Value


def on_sphere(vectors: Tensor) -> Tensor:
    """(..., n) scaled to the length sqrt(n), so that the mean square of the numbers is 1 (OGBench)."""
    return normalize(vectors, dim=-1) * math.sqrt(vectors.shape[-1])


class GoalRepresentation(GoalConditioned):
    """phi([s; g]) of n numbers with length sqrt(n) (HIQL, Park et al., NeurIPS 2023)."""

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to (batch, n)."""
        return on_sphere(super().forward(state, goal, action, task))


class RepresentationValue(nn.Module):
    """Two values V(s, phi([s; g])) with one representation phi, which their targets share.

    Only the heads have target copies. The targets read the current phi: a copy of phi as well would be another
    algorithm than HIQL's released code.
    """

    def __init__(
        self,
        state: int,
        goal: int,
        size: int,
        hidden: Sequence[int],
        activation: str,
        *,
        conditioning: Conditioning = ON_THE_GOAL,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.representation = GoalRepresentation(
            state, goal, size, hidden, activation, conditioning=conditioning, layer_norm=layer_norm
        )
        self.heads = Ensemble(
            Value(
                state, size, 1, hidden, activation, conditioning=conditioning, layer_norm=layer_norm
            )
            for _ in range(2)
        )
        self.target_heads = copy_as_target(self.heads)

    def forward(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to (2, batch)."""
        values: Tensor = self.heads(state, self.representation(state, goal, task=task), task=task)
        return values

    def target(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """The same of the target heads on the current representation, without a gradient."""
        with torch.no_grad():
            representation = self.representation(state, goal, task=task)
            values: Tensor = self.target_heads(state, representation, task=task)
        return values

    def estimate(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """Mean of the two values, (batch,), without a gradient."""
        with torch.no_grad():
            return self.estimate_of(state, self.representation(state, goal, task=task), task)

    def estimate_of(self, state: Tensor, representation: Tensor, task: Tensor | None) -> Tensor:
        """The same of a representation, (batch, n)."""
        with torch.no_grad():
            values: Tensor = self.heads(state, representation, task=task)
        return values.mean(0)

    def learning(self) -> list[nn.Parameter]:
        """The parameters of representation and heads, without the targets."""
        return [*self.representation.parameters(), *self.heads.parameters()]
