"""Black-box model reconstruction: learn a copy of the head by queries, then invert the copy (He et al. 2019, 4.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from attacks.attack import ActivationAttack, AttackRefused, AttackSettings
from attacks.decoders import CALMER, STARTS
from attacks.knowledge import Capability, Knowledge, Observation
from attacks.on_activations.regularized_inversion import InversionSettings, RegularizedInversion
from split_models.training import minimise

LEARNT = 0.9
"""Misfit, relative to that of the mean answer, above which a copy has learnt nothing: its units died early."""

JUDGED = 500


class ReconstructionSettings(InversionSettings):
    """How the copy is trained; how it is inverted afterwards is as in the white box."""

    epochs: int = Field(default=20, ge=1, description="of training the copy on the owner's answers")
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0, description="of Adam, annealed to 0 along a cosine")


class ModelReconstruction(ActivationAttack):
    """Knows the head's layers but not their weights, and asks the owner about auxiliary images."""

    name = "model_reconstruction"
    requires = frozenset({Capability.QUERIES, Capability.ARCHITECTURE, Capability.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = ReconstructionSettings
    settings: ReconstructionSettings

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        assert knowledge.query is not None
        assert knowledge.fresh_head is not None
        assert knowledge.auxiliary is not None
        images = knowledge.auxiliary.images[: knowledge.query_budget]
        if not len(images):
            raise AttackRefused(f"{self.name} needs a query budget of at least 1, got {knowledge.query_budget}")
        answers = knowledge.query(images)
        self.notes["queries"] = len(images)
        head = self._copy(knowledge.fresh_head, images, answers, generator)
        inherited = {name: getattr(self.settings, name) for name in InversionSettings.model_fields}
        self._inversion = RegularizedInversion(InversionSettings(**inherited))
        self._inversion.progress = lambda fraction: self.progress((1 + fraction) / 2)
        self._inversion.prepare(dataclasses.replace(knowledge, head=head, defense=None), generator)

    def _copy(
        self, fresh: Callable[[torch.Generator], nn.Module], images: Tensor, answers: Tensor, generator: torch.Generator
    ) -> nn.Module:
        """A head that answers as the owner does; one that ends no better than a constant is begun anew, more slowly."""
        energy = answers.square().mean().clamp_min(1e-12)
        constant = float((answers - answers.mean(0)).square().mean() / energy)
        copies = []
        for start in range(STARTS):
            head = fresh(generator).train()
            if weights := list(head.parameters()):  # layers without any are known as they are
                minimise(
                    weights,
                    lambda rows, head=head: mse_loss(head(images[rows]), answers[rows]) / energy,  # type: ignore[misc]
                    len(images),
                    epochs=self.settings.epochs,
                    batch_size=self.settings.batch_size,
                    learning_rate=self.settings.learning_rate / CALMER**start,
                    generator=generator,
                    after_epoch=lambda epoch: self.progress((epoch + 1) / self.settings.epochs / 2),
                )
            head.eval().requires_grad_(False)
            with torch.no_grad():
                made = torch.cat([head(group) for group in images[:JUDGED].split(256)])
            copies.append((float(mse_loss(made, answers[:JUDGED]) / energy), head))
            if copies[-1][0] < LEARNT * constant:
                break
        self.notes["copy_misfit"], best = min(copies, key=lambda copy: copy[0])
        return best

    def _reconstruct(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        images = self._inversion.reconstruct(Observation(activations))
        self.notes.update(self._inversion.notes)
        return images
