"""Query-free inversion with a shadow that resembles what was observed: alignment of feature statistics, passively.

In the line of PCAT (USENIX Security 2023), FORA (CVPR 2024) and SDAR (NDSS 2025): the server's own tail teaches the
shadow what activations mean, the observed activations teach it what they look like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attacks.attack import AttackSettings
from attacks.decoders import Training
from attacks.inversion.blind_filter import BlindFilter, blind_filters
from attacks.inversion.inverter import Inverter
from attacks.inversion.priors.smoothness import SquaredVariation
from attacks.knowledge import Auxiliary, Knowledge
from attacks.on_activations.shadow_model import ShadowModel, ShadowSettings
from attacks.on_activations.shadow_readers import committee
from split_models.training import minimise

SHIFTS = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
"""Distances, down and right, over which channels are correlated."""


MOST_CHANNELS = 512

ALIGNED = 0.5
"""Loss, cross-entropy and misfit of statistics together, below which a shadow has not got stuck on its way."""

UNEXPLAINED = 0.1
"""Of the observed statistics, what a convolution may leave that is taken for the head itself."""

JUDGED = 500
"""Auxiliary images on which shadows are compared."""

Loss = Callable[[Tensor], Tensor]
"""From activations (N, *shape) that a shadow made to a scalar."""


class AlignedSettings(ShadowSettings):
    """How closely the shadow is aligned; the rest as in the shadow model."""

    alignment: float = Field(default=1.0, ge=0, description="weight of the statistics' misfit against cross-entropy")
    alignment_epochs: int = Field(default=10, ge=1, description="of training with both, after those without")
    restarts: int = Field(default=2, ge=1, description="shadows to train at most, until one has ended up aligned")
    committee: bool = Field(
        default=False, description="decoders that learn on all shadows read, instead of going back through the best"
    )
    decoder_epochs: int = Field(default=15, ge=1)
    width: int = Field(default=32, ge=1, description="channels of a decoder's layers")

    @model_validator(mode="after")
    def _several(self) -> AlignedSettings:
        if self.committee and self.restarts < 2:
            raise ValueError(f"expected at least 2 restarts for a committee, got {self.restarts}; set restarts = 2")
        return self


class AlignedShadow(ShadowModel):
    """A shadow model whose activations of auxiliary images match the statistics of those that were observed.

    It learns when it has seen what it attacks, from all victims together, and never acts on the owners. Where a
    convolution alone was observed, its statistics tell the filter, and nothing is trained.
    """

    name = "aligned_shadow"
    victims_apart = False
    Settings: ClassVar[type[AttackSettings]] = AlignedSettings
    settings: AlignedSettings

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        return

    def _learnt(self) -> None:
        return None

    def _reconstruct(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        assert knowledge.auxiliary is not None
        if (told := self._told(knowledge, activations)) and told.residual < UNEXPLAINED:
            return self._solved(told, knowledge, activations)
        self._nonnegative = bool((activations >= 0).all())
        wanted, shadows = statistics(activations), []
        for _ in range(self.settings.restarts):
            shadow = self._trained(knowledge, generator)
            also = self._further(knowledge, activations, generator)
            loss = self._align(shadow, knowledge, knowledge.auxiliary, wanted, also, generator)
            shadows.append((loss, shadow.eval().requires_grad_(False)))
            if loss < ALIGNED and not self.settings.committee:
                break
        least, self._shadow = min(shadows, key=lambda found: found[0])
        self.notes.update(self._judged(knowledge), alignment_loss=least)
        if self.settings.committee:
            return self._read([shadow for _, shadow in shadows], knowledge, activations, generator)
        return self._inverted(knowledge, activations, generator)

    def _read(
        self, shadows: list[nn.Module], knowledge: Knowledge, activations: Tensor, generator: torch.Generator
    ) -> Tensor:
        """What decoders read that learnt on the shadows."""
        settings = self.settings
        training = Training(settings.decoder_epochs, settings.batch_size, settings.learning_rate, settings.width)
        read = committee(knowledge, shadows, training, generator, lambda part: self.progress((1 + part) / 2))
        self.notes["trust"] = read.trust
        return read(activations)

    def _told(self, knowledge: Knowledge, activations: Tensor) -> BlindFilter | None:
        """The convolution that was observed, if it was one, with the sign that the tail understands."""
        assert knowledge.tail is not None
        assert knowledge.auxiliary is not None
        tail, images, labels = knowledge.tail, knowledge.auxiliary.images, knowledge.auxiliary.labels[:JUDGED]
        with torch.no_grad():
            return min(
                blind_filters(images, activations),
                key=lambda told: float(cross_entropy(tail(told.padded()(images[:JUDGED])), labels)),
                default=None,
            )

    def _solved(self, told: BlindFilter, knowledge: Knowledge, activations: Tensor) -> Tensor:
        """The images that solve the linear system, as smooth as the filter leaves them open."""
        self._shadow = told.padded()
        kernel = told.layer.kernel_size[0]
        self.notes.update(self._judged(knowledge), identified=f"{kernel}×{kernel} filter", unexplained=told.residual)
        inverter = Inverter(told.layer, knowledge.input_spec, self.settings, affine=True)
        weight = torch.full((len(activations),), told.residual)
        found = inverter(told.inside(activations), SquaredVariation(), weight, self.progress)
        self.notes["median_loss"] = float(found.losses.median())
        return found.images

    def _further(self, knowledge: Knowledge, observed: Tensor, generator: torch.Generator) -> Loss | None:
        """What else a shadow is aligned by, given what it makes of a batch; nothing by default."""
        return None

    def _align(
        self,
        shadow: nn.Module,
        knowledge: Knowledge,
        auxiliary: Auxiliary,
        wanted: list[Tensor],
        also: Loss | None,
        generator: torch.Generator,
    ) -> float:
        """Train on cross-entropy, statistics and what there is besides; returns the first two over auxiliary images."""
        assert knowledge.tail is not None
        tail, settings = knowledge.tail, self.settings

        def judged(made: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(tail(made), labels) + settings.alignment * misfit(made, wanted)

        def loss(rows: Tensor) -> Tensor:
            made = shadow(auxiliary.images[rows])
            return judged(made, auxiliary.labels[rows]) + (also(made) if also else 0.0)

        if weights := list(shadow.parameters()):
            minimise(
                weights,
                loss,
                len(auxiliary.labels),
                epochs=settings.alignment_epochs,
                batch_size=2 * settings.batch_size,  # statistics of few images say little
                learning_rate=settings.learning_rate,
                generator=generator,
            )
        with torch.no_grad():
            return float(judged(shadow(auxiliary.images[:JUDGED]), auxiliary.labels[:JUDGED]))


def statistics(activations: Tensor) -> list[Tensor]:
    """What is typical of activations (N, *shape): their mean, and how channels go together nearby, each (C, C).

    Of more than MOST_CHANNELS features, which flat activations may have, it is means and mean squares alone.
    """
    found = [activations.mean(0)]
    if activations.shape[1] > MOST_CHANNELS or not 3 <= activations.ndim <= 4:
        return [*found, activations.square().mean(0)]
    maps = activations if activations.ndim == 4 else activations[..., None]
    height, width = maps.shape[2:]
    for down, right in SHIFTS:
        if down < height and right < width:
            here, there = maps[..., : height - down, : width - right], maps[..., down:, right:]
            products = torch.einsum("nchw,ndhw->cd", here, there)
            found.append(products / here[:, 0].numel())
    return found


def misfit(activations: Tensor, wanted: list[Tensor]) -> Tensor:
    """How far statistics are from those wanted, relative to them: 0 where they agree, about 1 each for no likeness."""
    pairs = zip(statistics(activations), wanted, strict=True)
    parts = [(found - goal).square().sum() / goal.square().sum().clamp_min(1e-12) for found, goal in pairs]
    return torch.stack(parts).sum()
