"""A pyramid of pixels: coarse shapes and fine detail are variables of their own, each found at its own pace."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from attacks.attack import Progress
from attacks.inversion.priors.prior import Prior, value_range
from attacks.inversion.priors.smoothness import total_variation
from attacks.knowledge import Knowledge
from split_models.tensor_spec import TensorSpec

LEVELS = 4


class Pyramid(Prior):
    """Searches the sum of images of several sizes, each half as large as the one before, instead of pixels.

    Every image can be written so; what changes is the way a search takes. One step of a coarse level moves many
    pixels together, where gradients with respect to single pixels say little: behind pooling and saturated units. A
    sigmoid ends in the range of pixels. λ weighs total variation.
    """

    name = "pyramid"
    of_pixels = False
    step = 1.0

    def prepare(
        self, knowledge: Knowledge, generator: torch.Generator, report: Progress = lambda fraction: None
    ) -> None:
        self._spec = knowledge.input_spec
        channels, *sizes = self._spec.shape
        levels = range(LEVELS if sizes else 1)  # a row of features has no neighbours
        self._shapes = [(channels, *(math.ceil(size / 2**level) for size in sizes)) for level in levels]

    def begin(self, activations: Tensor, spec: TensorSpec) -> Tensor:
        return activations.new_zeros(len(activations), sum(math.prod(shape) for shape in self._shapes))

    def images(self, variables: Tensor) -> Tensor:
        levels = variables.split([math.prod(shape) for shape in self._shapes], dim=1)
        sizes = self._shapes[0][1:]
        mode = "bilinear" if len(sizes) == 2 else "linear"
        total = levels[0].unflatten(1, self._shapes[0])
        for level, shape in zip(levels[1:], self._shapes[1:], strict=True):
            total = total + interpolate(level.unflatten(1, shape), size=sizes, mode=mode)
        low, high = value_range(self._spec)
        found: Tensor = low + (high - low) * total.sigmoid()
        return found

    def penalty(self, images: Tensor, begun: Tensor) -> Tensor:
        return total_variation(images)
