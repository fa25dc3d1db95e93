"""Query-free inversion with a shadow that resembles what was observed: alignment of feature statistics, passively.

In the line of PCAT (USENIX Security 2023), FORA (CVPR 2024) and SDAR (NDSS 2025): the server's own tail teaches the
shadow what activations mean, the observed activations teach it what they look like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attacks.attack import AttackSettings
from attacks.knowledge import Auxiliary, Knowledge
from attacks.on_activations.shadow_model import ShadowModel, ShadowSettings
from split_models.training import minimise

SHIFTS = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
"""Distances, down and right, over which channels are correlated."""


MOST_CHANNELS = 512

ALIGNED = 0.5
"""Loss, cross-entropy and misfit of statistics together, below which a shadow has not got stuck on its way."""

Loss = Callable[[Tensor], Tensor]
"""From activations (N, *shape) that a shadow made to a scalar."""


class AlignedSettings(ShadowSettings):
    """How closely the shadow is aligned; the rest as in the shadow model."""

    alignment: float = Field(default=1.0, ge=0, description="weight of the statistics' misfit against cross-entropy")
    alignment_epochs: int = Field(default=10, ge=1, description="of training with both, after those without")
    restarts: int = Field(default=2, ge=1, description="shadows to train at most, until one has ended up aligned")


class AlignedShadow(ShadowModel):
    """A shadow model whose activations of auxiliary images match the statistics of those that were observed.

    It learns when it has seen what it attacks, from all victims together, and never acts on the owners.
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
        self._nonnegative = bool((activations >= 0).all())
        wanted, least = statistics(activations), float("inf")
        for number in range(self.settings.restarts):
            shadow = self._trained(knowledge, generator)
            also = self._further(knowledge, activations, generator)
            loss = self._align(shadow, knowledge, knowledge.auxiliary, wanted, also, generator)
            if loss <= least or number == 0:
                least, self._shadow = loss, shadow.eval().requires_grad_(False)
            if least < ALIGNED:
                break
        self.notes.update(self._judged(knowledge), alignment_loss=least)
        return self._inverted(knowledge, activations, generator)

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
            return float(judged(shadow(auxiliary.images[:500]), auxiliary.labels[:500]))


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
