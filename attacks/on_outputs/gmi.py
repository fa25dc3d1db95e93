"""GMI, the secret revealer (Zhang, Jia, Pei, Wang, Li and Song, CVPR 2020)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from attacks.attack import AttackSettings
from attacks.on_outputs.generative import GenerativeAttack, GenerativeSettings, corrupted
from attacks.output_attack import OutputKnowledge, Victims

STEEPEST = 10.0
"""Norm to which the slope of one latent is cut: λ = 100 makes it steep where the class is far."""


class GmiSettings(GenerativeSettings):
    """The search among the prior's pictures."""

    iterations: int = Field(default=1500, ge=1, description="steps of gradient descent on the latent")
    restarts: int = Field(default=5, ge=1, description="latents that are tried for each victim")
    learning_rate: float = Field(default=0.02, gt=0, description="of SGD with momentum 0.9")
    weight: float = Field(default=100.0, ge=0, description="λ of the class's cross-entropy; 0: the prior alone")
    known: Literal["masked", "blurred"] = Field(default="masked", description="how given pictures were corrupted")
    known_weight: float = Field(default=1000.0, ge=0, description="of a given picture's squared distance, by pixel")


class Gmi(GenerativeAttack):
    """Descends −D(G(z)) + λ · cross-entropy of the class, over z; the restart that the model is surest of is kept.

    Where a corrupted picture of each victim is given, what G(z) would look like under the same corruption has to
    match it (as Yeh et al. 2017 restore pictures); the publication trains a generator that takes it as an input.
    """

    name = "gmi"
    Settings: ClassVar[type[AttackSettings]] = GmiSettings
    settings: GmiSettings

    def _invert(self, knowledge: OutputKnowledge, victims: Victims, generator: torch.Generator) -> Tensor:
        assert knowledge.model is not None
        assert victims.labels is not None
        assert self.prior is not None
        settings, count = self.settings, len(victims.labels)
        latent = self.prior.draw(settings.restarts * count, generator).requires_grad_(True)
        labels = victims.labels.repeat(settings.restarts)
        known = None if victims.known is None else victims.known.repeat(settings.restarts, 1, 1, 1)
        optimizer = torch.optim.SGD([latent], lr=settings.learning_rate, momentum=0.9)
        for step in range(settings.iterations):
            optimizer.zero_grad(set_to_none=True)
            self._loss(knowledge, latent, labels, known).sum().backward()
            # One latent at a time, so that what is found of a victim does not depend on who else is attacked.
            assert latent.grad is not None
            latent.grad *= (STEEPEST / latent.grad.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
            optimizer.step()
            self.progress((step + 1) / settings.iterations)
        with torch.no_grad():
            found = self._loss(knowledge, latent, labels, known).view(settings.restarts, count)
            best = found.argmin(0) * count + torch.arange(count)
            self.notes["loss"] = float(found.min(0).values.mean())
            images: Tensor = self.prior(latent[best])
        return images

    def _loss(self, knowledge: OutputKnowledge, latent: Tensor, labels: Tensor, known: Tensor | None) -> Tensor:
        """What is descended, one number a latent (N,)."""
        assert knowledge.model is not None
        assert self.prior is not None
        images = self.prior(latent)
        identity = cross_entropy(knowledge.model(images), labels, reduction="none")
        loss: Tensor = self.settings.weight * identity - self.prior.critic(images)[:, 0]
        if known is None:
            return loss
        distance = (corrupted(images, self.settings.known) - known).square().flatten(1).mean(1)
        return loss + self.settings.known_weight * distance
