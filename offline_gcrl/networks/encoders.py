"""Encoders: what is observed, or a goal, to the features that the first layer of a network reads.

A vector goes in as it is, or through a hidden layer. An image is encoded by convolutions. It comes as the first numbers
of a vector, height x width x channels values from 0 to 1, which other numbers may follow: the state of a robot, the
embedding of a sentence, or an action.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offline_gcrl.networks.mlp import ACTIVATIONS, MLP

FEATURES = {"small": 128, "impala_small": 512}
"""Default number of features by the name of the encoder."""
SMALL_CHANNELS = (16, 32, 32, 32)
IMPALA_CHANNELS = (16, 32, 32)


@dataclass(frozen=True)
class ImageEncoding:
    """How the images among the inputs of a network are encoded; see ``config.Vision``."""

    shape: tuple[int, int, int]
    """Height, width and channels."""
    encoder: str = "small"
    features: int | None = None
    fusion: str = "early"

    @property
    def pixels(self) -> int:
        """Numbers of an image."""
        return math.prod(self.shape)

    @property
    def outputs(self) -> int:
        """Numbers that an image is encoded as."""
        return self.features or FEATURES[self.encoder]

    def network(self, images: int = 1) -> "ImageEncoder":
        """An encoder of several images at once, which are stacked along the channels."""
        height, width, channels = self.shape
        return ImageEncoder((height, width, channels * images), self.encoder, self.outputs)


def vector_encoder(inputs: int, outputs: int, activation: str) -> nn.Module:
    """A hidden layer: (batch, inputs) to (batch, outputs)."""
    return nn.Sequential(MLP([inputs, outputs], activation), ACTIVATIONS[activation]())


class ImageInputs(nn.Module):
    """Replaces the images among a state and a goal by their features.

    An input that has at least as many numbers as an image starts with one; other inputs go through as they are.
    """

    def __init__(self, encoding: ImageEncoding, state: int, goal: int) -> None:
        super().__init__()
        pixels = self.pixels = encoding.pixels
        self.shape, self.fusion = encoding.shape, encoding.fusion
        self.in_state, self.in_goal = state >= pixels, goal >= pixels
        self.both = self.in_state and self.in_goal
        if self.both and self.fusion == "early":
            self.encoder = encoding.network(images=2)
        elif self.both and self.fusion == "separate":
            self.state_images, self.goal_images = encoding.network(), encoding.network()
        else:
            self.encoder = encoding.network()
        self.state = state + (encoding.outputs - pixels if self.in_state else 0)
        """Size of the state with its features."""
        self.goal = goal + (encoding.outputs - pixels if self.in_goal else 0)
        """Size of the goal with its features."""
        if self.both and self.fusion == "early":
            self.goal -= encoding.outputs

    def forward(self, state: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """(..., state) and (..., goal) to the same with features; with early fusion, all features are in the state."""
        state_image, state_rest = self._parts(state) if self.in_state else (None, state)
        goal_image, goal_rest = self._parts(goal) if self.in_goal else (None, goal)
        if state_image is not None and goal_image is not None and self.fusion == "early":
            features = self.encoder(torch.cat([state_image, goal_image], -1))
            return torch.cat([features, state_rest], -1), goal_rest
        of_state, of_goal = self._encoders()
        if state_image is not None:
            state_rest = torch.cat([of_state(state_image), state_rest], -1)
        if goal_image is not None:
            goal_rest = torch.cat([of_goal(goal_image), goal_rest], -1)
        return state_rest, goal_rest

    def _encoders(self) -> tuple[nn.Module, nn.Module]:
        if self.both and self.fusion == "separate":
            return self.state_images, self.goal_images
        return self.encoder, self.encoder

    def _parts(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The image, (..., height, width, channels), and the numbers that follow it."""
        image = values[..., : self.pixels].reshape(*values.shape[:-1], *self.shape)
        return image, values[..., self.pixels :]


def image_inputs(encoding: ImageEncoding | None, state: int, goal: int) -> ImageInputs | None:
    """The encoders of a network's inputs; None if there is no image among them.

    Args:
        encoding: how images are encoded; None in datasets without images.
        state: size of the state, with the action if there is one.
        goal: size of the goal; 0 if the network does not read it.
    """
    if encoding is None or max(state, goal) < encoding.pixels:
        return None
    return ImageInputs(encoding, state, goal)


class ImageEncoder(nn.Module):
    """Encodes images, (..., height, width, channels) with values from 0 to 1, to (..., features).

    Images have their channels last in memory, as they are stored and as convolutions of a CPU are fastest.
    """

    def __init__(self, shape: tuple[int, int, int], kind: str, features: int) -> None:
        super().__init__()
        self.layers, channels = LAYERS[kind](shape[2])
        with torch.no_grad():
            size = self.layers(torch.zeros(1, shape[2], *shape[:2])).shape[-2:]
        self.dense = MLP([channels * size.numel(), features], "gelu", ends_hidden=True)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images; any number of leading dimensions."""
        lead = images.shape[:-3]
        maps = self.layers(images.reshape(-1, *images.shape[-3:]).permute(0, 3, 1, 2))
        features: Tensor = self.dense(maps.permute(0, 2, 3, 1).flatten(1))
        return features.reshape(*lead, features.shape[-1])


def small_layers(channels: int) -> tuple[nn.Module, int]:
    """Four convolutions 3x3 with stride 2: about an eighth of the operations of ``impala_layers``.

    Returns:
        The layers and the number of their output channels.
    """
    layers: list[nn.Module] = [Centred()]
    for outputs in SMALL_CHANNELS:
        layers += [_convolution(channels, outputs, stride=2), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].get_parameter("weight"), nonlinearity="relu")
        channels = outputs
    return nn.Sequential(*layers), channels


def impala_layers(channels: int) -> tuple[nn.Module, int]:
    """``impala_small`` of OGBench (Park et al., ICLR 2025), after IMPALA (Espeholt et al., ICML 2018); returns as ``small_layers``."""
    layers: list[nn.Module] = []
    for outputs in IMPALA_CHANNELS:
        # Padded on the right and at the bottom only, as JAX pads.
        pool = nn.Sequential(nn.ConstantPad2d((0, 1, 0, 1), -math.inf), nn.MaxPool2d(3, stride=2))
        layers += [_convolution(channels, outputs), pool, Residual(outputs)]
        channels = outputs
    return nn.Sequential(*layers, nn.ReLU()), channels


LAYERS = {"small": small_layers, "impala_small": impala_layers}
"""Convolutions by the name of the encoder."""


class Centred(nn.Module):
    """Values from 0 to 1, moved around 0: without it, the small encoder began to learn later in PointMaze."""

    def forward(self, maps: Tensor) -> Tensor:
        """Any shape to the same."""
        return maps - 0.5


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), (batch, channels, height, width) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (_convolution(channels, channels) for _ in range(2))

    def forward(self, maps: Tensor) -> Tensor:
        """The sum of the input and its transformation."""
        change: Tensor = self.second(self.first(maps.relu()).relu())
        return maps + change


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
