"""The deep image prior: an image is what an untrained convolutional network makes of fixed noise."""

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

CHANNELS, STAGES = 32, 3


class DeepImagePrior(Prior):
    """Searches the weights of a small decoder network for each victim, instead of pixels.

    Such a network makes images sooner than noise (Ulyanov et al., CVPR 2018). This one is the deep decoder (Heckel &
    Hand, ICLR 2019): at each of STAGES scales channels are mixed, enlarged twofold, rectified and normalised, and a
    sigmoid ends in the range of pixels. It is small enough to need no early stop, and its layers are products of
    matrices, so that all victims' networks are computed at once. λ weighs total variation.
    """

    name = "deep_image"
    of_pixels = False
    step = 0.3

    def prepare(
        self, knowledge: Knowledge, generator: torch.Generator, report: Progress = lambda fraction: None
    ) -> None:
        self._spec = knowledge.input_spec
        channels, *sizes = self._spec.shape
        self._sizes = [math.ceil(size / 2**STAGES) for size in sizes]
        self._noise = torch.randn(CHANNELS, *self._sizes, generator=generator)
        count = CHANNELS * (STAGES * CHANNELS + channels)
        self._weights = torch.randn(count, generator=generator) / CHANNELS**0.5

    def begin(self, activations: Tensor, spec: TensorSpec) -> Tensor:
        begun: Tensor = self._weights.to(activations).repeat(len(activations), 1)
        return begun

    def images(self, variables: Tensor) -> Tensor:
        channels, *sizes = self._spec.shape
        features = self._noise.to(variables).expand(len(variables), *self._noise.shape)
        *mixing, last = variables.split([CHANNELS**2] * STAGES + [CHANNELS * channels], dim=1)
        for weights in mixing:
            features = _mixed(features, weights.unflatten(1, (CHANNELS, CHANNELS)))
            features = interpolate(features, scale_factor=2, mode="bilinear" if len(sizes) == 2 else "linear").relu()
            places = tuple(range(2, features.ndim))
            centred = features - features.mean(places, keepdim=True)
            features = centred / (centred.square().mean(places, keepdim=True) + 1e-5).sqrt()
        found = _mixed(features, last.unflatten(1, (channels, CHANNELS))).sigmoid()
        for dimension, size in enumerate(sizes, start=2):
            found = found.narrow(dimension, (found.shape[dimension] - size) // 2, size)
        low, high = value_range(self._spec)
        images: Tensor = low + (high - low) * found
        return images

    def penalty(self, images: Tensor, begun: Tensor) -> Tensor:
        return total_variation(images)


def _mixed(features: Tensor, weights: Tensor) -> Tensor:
    """Each victim's channels mixed by a matrix of its own: (N, C, …) and (N, D, C) → (N, D, …)."""
    mixed: Tensor = weights @ features.flatten(2)
    return mixed.reshape(len(mixed), -1, *features.shape[2:])
