"""Functions of a state and a goal, with an action where one is given: the body of every value and actor."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offline_gcrl.networks.conditioning import Conditioning, FiLM, Heads, TaskEncoder, TwoColumns
from offline_gcrl.networks.encoders import ImageEncoding, image_inputs, vector_encoder
from offline_gcrl.networks.mlp import MLP
from offline_gcrl.networks.modules import SoftModules

ON_THE_GOAL = Conditioning()
"""Conditioned on the goal alone, concatenated with the state."""
HEADS: dict[str, type[Heads | TwoColumns]] = {"heads": Heads, "distral": TwoColumns}
"""Task networks with output layers per task, and these layers."""


class GoalConditioned(nn.Module):
    """A function of (s, z) or of (s, z, a), where z is the goal, a task identifier, both, or nothing.

    ``task_network`` says how z comes in: ``concatenate`` feeds [s, z, a] to one network, ``film`` lets z scale
    and shift its hidden layers, ``heads`` concatenates and has an output layer for each task, ``modular`` weights
    modules by the task, and ``distral`` has a shared output layer and one for each task. With
    ``goal_encoder: separate`` the state (with the action) and z are encoded by a layer each first (universal
    value functions; Schaul et al. 2015, figure 1, the two-stream architecture). Images are encoded before all of this.
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
        reads_goal = "goal" in conditioning.inputs.parts
        self.images = image_inputs(conditioning.images, state, goal if reads_goal else 0)
        if self.images is not None:
            state, goal = self.images.state, self.images.goal if reads_goal else goal
        condition = conditioning.inputs.size(goal)
        self.task_encoder = TaskEncoder(conditioning.inputs)
        self.state_encoder: nn.Module = nn.Identity()
        self.goal_encoder: nn.Module = nn.Identity()
        if conditioning.goal_encoder == "separate":
            self.state_encoder = vector_encoder(state, hidden[0], activation)
            self.goal_encoder = vector_encoder(condition, hidden[0], activation)
            state = condition = hidden[0]
        self.trunk: nn.Module
        sizes = [state, *hidden] if self.network == "film" else [state + condition, *hidden]
        ends: dict[str, Any] = {"layer_norm": layer_norm, "last_gain": last_gain}
        if self.network == "film":
            self.trunk = FiLM([*sizes, outputs], activation, condition=condition, **ends)
        elif self.network == "modular":
            self.identifier = TaskEncoder(conditioning.identifier)
            identifier = conditioning.identifier.size(goal)
            self.trunk = SoftModules(
                sizes,
                outputs,
                activation,
                identifier=identifier,
                shape=conditioning.modular,
                **ends,
            )
        elif self.network in HEADS:
            self.trunk = MLP(sizes, activation, layer_norm=layer_norm, ends_hidden=True)
            self.heads: Heads | TwoColumns = HEADS[self.network](
                hidden[-1], outputs, activation, tasks=conditioning.tasks, last_gain=last_gain
            )
        else:
            self.trunk = MLP([*sizes, outputs], activation, **ends)

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal), (batch, action), task numbers (batch,) to (batch, outputs)."""
        outputs = self._of_trunk(state, goal, action, task)
        if self.network in HEADS:
            assert task is not None, "a network with a head for each task needs its number"
            outputs = self.heads(outputs, task)
        return outputs

    def columns(self, state: Tensor, goal: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of the shared layer and of the layer of the task, with ``distral``: both (batch, outputs)."""
        assert isinstance(self.heads, TwoColumns)
        return self.heads.columns(self._of_trunk(state, goal, None, task), task)

    def _of_trunk(
        self, state: Tensor, goal: Tensor, action: Tensor | None, task: Tensor | None
    ) -> Tensor:
        """The outputs, or the features that heads read."""
        if self.images is not None:
            state, goal = self.images(state, goal)
        if action is not None:
            state = torch.cat([state, action], -1)
        state = self.state_encoder(state)
        condition = self.goal_encoder(self.task_encoder(goal, task))
        outputs: Tensor
        if self.network == "film":
            outputs = self.trunk(state, condition)
            return outputs
        inputs = torch.cat([state, condition], -1)
        if self.network == "modular":
            outputs = self.trunk(inputs, self.identifier(goal, task))
            return outputs
        outputs = self.trunk(inputs)
        return outputs


class ImagePair(nn.Module):
    """A function of two images in one vector, (batch, 2 * goal), which are encoded together."""

    def __init__(self, network: GoalConditioned) -> None:
        super().__init__()
        self.network = network

    def forward(self, pairs: Tensor) -> Tensor:
        """(batch, 2 * goal) to (batch, outputs)."""
        first, second = pairs.chunk(2, -1)
        outputs: Tensor = self.network(first, second)
        return outputs


def pair_network(
    goal: int, hidden: Sequence[int], activation: str, images: ImageEncoding | None
) -> nn.Module:
    """A function of two goals in one vector, (batch, 2 * goal) to (batch, 1): an MLP, or for images with an encoder."""
    if images is None or goal < images.pixels:
        return MLP([2 * goal, *hidden, 1], activation)
    return ImagePair(
        GoalConditioned(goal, goal, 1, hidden, activation, conditioning=Conditioning(images=images))
    )
