"""Multilayer perceptrons and their activations."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

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


class ReLU(nn.ReLU):
    """ReLU, whose gradient in a compiled loss is computed from the output.

    torch's compiler would store which inputs are negative as Booleans, and storing these takes six times as long as the
    function itself. The output is stored in any case, as the input of the next layer.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape to the same."""
        if torch.compiler.is_dynamo_compiling() and torch.is_grad_enabled():
            outputs: Tensor = GradientFromOutput.apply(inputs)  # type: ignore[no-untyped-call]
            return outputs
        return super().forward(inputs)


class GradientFromOutput(torch.autograd.Function):
    """ReLU with the gradient g sign(relu(x)), which is torch's, and which has a gradient itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: Tensor) -> Tensor:
        """Any shape to the same."""
        return inputs.relu()

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep the output."""
        context.save_for_backward(output)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """The gradient of the output, of any shape, to that of the input."""
        output: Tensor = context.saved_tensors[0]
        return gradient * output.sign()


LAYER_NORM_EPSILON = 1.0e-6
"""Epsilon of LayerNorm in flax, and so in OGBench's agents; torch's default is 1e-5."""
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": ReLU, "gelu": GELU, "tanh": nn.Tanh}


class MLP(nn.Sequential):
    """Linear layers with an activation after each hidden layer, and optionally LayerNorm after the activation.

    Args:
        sizes: input, hidden and output units.
        activation: a name in ``ACTIVATIONS``.
        layer_norm: whether hidden layers are normalised.
        last_gain: factor on the initial weights of the last layer.
        ends_hidden: whether the last layer is a hidden layer too, followed by activation and LayerNorm.
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
                layers.append(nn.LayerNorm(outputs, eps=LAYER_NORM_EPSILON))
        last = max(index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear))
        with torch.no_grad():
            layers[last].get_parameter("weight").mul_(last_gain)
        super().__init__(*(layers if ends_hidden else layers[: last + 1]))
