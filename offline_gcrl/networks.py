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


class MLP(nn.Sequential):
    """Linear layers with an activation, and LayerNorm after it where asked for, between them.

    Args:
        sizes: input, hidden and output units.
        activation: a name in ``ACTIVATIONS``.
        layer_norm: whether hidden layers are normalised.
        last_gain: factor on the initial weights of the last layer.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str,
        *,
        layer_norm: bool = False,
        last_gain: float = 1.0,
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
        super().__init__(*layers[: last + 1])


class GoalConditioned(nn.Module):
    """A function of (s, g) or of (s, g, a), with the encoder of universal value functions.

    ``concatenate`` feeds [s, g, a] to one network; ``separate`` encodes the state (with the action) and
    the goal by a layer each first (Schaul et al. 2015, figure 1, the two-stream architecture).
    """

    def __init__(
        self,
        state: int,
        goal: int,
        outputs: int,
        hidden: Sequence[int],
        activation: str,
        *,
        goal_encoder: str = "concatenate",
        layer_norm: bool = False,
        last_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.state_encoder: nn.Module = nn.Identity()
        self.goal_encoder: nn.Module = nn.Identity()
        inputs = state + goal
        if goal_encoder == "separate":
            encoded = hidden[0]
            self.state_encoder = nn.Sequential(
                MLP([state, encoded], activation), ACTIVATIONS[activation]()
            )
            self.goal_encoder = nn.Sequential(
                MLP([goal, encoded], activation), ACTIVATIONS[activation]()
            )
            inputs = 2 * encoded
        self.trunk = MLP(
            [inputs, *hidden, outputs], activation, layer_norm=layer_norm, last_gain=last_gain
        )

    def forward(self, state: Tensor, goal: Tensor, action: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal), (batch, action) to (batch, outputs)."""
        if action is not None:
            state = torch.cat([state, action], -1)
        encoded: Tensor = self.trunk(
            torch.cat([self.state_encoder(state), self.goal_encoder(goal)], -1)
        )
        return encoded


class Value(GoalConditioned):
    """V(s, g), or Q(s, a, g) with an action: shape (batch,)."""

    def forward(self, state: Tensor, goal: Tensor, action: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal), (batch, action) to (batch,)."""
        return super().forward(state, goal, action).squeeze(-1)


class Ensemble(nn.Module):
    """Several critics of the same shape with weights of their own."""

    def __init__(self, members: Sequence[Value]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, state: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        """(batch, state), (batch, goal), (batch, action) to (members, batch)."""
        return torch.stack([member(state, goal, action) for member in self.members])


class Conditioning(nn.Module):
    """What a policy is told of its task: the goal, a one-hot task identifier, or both."""

    def __init__(self, kind: str, dimensions: Dimensions) -> None:
        super().__init__()
        self.kind, self.tasks = kind, dimensions.tasks
        sizes = {"goal": dimensions.goal, "one_hot": dimensions.tasks}
        self.size = sum(sizes[part] for part in kind.split("+"))

    def forward(self, goal: Tensor, task: Tensor) -> Tensor:
        """(batch, goal) and task numbers (batch,) to (batch, size)."""
        if self.kind == "goal":
            return goal
        identifier = nn.functional.one_hot(task, self.tasks).to(goal.dtype)
        return identifier if self.kind == "one_hot" else torch.cat([goal, identifier], -1)


class Actor(nn.Module):
    """The mean of a Gaussian policy with unit standard deviation, or a deterministic policy.

    ``squash`` ends in tanh (GoFAR, WGCSL); without it actions are clipped when acting (OGBench).
    """

    def __init__(
        self, network: GoalConditioned, *, squash: bool, conditioning: Conditioning | None = None
    ) -> None:
        super().__init__()
        self.network, self.squash, self.conditioning = network, squash, conditioning

    def forward(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to the mean action (batch, action)."""
        if self.conditioning is not None:
            assert task is not None, "a policy conditioned on tasks needs the number of the task"
            goal = self.conditioning(goal, task)
        mean: Tensor = self.network(state, goal)
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
