"""A decoder from activations back to inputs, images or series, generated for any pair of shapes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from split_models.tensor_spec import TensorSpec

CONVOLUTIONS: dict[int, tuple[type[nn.Module], type[nn.Module]]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
}
"""By how many dimensions an input has behind its channels."""


MOSTLY_CONSTANT = 0.1
"""Which share of activations' energy varies at most where nearly all that a decoder is shown is always the same."""

ROUNDING = 1e-10
"""Which share of it varies at least, or there is nothing in it but what single precision rounds off."""

CAPACITIES = ("linear", "plain", "residual")
"""From weak to strong: one linear filter; convolutions with ReLU; these with normalisation and residual blocks."""


class InputDecoder(nn.Module):
    """Activations (N, *activation.shape) → inputs (N, C, H, W) or (N, C, L); in [0, 1] but for the linear one.

    A transposed convolution grows the feature map to the size from which doublings end at the input's size (a
    surplus at the edges is cropped). Tokens (T, D) of an image that divide its sides alike are laid out as the map
    (D, h, w); whatever else is no feature map of the input's kind first passes a linear layer. The same generator
    serves attackers (inverse networks) and defenders (proxy adversaries). `capacity` is one of CAPACITIES.
    """

    shift: Tensor  # (*activation.shape,)
    scale: Tensor

    def __init__(self, activation: TensorSpec, inputs: TensorSpec, width: int = 64, capacity: str = "plain") -> None:
        super().__init__()
        channels, *sizes = inputs.shape if inputs.shape else (0,)
        if len(sizes) not in CONVOLUTIONS or not activation.shape:
            raise ValueError(
                f"expected an activation of at least one dimension and (C, L) or (C, H, W) inputs, "
                f"got {activation.shape} and {inputs.shape}"
            )
        self.activation, self.inputs = activation, inputs
        convolution, _ = CONVOLUTIONS[len(sizes)]
        stages: list[nn.Module] = []
        grid = activation.shape
        if tokens := token_grid(activation.shape, inputs.shape):
            grid = (activation.shape[1], *tokens)
            stages += [_Transpose(), nn.Unflatten(2, tokens)]
        elif len(grid) != len(inputs.shape):
            grid = (width, *(math.ceil(size / 4) for size in sizes))
            flat = [nn.Flatten()] if len(activation.shape) > 1 else []
            stages += [*flat, nn.Linear(activation.elements, math.prod(grid)), nn.ReLU(), nn.Unflatten(1, grid)]
        if capacity == "linear":
            stages = [stage for stage in stages if not isinstance(stage, nn.ReLU)] + _filter(grid, sizes, channels)
        else:
            stages += _grow(grid, sizes, width)
            stages += [_Residual(convolution, width) for _ in range(2)] if capacity == "residual" else []
            stages += [convolution(width, channels, 3, padding=1), nn.Sigmoid()]
        self.layers = nn.Sequential(*stages)
        self.register_buffer("shift", torch.zeros(activation.shape))
        self.register_buffer("scale", torch.ones(()))

    def calibrate(self, activations: Tensor, inputs: Tensor | None = None) -> None:
        """Divide activations by their root mean square from now on, so one learning rate fits every cut.

        Where they are nearly all one constant, as behind a large fixed mask, that is taken off before.

        Given inputs (N, *inputs.shape), begin with the mean of each channel. Otherwise all pixels are first driven
        towards it, and on dark images so far into the flat part of the sigmoid that nothing is learnt any more.
        """
        energy = activations.square().mean()
        varies = activations.var(0, correction=0).mean()
        self.shift = torch.zeros_like(self.shift)
        if ROUNDING * energy < varies < MOSTLY_CONSTANT * energy:
            self.shift = activations.amin(0)  # not the mean: behind a ReLU, what was 0 is 0 again
            energy = (activations - self.shift).square().mean()
        self.scale = energy.sqrt().clamp_min(1e-12)
        if inputs is not None:
            last = [layer for layer in self.layers if isinstance(layer, nn.Conv1d | nn.Conv2d)][-1]
            begin_with_means(last, inputs, squashed=isinstance(self.layers[-1], nn.Sigmoid))

    def forward(self, activations: Tensor) -> Tensor:
        found: Tensor = self.layers((activations - self.shift) / self.scale)
        for dimension, size in enumerate(self.inputs.shape[1:], start=2):
            found = found.narrow(dimension, (found.shape[dimension] - size) // 2, size)
        return found


def begin_with_means(last: nn.Conv1d | nn.Conv2d, inputs: Tensor, squashed: bool) -> None:
    """Set a decoder's last bias so that it begins with the mean of each channel of inputs (N, C, ...).

    Args:
        squashed: a sigmoid follows.
    """
    means = inputs.transpose(0, 1).flatten(1).mean(1)
    if squashed:
        means = means.clamp(0.01, 0.99).logit()
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(means)


class _Transpose(nn.Module):
    """(N, T, D) → (N, D, T)."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2)


def token_grid(activation: tuple[int, ...], inputs: tuple[int, ...]) -> tuple[int, int] | None:
    """How many tokens (T, D) there are along each side of an image, if they are one a square patch."""
    if len(activation) != 2 or len(inputs) != 3:
        return None
    _, height, width = inputs
    patch = math.isqrt(height * width // activation[0]) or 1
    grid = (height // patch, width // patch)
    return grid if grid[0] * grid[1] == activation[0] else None


class _Residual(nn.Module):
    """x + f(x) with two normalised convolutions, (N, width, *sizes) → the same shape.

    Instances are normalised, not batches, so that a victim's input does not depend on its neighbours.
    """

    def __init__(self, convolution: type[nn.Module], width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.GroupNorm(1, width), convolution(width, width, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.GroupNorm(1, width), convolution(width, width, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = features + self.layers(features)
        return found


def _start(grid: tuple[int, ...], target: list[int]) -> tuple[int, list[int]]:
    """How many doublings lead to the target, and from which sizes."""
    sizes = grid[1:]
    doublings = max(0, min(int(math.log2(max(goal / size, 1))) for goal, size in zip(target, sizes, strict=True)))
    return doublings, [math.ceil(goal / 2**doublings) for goal in target]


def _filter(grid: tuple[int, ...], target: list[int], channels: int) -> list[nn.Module]:
    """One linear filter from (channels, *sizes) to (channels, *at least the target's), behind a plain enlargement."""
    convolution, _ = CONVOLUTIONS[len(target)]
    doublings, starts = _start(grid, target)
    short = [max(start - size, 0) * 2**doublings for start, size in zip(starts, grid[1:], strict=True)]
    padding = tuple(4 + math.ceil(missing / 2) for missing in short)
    return [nn.Upsample(scale_factor=2**doublings), convolution(grid[0], channels, 9, padding=padding)]


def _grow(grid: tuple[int, ...], target: list[int], width: int) -> list[nn.Module]:
    """Layers from a (channels, *sizes) feature map to (width, *at least the target's sizes)."""
    convolution, transposed = CONVOLUTIONS[len(target)]
    channels, *sizes = grid
    doublings, starts = _start(grid, target)
    kernel = tuple(max(start - size, 0) + 1 for start, size in zip(starts, sizes, strict=True))
    layers: list[nn.Module] = [transposed(channels, width, kernel), nn.ReLU()]
    for _ in range(doublings):
        layers += [transposed(width, width, 4, stride=2, padding=1), nn.ReLU()]
    return [*layers, convolution(width, width, 3, padding=1), nn.ReLU()]
