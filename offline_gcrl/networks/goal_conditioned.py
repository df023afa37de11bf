"""Functions of a state and a goal, with an action where one is given: the body of every value and actor."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offline_gcrl.networks.conditioning import Conditioning, FiLM, Heads, TaskEncoder
from offline_gcrl.networks.encoders import vector_encoder
from offline_gcrl.networks.mlp import MLP

ON_THE_GOAL = Conditioning()
"""Conditioned on the goal alone, concatenated with the state."""


class GoalConditioned(nn.Module):
    """A function of (s, z) or of (s, z, a), where z is the goal, a task identifier, both, or nothing.

    ``task_network`` says how z comes in: ``concatenate`` feeds [s, z, a] to one network, ``film`` lets z scale
    and shift its hidden layers, ``heads`` concatenates and has an output layer for each task. With
    ``goal_encoder: separate`` the state (with the action) and z are encoded by a layer each first (universal
    value functions; Schaul et al. 2015, figure 1, the two-stream architecture).
    """

    def __init__(
        self,
        state: int,
        goal: int,
        outputs: int,
        hidden: Sequence[int],
        activation: str,
        *,
        conditioning: Conditioning = ON_THE_GOAL,
        layer_norm: bool = False,
        last_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = conditioning.network
        condition = conditioning.size(goal)
        self.task_encoder = TaskEncoder(conditioning)
        self.state_encoder: nn.Module = nn.Identity()
        self.goal_encoder: nn.Module = nn.Identity()
        if conditioning.goal_encoder == "separate":
            self.state_encoder = vector_encoder(state, hidden[0], activation)
            self.goal_encoder = vector_encoder(condition, hidden[0], activation)
            state = condition = hidden[0]
        self.trunk: nn.Module
        sizes = [state, *hidden] if self.network == "film" else [state + condition, *hidden]
        if self.network == "film":
            self.trunk = FiLM(
                [*sizes, outputs],
                activation,
                condition=condition,
                layer_norm=layer_norm,
                last_gain=last_gain,
            )
        elif self.network == "heads":
            self.trunk = MLP(sizes, activation, layer_norm=layer_norm, ends_hidden=True)
            self.heads = Heads(
                hidden[-1], outputs, activation, tasks=conditioning.tasks, last_gain=last_gain
            )
        else:
            self.trunk = MLP(
                [*sizes, outputs], activation, layer_norm=layer_norm, last_gain=last_gain
            )

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal), (batch, action), task numbers (batch,) to (batch, outputs)."""
        if action is not None:
            state = torch.cat([state, action], -1)
        state = self.state_encoder(state)
        condition = self.goal_encoder(self.task_encoder(goal, task))
        outputs: Tensor
        if self.network == "film":
            outputs = self.trunk(state, condition)
            return outputs
        outputs = self.trunk(torch.cat([state, condition], -1))
        if self.network == "heads":
            assert task is not None, "a network with a head for each task needs its number"
            outputs = self.heads(outputs, task)
        return outputs
