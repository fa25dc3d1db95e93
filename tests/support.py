"""Small networks, images and knowledge that several tests share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from attacks.attack import ActivationAttack, AttackSettings
from attacks.knowledge import Auxiliary, Knowledge, KnownDefense, Observation
from attacks.reading import Reading
from split_models.randomness import generator_for, layers_from
from split_models.split_model import SplitModel, cut_names, output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.zoo import build

CLASSES = 4
SMALLEST_SIDE = {"lenet": 16, "titcombe": 6}  # other networks get 8
CONFORMING = ("lenet", "sixconv", "ecg")
"""On which networks every attack and every defense is tried at every cut: images and series."""
WITH_BRANCHES = (("resnet18", 3, "block11.relu2"), ("mobilenet", 1, "block2.expand.relu"), ("vit", 1, "block1"))
"""Cuts of networks with branches where they are tried as well; the last one sends tokens."""


def image_spec(name: str, channels: int) -> TensorSpec:
    """The smallest images that a network of the zoo takes, or short series."""
    if name.startswith("ecg"):
        return TensorSpec((channels, 32), low=0.0, high=1.0)
    side = SMALLEST_SIDE.get(name, 8)
    return TensorSpec((channels, side, side), low=0.0, high=1.0)


@cache
def network(name: str, channels: int) -> nn.Module:
    """An untrained network of the zoo in eval mode, always the same."""
    with layers_from(generator_for(3, name, channels)):
        return build(name, image_spec(name, channels), CLASSES).eval()


EVERY_CUT = [
    (name, channels, cut)
    for name in CONFORMING
    for channels in (1, 3)
    for cut in cut_names(build(name, image_spec(name, channels), 2))
] + [*WITH_BRANCHES]


def smooth_images(count: int, spec: TensorSpec, seed: int = 0) -> Tensor:
    """Pictures (N, C, H, W), or series (N, C, L), in [0, 1] without sharp edges."""
    sizes = spec.shape[1:]
    coarse = torch.rand(count, spec.shape[0], *[4] * len(sizes), generator=torch.Generator().manual_seed(seed))
    return interpolate(coarse, size=sizes, mode="bilinear" if len(sizes) == 2 else "linear")


@dataclass
class Query:
    """An owner's answers to an attacker, counted."""

    head: Callable[[Tensor], Tensor]
    protect: Callable[[Tensor], Tensor] = lambda activations: activations
    asked: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        with torch.no_grad():
            return self.protect(self.head(images))


@dataclass
class Stage:
    """A split network with everything that a threat model can grant."""

    model: nn.Module
    cut: str
    spec: TensorSpec
    auxiliary: Auxiliary
    query_budget: int = 1000
    repeats: int = 1
    protect: Callable[[Tensor], Tensor] = lambda activations: activations
    parts: SplitModel = field(init=False)
    query: Query = field(init=False)

    def __post_init__(self) -> None:
        self.parts = split(self.model, self.cut)
        self.query = Query(self.parts.head, self.protect)

    def observed(self, images: Tensor) -> Tensor:
        """What the server decodes for private images."""
        with torch.no_grad():
            return self.protect(self.parts.head(images))

    def knowledge(self) -> Knowledge:
        """Every capability at once."""
        return Knowledge(
            input_spec=self.spec,
            activation_spec=output_spec(self.parts.head, self.spec),
            head=self.parts.head,
            fresh_head=self._fresh_head,
            defense=KnownDefense(lambda images, generator: images, lambda sent, generator: self.protect(sent)),
            query=self.query,
            query_budget=self.query_budget,
            tail=self.parts.tail,
            auxiliary=self.auxiliary,
            repeats=self.repeats,
        )

    def _fresh_head(self, generator: torch.Generator) -> nn.Module:
        def anew(layer: nn.Module) -> None:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()

        head = copy.deepcopy(self.parts.head).requires_grad_(True)
        with layers_from(generator):
            return head.apply(anew)


def small_stage(name: str, channels: int, cut: str, **options: Any) -> Stage:
    """An untrained network of the zoo with a handful of auxiliary images."""
    spec = image_spec(name, channels)
    labels = torch.arange(8) % CLASSES
    shade = {"shade": (torch.arange(8) % 3), "corner": torch.arange(8) % 2}
    held_out = {name: values[:4] for name, values in shade.items()}
    auxiliary = Auxiliary(smooth_images(8, spec, 1), labels, smooth_images(4, spec, 2), labels[:4], shade, held_out)
    return Stage(network(name, channels), cut, spec, auxiliary, **options)


def fast(attack: type[ActivationAttack]) -> ActivationAttack:
    """An attack with two of whatever it counts, found by the names of its settings; with ten steps of a search.

    The first steps away from a flat image may all be worse than that image, and the best is what a search keeps.
    """
    return attack(few(attack.Settings))


def few(settings: type[AttackSettings], **others: Any) -> AttackSettings:
    """Settings with two of whatever they count, and ten steps of a search."""
    counted = ("iterations", "epochs", "steps", "rounds", "restarts")
    names = [name for name in settings.model_fields if name.endswith(counted)]
    return settings(**{name: 10 if name == "iterations" else 2 for name in names}, **others)


def fast_reading(reading: type[Reading], secret: str = "label") -> Reading:
    """A reading with two of whatever it counts."""
    return reading(few(reading.Settings, secret=secret))


def run_attack(attack: ActivationAttack, knowledge: Knowledge, activations: Tensor, seed: int = 0) -> Tensor:
    """Prepare and reconstruct with one generator."""
    attack.prepare(knowledge, torch.Generator().manual_seed(seed))
    return attack.reconstruct(Observation(activations))
