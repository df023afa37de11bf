"""Functions of a state and a goal that are inner products of an encoded state and an encoded goal."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offline_gcrl.networks.conditioning import Conditioning
from offline_gcrl.networks.goal_conditioned import ON_THE_GOAL, GoalConditioned


class Encoder(GoalConditioned):
    """A function of one input, a state or a goal, and of the task's identifier where networks are conditioned on it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        activation: str,
        *,
        conditioning: Conditioning = ON_THE_GOAL,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(
            inputs,
            0,
            outputs,
            hidden,
            activation,
            conditioning=conditioning.of_the_task,
            layer_norm=layer_norm,
        )

    def forward(self, inputs: Tensor, task: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(batch, inputs) and task numbers (batch,) to (batch, outputs)."""
        return super().forward(inputs, inputs[..., :0], task=task)


class Bilinear(nn.Module):
    """f(s, g) = phi(s) . psi(g) / sqrt(d), or f(s, a, g) with phi(s, a), with encodings of d numbers.

    ``state_encoder`` is phi and ``goal_encoder`` psi.
    """

    def __init__(
        self,
        state: int,
        goal: int,
        latent: int,
        hidden: Sequence[int],
        activation: str,
        *,
        conditioning: Conditioning = ON_THE_GOAL,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.scale = 1.0 / math.sqrt(latent)
        self.state_encoder, self.goal_encoder = (
            Encoder(
                inputs,
                latent,
                hidden,
                activation,
                conditioning=conditioning,
                layer_norm=layer_norm,
            )
            for inputs in (state, goal)
        )

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal), (batch, action), task numbers (batch,) to (batch,)."""
        product = self._state(state, action, task) * self._goal(goal, task)
        return product.sum(-1) * self.scale

    def pairs(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """The same inputs to (batch, batch): each state, or state and action, with each goal of the batch."""
        product = self._state(state, action, task) @ self._goal(goal, task).mT
        return product * self.scale

    def _state(self, state: Tensor, action: Tensor | None, task: Tensor | None) -> Tensor:
        if action is not None:
            state = torch.cat([state, action], -1)
        encoded: Tensor = self.state_encoder(state, task)
        return encoded

    def _goal(self, goal: Tensor, task: Tensor | None) -> Tensor:
        encoded: Tensor = self.goal_encoder(goal, task)
        return encoded
