"""Query-free inversion: train a shadow of the head through the server's tail, then invert the shadow
(He et al. 2019, section 4.3)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from attacks.attack import ActivationAttack, AttackSettings
from attacks.knowledge import Capability, Knowledge
from attacks.on_activations.regularized_inversion import InversionSettings, Weight, search
from split_models.training import accuracy, minimise


class ShadowSettings(InversionSettings):
    """How the shadow is trained, and how it is inverted afterwards."""

    epochs: int = Field(default=20, ge=1, description="of training the shadow through the frozen tail")
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="of Adam, annealed to 0 along a cosine")
    # The shadow only resembles the head, so matching its activations closely is worth less than a smooth image, and
    # without the head there is nothing to tune the weight on.
    tv_weights: tuple[Weight, ...] = Field(default=(1.0,), min_length=1, max_length=1)


class ShadowModel(ActivationAttack):
    """Knows the tail, the head's layers but not their weights, and labelled images; asks the owner nothing."""

    name = "shadow_model"
    requires = frozenset({Capability.TAIL, Capability.ARCHITECTURE, Capability.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = ShadowSettings
    settings: ShadowSettings

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        assert knowledge.tail is not None
        assert knowledge.fresh_head is not None
        assert knowledge.auxiliary is not None
        tail, auxiliary = knowledge.tail, knowledge.auxiliary
        shadow = knowledge.fresh_head(generator).train()
        if weights := list(shadow.parameters()):  # layers without any are known as they are
            minimise(
                weights,
                lambda rows: cross_entropy(tail(shadow(auxiliary.images[rows])), auxiliary.labels[rows]),
                len(auxiliary.labels),
                epochs=self.settings.epochs,
                batch_size=self.settings.batch_size,
                learning_rate=self.settings.learning_rate,
                generator=generator,
                after_epoch=lambda epoch: self.progress((epoch + 1) / self.settings.epochs / 2),
            )
        self._shadow = shadow.eval().requires_grad_(False)
        self.notes["shadow_validation_accuracy"] = accuracy(
            lambda images: tail(shadow(images)), auxiliary.validation_images, auxiliary.validation_labels
        )

    def _reconstruct(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        spec, weight = knowledge.input_spec, self.settings.tv_weights[0]
        return search(self, self._shadow, activations, spec, self.settings, weight, done=0.5)
