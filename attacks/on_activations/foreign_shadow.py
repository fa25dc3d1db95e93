"""Query-free inversion without the head's layers: a shadow of the attacker's own design (He et al. 2019, 4.3)."""

from __future__ import annotations

import math

import torch
from torch import nn

from attacks.knowledge import Capability, Knowledge
from attacks.on_activations.aligned_shadow import AlignedShadow
from split_models.randomness import layers_from

WIDTH = 16

LAYERS: dict[int, tuple[type[nn.Module], type[nn.Module], type[nn.Module]]] = {
    1: (nn.Conv1d, nn.MaxPool1d, nn.AdaptiveAvgPool1d),
    2: (nn.Conv2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d),
}
"""By how many dimensions an input has behind its channels."""


class ForeignShadow(AlignedShadow):
    """Knows the tail and labelled images; of the head only its output's shape, and whether it is ever negative.

    Its shadow has pairs of convolutions over 3 or 3×3 with pools between them, as many as the shape tells of.
    """

    name = "foreign_shadow"
    requires = frozenset({Capability.TAIL, Capability.AUXILIARY})

    def _untrained(self, knowledge: Knowledge, generator: torch.Generator) -> nn.Module:
        image, goal = knowledge.input_spec.shape, knowledge.activation_spec.shape
        with layers_from(generator):
            alike = len(image) == len(goal) and len(image) - 1 in LAYERS
            layers = _stages(image, goal) if alike else _perceptron(image, goal)
        return nn.Sequential(*layers, *([nn.ReLU()] if self._nonnegative else []))


def _stages(image: tuple[int, ...], goal: tuple[int, ...]) -> list[nn.Module]:
    """Pairs of convolutions with a pool between pairs; unpadded as long as the missing border tells of that."""
    convolution, pool, fit = LAYERS[len(image) - 1]
    sizes = list(zip(image[1:], goal[1:], strict=True))
    pools = max(0, int(math.log2(max(1, min(size / wanted for size, wanted in sizes)))))
    border = min(size - wanted * 2**pools for size, wanted in sizes)  # in pixels of the image
    layers: list[nn.Module] = []
    channels = image[0]
    for stage in range(pools + 1):
        layers += [pool(2)] if stage else []
        for last in (False, True):
            width = goal[0] if last and stage == pools else WIDTH
            unpadded = border >= 2 * 2**stage
            border -= 2 * 2**stage if unpadded else 0
            layers += [convolution(channels, width, 3, padding=0 if unpadded else 1), nn.ReLU()]
            channels = width
    return [*layers[:-1], fit(goal[1:])]


def _perceptron(inputs: tuple[int, ...], goal: tuple[int, ...]) -> list[nn.Module]:
    """For whatever is no feature map of the input's kind."""
    hidden = 2 * WIDTH
    layers = [nn.Flatten(), nn.Linear(math.prod(inputs), hidden), nn.ReLU(), nn.Linear(hidden, math.prod(goal))]
    return [*layers, nn.Unflatten(1, goal)]
