"""Networks of goal-conditioned agents: MLPs, goal encoders (UVFA), critic ensembles, actors.

Inputs are normalised observations and goals; actions are scaled to [-1, 1].
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from offline_gcrl.config import AgentSettings


class GELU(nn.Module):
    """GELU by its tanh approximation (Hendrycks and Gimpel 2016), as OGBench's: JAX's default form.

    ``nn.GELU()`` is the exact one, by the error function; they differ by less than 5e-4. Compiled, the same
    function is written x sigmoid(2u), for (1 + tanh u) / 2 = sigmoid(2u): less than half the time of tanh.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape to the same."""
        if torch.compiler.is_compiling():
            return sigmoid_gelu(inputs)
        return nn.functional.gelu(inputs, approximate="tanh")


def sigmoid_gelu(inputs: Tensor) -> Tensor:
    """GELU as x sigmoid(2u) with 2u = sqrt(8 / pi) (x + 0.044715 x^3).

    A quotient by 1 + exp(-2u) would be the same, but has no gradient far below 0: its square overflows.
    """
    return inputs * torch.sigmoid(
        math.sqrt(8.0 / math.pi) * (inputs + 0.044715 * inputs * inputs * inputs)
    )


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": GELU, "tanh": nn.Tanh}

LAST_GAIN = 0.1
"""Of an actor's last layer: OGBench's 1e-2 is a factor on the variance of the initial weights."""


@dataclass(frozen=True)
class Dimensions:
    """Sizes that the networks of an agent need."""

    observation: int
    goal: int
    action: int
    tasks: int = 1


@dataclass(frozen=True)
class Conditioning:
    """What a network is told of its task beside the state, and how it takes that in."""

    told: str = "goal"
    """``goal``, ``one_hot``, ``embedding``, a goal and one of these joined by ``+``, or ``none``."""
    network: str = "concatenate"
    """``concatenate``, ``film`` or ``heads``."""
    goal_encoder: str = "concatenate"
    """``separate``: state and what is told are encoded by a layer each first."""
    embedding: int = 16
    tasks: int = 1

    @classmethod
    def of(cls, settings: AgentSettings, dimensions: Dimensions) -> "Conditioning":
        """The same for all networks of an agent."""
        return cls(
            told=settings.conditioning,
            network=settings.task_network,
            goal_encoder=settings.goal_encoder,
            embedding=settings.embedding_size,
            tasks=dimensions.tasks,
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """What is told, one thing after another."""
        return () if self.told == "none" else tuple(self.told.split("+"))

    def size(self, goal: int) -> int:
        """Numbers that are told, with goals of ``goal`` numbers."""
        sizes = {"goal": goal, "one_hot": self.tasks, "embedding": self.embedding}
        return sum(sizes[part] for part in self.parts)


class MLP(nn.Sequential):
    """Linear layers with an activation, and LayerNorm after it where asked for, between them.

    Args:
        sizes: input, hidden and output units.
        activation: a name in ``ACTIVATIONS``.
        layer_norm: whether hidden layers are normalised.
        last_gain: factor on the initial weights of the last layer.
        ends_hidden: whether the last layer is a hidden one too, with what follows it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str,
        *,
        layer_norm: bool = False,
        last_gain: float = 1.0,
        ends_hidden: bool = False,
    ) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            linear = nn.Linear(inputs, outputs)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, ACTIVATIONS[activation]()]
            if layer_norm:
                layers.append(nn.LayerNorm(outputs))
        last = max(index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear))
        with torch.no_grad():
            layers[last].get_parameter("weight").mul_(last_gain)
        super().__init__(*(layers if ends_hidden else layers[: last + 1]))


class FiLM(nn.Module):
    """An MLP whose hidden layers are scaled and shifted by what it is told (Perez et al., AAAI 2018).

    Hidden layer l computes activation((1 + scale_l(z)) * (W_l h + b_l) + shift_l(z)), with scale and shift
    linear in z, of ``told`` numbers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str,
        *,
        told: int,
        layer_norm: bool = False,
        last_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.layers = MLP(sizes, activation, layer_norm=layer_norm, last_gain=last_gain)
        self.modulations = nn.ModuleList(
            MLP([told, 2 * units], activation) for units in sizes[1:-1]
        )

    def forward(self, inputs: Tensor, told: Tensor) -> Tensor:
        """(batch, inputs) and (batch, told) to (batch, outputs)."""
        modulations = iter(self.modulations)
        for number, layer in enumerate(self.layers):
            inputs = layer(inputs)
            if isinstance(layer, nn.Linear) and number + 1 < len(self.layers):
                scale, shift = next(modulations)(told).chunk(2, -1)
                inputs = (1.0 + scale) * inputs + shift
        return inputs


class Heads(nn.Module):
    """An output layer for each task, on what a shared trunk computes."""

    def __init__(
        self, inputs: int, outputs: int, activation: str, *, tasks: int, last_gain: float
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            MLP([inputs, outputs], activation, last_gain=last_gain) for _ in range(tasks)
        )

    def forward(self, inputs: Tensor, task: Tensor) -> Tensor:
        """(batch, inputs) and task numbers (batch,) to (batch, outputs)."""
        outputs = torch.stack([head(inputs) for head in self.heads], -2)
        return torch.take_along_dim(outputs, task[..., None, None], -2).squeeze(-2)


class TaskEncoder(nn.Module):
    """What a network is told of its task, as one vector: the goal, a task identifier, both, or nothing."""

    def __init__(self, conditioning: Conditioning) -> None:
        super().__init__()
        self.parts, self.tasks = conditioning.parts, conditioning.tasks
        if "embedding" in self.parts:
            self.embedding = nn.Embedding(conditioning.tasks, conditioning.embedding)

    def forward(self, goal: Tensor, task: Tensor | None) -> Tensor:
        """(batch, goal) and task numbers (batch,) to (batch, size)."""
        told = [
            goal if part == "goal" else self._identifier(part, goal, task) for part in self.parts
        ]
        return torch.cat(told, -1) if told else goal[..., :0]

    def _identifier(self, part: str, goal: Tensor, task: Tensor | None) -> Tensor:
        assert task is not None, "a network that is told the task needs its number"
        if part == "one_hot":
            numbers = torch.arange(self.tasks, device=task.device)
            return (task[..., None] == numbers).to(goal.dtype)
        identifier: Tensor = self.embedding(task)
        return identifier


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
        conditioning: Conditioning = Conditioning(),
        layer_norm: bool = False,
        last_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = conditioning.network
        told = conditioning.size(goal)
        self.task_encoder = TaskEncoder(conditioning)
        self.state_encoder: nn.Module = nn.Identity()
        self.goal_encoder: nn.Module = nn.Identity()
        if conditioning.goal_encoder == "separate":
            self.state_encoder = _encoder(state, hidden[0], activation)
            self.goal_encoder = _encoder(told, hidden[0], activation)
            state = told = hidden[0]
        self.trunk: nn.Module
        sizes = [state, *hidden] if self.network == "film" else [state + told, *hidden]
        if self.network == "film":
            self.trunk = FiLM(
                [*sizes, outputs], activation, told=told, layer_norm=layer_norm, last_gain=last_gain
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
        told = self.goal_encoder(self.task_encoder(goal, task))
        outputs: Tensor
        if self.network == "film":
            outputs = self.trunk(state, told)
            return outputs
        outputs = self.trunk(torch.cat([state, told], -1))
        if self.network == "heads":
            assert task is not None, "a network with a head for each task needs its number"
            outputs = self.heads(outputs, task)
        return outputs


def _encoder(inputs: int, outputs: int, activation: str) -> nn.Module:
    return nn.Sequential(MLP([inputs, outputs], activation), ACTIVATIONS[activation]())


class Value(GoalConditioned):
    """V(s, g), or Q(s, a, g) with an action: shape (batch,)."""

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal), (batch, action), task numbers (batch,) to (batch,)."""
        return super().forward(state, goal, action, task).squeeze(-1)


class Ensemble(nn.Module):
    """Several critics of the same shape with weights of their own."""

    def __init__(self, members: Sequence[Value]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal), (batch, action), task numbers (batch,) to (members, batch)."""
        return torch.stack([member(state, goal, action, task) for member in self.members])


class Actor(nn.Module):
    """The mean of a Gaussian policy with unit standard deviation, or a deterministic policy.

    ``squash`` ends in tanh (GoFAR, WGCSL); without it actions are clipped when acting (OGBench).
    """

    def __init__(self, network: GoalConditioned, *, squash: bool) -> None:
        super().__init__()
        self.network, self.squash = network, squash

    def forward(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to the mean action (batch, action)."""
        mean: Tensor = self.network(state, goal, task=task)
        return mean.tanh() if self.squash else mean


def copy_as_target(network: nn.Module) -> nn.Module:
    """A copy that receives no gradient and moves by ``move_targets`` only."""
    target = copy.deepcopy(network)
    target.requires_grad_(False)
    return target


def move_targets(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Target += rate * (source - target), for all parameters in one fused operation."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
