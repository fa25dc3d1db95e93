"""Decoders from activations to inputs: a ladder of capacities, trained on pairs, the best on validation pairs kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from attacks.attack import Progress
from attacks.knowledge import Knowledge
from split_models.input_decoder import InputDecoder
from split_models.randomness import layers_from
from split_models.training import minimise_to_best

STARTS = 3
"""How often a network is begun anew before it is taken for granted that nothing can be learnt."""

CALMER = 4
"""By how much the learning rate is divided for a new beginning: on mostly black images the first steps can push every
pixel's unit into its flat part."""

Capacity = Literal["linear", "plain", "residual"]


@dataclass(frozen=True)
class Pairs:
    """What a decoder learns from: images (N, C, H, W) and a way to draw activations of some of them.

    `drawn(rows)` gives activations (n, *shape) of the images in `rows` (n,): anew each time, if a defense is random.
    """

    images: Tensor
    drawn: Callable[[Tensor], Tensor]

    @classmethod
    def fixed(cls, activations: Tensor, images: Tensor) -> Pairs:
        """Pairs that are the same whenever they are asked for."""
        return cls(images, lambda rows: activations[rows])

    def once(self) -> Tensor:
        """Activations of all images, (N, *shape)."""
        return torch.cat([self.drawn(rows) for rows in torch.arange(len(self.images)).split(256)])


@dataclass(frozen=True)
class Fitted:
    """The best decoder, in eval mode, with its mean squared error on validation pairs."""

    decoder: InputDecoder
    error: float
    capacity: str
    starts: int

    def __call__(self, activations: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.decoder(group) for group in activations.split(256)])


@dataclass(frozen=True)
class Training:
    """How decoders are trained."""

    epochs: int
    batch_size: int
    learning_rate: float
    width: int
    capacities: Sequence[Capacity] = ("plain",)


def best_decoder(
    knowledge: Knowledge,
    pairs: Pairs,
    validation: Pairs,
    training: Training,
    generator: torch.Generator,
    report: Progress = lambda fraction: None,
) -> Fitted:
    """Train a decoder of each capacity; the capacity and epoch with the smallest error on validation pairs are kept.

    A decoder that is no better than the mean image has died on its first steps; it is begun anew with shorter ones, at
    most STARTS times.
    """
    judged = (validation.once(), validation.images)
    floor = float(mse_loss(pairs.images.mean(0).expand_as(validation.images), validation.images))
    tries = [(capacity, start) for capacity in training.capacities for start in range(STARTS)]
    alive: set[str] = set()
    best: Fitted | None = None
    for number, (capacity, start) in enumerate(tries):
        if capacity in alive:
            continue
        with layers_from(generator):
            decoder = InputDecoder(knowledge.activation_spec, knowledge.input_spec, training.width, capacity)
        error = _fit(
            decoder,
            pairs,
            judged,
            replace(training, learning_rate=training.learning_rate / CALMER**start),
            generator,
            lambda fraction, number=number: report((number + fraction) / len(tries)),  # type: ignore[misc]
        )
        if error < floor:
            alive.add(capacity)
        if best is None or error <= best.error:
            best = Fitted(decoder, error, capacity, start + 1)
    assert best is not None
    return best


def _fit(
    decoder: InputDecoder,
    pairs: Pairs,
    validation: tuple[Tensor, Tensor],
    training: Training,
    generator: torch.Generator,
    report: Progress,
) -> float:
    """Train a decoder and keep its best epoch on validation pairs; returns its error there."""
    decoder.calibrate(pairs.once(), pairs.images)
    return minimise_to_best(
        decoder,
        lambda rows: mse_loss(decoder(pairs.drawn(rows)), pairs.images[rows]),
        len(pairs.images),
        lambda: mse_loss(decoder(validation[0]), validation[1]),
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        generator=generator,
        report=report,
    )
