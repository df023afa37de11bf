"""Soft Modularization: layers of modules whose outputs are weighted by the task and the state."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offline_gcrl.config import Modular
from offline_gcrl.networks.mlp import ACTIVATIONS, LAYER_NORM_EPSILON, MLP

ROUTER_GAIN = 0.01
"""Gain of the initial weights of routing logits, so that all modules have nearly the same weight at first. The released
code draws these weights from [-0.003, 0.003]."""


class ModuleLayer(nn.Module):
    """Linear layers of the same shape, each on its own input."""

    def __init__(self, modules: int, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        bound = gain * math.sqrt(6.0 / (inputs + outputs))  # Xavier's, for each layer.
        self.weight = nn.Parameter(torch.empty(modules, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(modules, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, modules, inputs), or (batch, 1, inputs) for one input of all, to (batch, modules, outputs)."""
        outputs: Tensor = torch.einsum("...mi,mio->...mo", inputs, self.weight) + self.bias
        return outputs


class SoftModules(nn.Module):
    """Layers of modules, and a routing network that weights them (Soft Modularization; Yang et al., NeurIPS 2020).

    With f a function of the input, h_0 = activation(f), and z the task identifier, the first modules are
    m_0j = M_0j h_0, and those of the next layer m_{l+1,j} = M_{l+1,j} activation(sum_i w_l[j, i] m_l,i). The output is
    linear in activation(sum_i w_last[i] m_last,i). The weights of each sum are a softmax of logits that depend on
    f and z, and on the weights of earlier layers.

    Args:
        sizes: units of the input and of the layers of f.
        outputs: units of the output.
        activation: a name in ``ACTIVATIONS``.
        identifier: size of z.
        shape: numbers of layers and modules, and their units.
        layer_norm: whether hidden layers are normalised, modules included.
        last_gain: factor on the initial weights of the output layer.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        outputs: int,
        activation: str,
        *,
        identifier: int,
        shape: Modular,
        layer_norm: bool = False,
        last_gain: float = 1.0,
    ) -> None:
        super().__init__()
        features, count = sizes[-1], shape.modules
        width, router = shape.width or features, shape.router_width or features
        self.count, self.activation = count, ACTIVATIONS[activation]()
        self.base = MLP(sizes, activation, layer_norm=layer_norm)
        self.task = MLP([identifier, features], activation)
        self.gates = MLP([features, router, router], activation)
        self.conditions = nn.ModuleList(
            MLP([layer * count**2, router], activation) for layer in range(1, shape.layers)
        )
        destinations = [count] * (shape.layers - 1) + [1]
        self.logits = nn.ModuleList(
            MLP([router, number * count], activation, last_gain=ROUTER_GAIN)
            for number in destinations
        )
        self.layers = nn.ModuleList(
            [
                ModuleLayer(count, features, width),
                *(ModuleLayer(count, width, width) for _ in range(1, shape.layers)),
                ModuleLayer(1, width, outputs, last_gain),
            ]
        )
        units = [features, *[width] * shape.layers]
        self.norms = nn.ModuleList(
            nn.LayerNorm(size, eps=LAYER_NORM_EPSILON) if layer_norm else nn.Identity()
            for size in units
        )

    def forward(self, inputs: Tensor, identifier: Tensor) -> Tensor:
        """(batch, inputs) and task identifiers (batch, identifier) to (batch, outputs)."""
        features = self.base(inputs)
        first, *later = zip(self.layers, self.norms, strict=True)
        outputs: Tensor = first[0](first[1](self.activation(features))[..., None, :])
        for weights, (layer, norm) in zip(self.weights(features, identifier), later, strict=True):
            outputs = layer(norm(self.activation(weights @ outputs)))
        return outputs.squeeze(-2)

    def routing(self, inputs: Tensor, identifier: Tensor) -> list[Tensor]:
        """The weights of each sum for the inputs of ``forward``, by layer: (batch, destinations, sources).

        The destinations of the last layer are the output alone.
        """
        return self.weights(self.base(inputs), identifier)

    def weights(self, features: Tensor, identifier: Tensor) -> list[Tensor]:
        """The same for the features f, (batch, features)."""
        routed = self.gates(self.activation(self.task(identifier) * features))
        found: list[Tensor] = []
        for layer, logits in enumerate(self.logits):
            conditioned = routed
            if layer > 0:
                earlier = torch.cat([weights.flatten(-2) for weights in found], -1)
                conditioned = self.conditions[layer - 1](earlier) * routed
            scores = logits(self.activation(conditioned))
            found.append(scores.unflatten(-1, (-1, self.count)).softmax(-1))
        return found
