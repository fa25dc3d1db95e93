"""Layers that several networks of the zoo share."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from split_models.tensor_spec import TensorSpec

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Shift and scale each channel: (N, C, H, W) in [0, 1] → (x − mean) / std, same shape.

    It is a layer of the network, so that an attacker who inverts a head recovers the image itself.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def flat_features(convolutions: OrderedDict[str, nn.Module], input_spec: TensorSpec, least_side: int) -> int:
    """How many features `convolutions` leave of one input once flattened.

    Raises:
        ValueError: the input is smaller than the convolutions need.
    """
    if min(input_spec.shape[1:]) < least_side:
        raise ValueError(
            f"expected images of at least {least_side}x{least_side} pixels, "
            f"got {input_spec.shape[1]}x{input_spec.shape[2]}; resize them or choose another model"
        )
    with torch.no_grad():
        return int(nn.Sequential(convolutions)(torch.zeros(1, *input_spec.shape)).numel())
