"""A decoder from activations back to images, generated for any pair of shapes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from split_models.tensor_spec import TensorSpec


class ImageDecoder(nn.Module):
    """Activations (N, *activation.shape) → images (N, C, H, W) in [0, 1].

    A transposed convolution grows the feature map to the size from which doublings end at the image's size (a
    surplus of rows and columns is cropped); flat activations first pass a linear layer. The same generator serves
    attackers (inverse networks) and defenders (proxy adversaries).
    """

    def __init__(self, activation: TensorSpec, image: TensorSpec, width: int = 64) -> None:
        super().__init__()
        if len(image.shape) != 3 or len(activation.shape) not in (1, 3):
            raise ValueError(
                f"expected a flat or (C, H, W) activation and a (C, H, W) image, "
                f"got {activation.shape} and {image.shape}"
            )
        self.activation, self.image = activation, image
        channels, height, width_px = image.shape
        stages: list[nn.Module] = []
        if len(activation.shape) == 1:
            grid = (width, math.ceil(height / 4), math.ceil(width_px / 4))
            stages += [nn.Linear(activation.elements, math.prod(grid)), nn.ReLU(), nn.Unflatten(1, grid)]
        else:
            grid = activation.shape  # type: ignore[assignment]
        stages += _grow(grid, (height, width_px), width)
        stages += [nn.Conv2d(width, channels, 3, padding=1), nn.Sigmoid()]
        self.layers = nn.Sequential(*stages)
        self.register_buffer("scale", torch.ones(()))

    def calibrate(self, activations: Tensor) -> None:
        """Divide activations by their root mean square from now on, so one learning rate fits every cut."""
        self.scale = activations.square().mean().sqrt().clamp_min(1e-12)

    def forward(self, activations: Tensor) -> Tensor:
        _, height, width = self.image.shape
        images: Tensor = self.layers(activations / self.scale)
        top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
        return images[..., top : top + height, left : left + width]


def _grow(grid: tuple[int, int, int], target: tuple[int, int], width: int) -> list[nn.Module]:
    """Layers from a (channels, h, w) feature map to (width, ≥H, ≥W)."""
    channels, *sizes = grid
    doublings = max(0, min(int(math.log2(max(goal / size, 1))) for goal, size in zip(target, sizes, strict=True)))
    starts = [math.ceil(goal / 2**doublings) for goal in target]
    kernel: tuple[int, ...] = tuple(max(start - size, 0) + 1 for start, size in zip(starts, sizes, strict=True))
    layers: list[nn.Module] = [nn.ConvTranspose2d(channels, width, (kernel[0], kernel[1])), nn.ReLU()]
    for _ in range(doublings):
        layers += [nn.ConvTranspose2d(width, width, 4, stride=2, padding=1), nn.ReLU()]
    return [*layers, nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
