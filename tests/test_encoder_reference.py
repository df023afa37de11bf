"""The encoder and the random crop are those of OGBench: the same numbers, without JAX."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from offline_gcrl.networks.encoders import ImageEncoder, ImageEncoding
from offline_gcrl.training.batches.seen import shifted

REFERENCE = Path(__file__).parent / "references/impala-small.npz"
PADDING = 3


def wave(shape: tuple[int, ...], number: int, scale: float) -> NDArray[np.float64]:
    """Weights by a formula, as those of the reference."""
    index = np.arange(np.prod(shape), dtype=np.float64)
    angle = (0.37 + 0.011 * number) * index * index % 1009 + number
    return (scale * np.sin(angle)).reshape(shape)


def images() -> NDArray[np.uint8]:
    """Two images of six channels, by a formula."""
    values = np.arange(2 * 64 * 64 * 6, dtype=np.int64) ** 2 // 97 % 256
    return values.astype(np.uint8).reshape(2, 64, 64, 6)


def layers_of(encoder: ImageEncoder) -> list[Any]:
    """Convolutions in the order of the forward pass, and the layer of 512 features."""
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    return [module for module in encoder.modules() if isinstance(module, kinds)]


def as_kernel(weight: torch.Tensor) -> torch.Tensor:
    """A weight with the axes of Flax: (height, width, inputs, outputs), or (inputs, outputs)."""
    return weight.permute(2, 3, 1, 0) if weight.ndim == 4 else weight.T


@pytest.mark.parametrize(("precision", "largest"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_impala_small_has_the_outputs_and_gradients_of_ogbench_s_encoder(
    precision: torch.dtype, largest: float
) -> None:
    encoder = ImageEncoding((64, 64, 3), "impala_small").network(images=2).to(precision)
    with torch.no_grad():
        for number, layer in enumerate(layers_of(encoder)):
            kernel = as_kernel(layer.weight)
            scale = np.sqrt(3 / np.prod(kernel.shape[:-1]))
            kernel.copy_(torch.from_numpy(wave(tuple(kernel.shape), 2 * number, scale)))
            layer.bias.copy_(torch.from_numpy(wave(tuple(layer.bias.shape), 2 * number + 1, 0.1)))
    outputs = encoder(torch.from_numpy(images()).to(precision) / 255)
    (outputs * torch.from_numpy(wave((2, 512), 99, 1.0)).to(precision)).sum().backward()
    with np.load(REFERENCE) as expected:
        assert np.abs(outputs.detach().numpy() - expected["outputs"]).max() <= largest
        for number, layer in enumerate(layers_of(encoder)):
            kernel, bias = as_kernel(layer.weight.grad), layer.bias.grad
            found = {f"kernel_{number}": kernel.reshape(-1, kernel.shape[-1]).sum(0)}
            found |= {f"bias_{number}": bias} | ({"first": kernel} if number == 0 else {})
            for name, gradient in found.items():
                wanted = expected[f"gradients/{name}"]
                difference = np.abs(gradient.numpy() - wanted).max()
                assert difference <= largest * np.abs(wanted).max(), name


def test_every_crop_is_a_part_of_the_image_with_its_edges_repeated_three_times() -> None:
    image = images()[0, :, :, :3]
    padded = np.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="edge")
    corners = np.stack(np.meshgrid(*[np.arange(2 * PADDING + 1)] * 2), -1).reshape(-1, 2)
    frames = torch.from_numpy(image.reshape(1, -1)).repeat(len(corners), 1)
    moved = shifted(frames, image.shape, torch.from_numpy(corners - PADDING)).numpy()  # type: ignore[arg-type]
    for (down, right), crop in zip(corners, moved.reshape(-1, *image.shape), strict=True):
        assert np.array_equal(crop, padded[down : down + 64, right : right + 64])
