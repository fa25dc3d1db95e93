"""Query-free inversion: train a shadow of the head through the server's tail, then invert the shadow
(He et al. 2019, section 4.3)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attacks.attack import ActivationAttack, AttackSettings
from attacks.inversion.inverter import Inverter, SearchSettings
from attacks.inversion.priors.smoothness import TotalVariation
from attacks.knowledge import Capability, Knowledge
from split_models.training import accuracy, minimise


class ShadowSettings(SearchSettings):
    """How the shadow is trained, and how it is inverted afterwards."""

    epochs: int = Field(default=20, ge=1, description="of training the shadow through the frozen tail")
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="of Adam, annealed to 0 along a cosine")
    # The shadow only resembles the head, so matching its activations closely is worth less than a smooth image, and
    # without the head there is nothing to tune the weight on.
    weight: float = Field(default=1.0, ge=0, description="of total variation, relative to the activation's energy")


class ShadowModel(ActivationAttack):
    """Knows the tail, the head's layers but not their weights, and labelled images; asks the owner nothing."""

    name = "shadow_model"
    requires = frozenset({Capability.TAIL, Capability.ARCHITECTURE, Capability.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = ShadowSettings
    settings: ShadowSettings
    _shadow: nn.Module

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        self._shadow = self._trained(knowledge, generator).eval().requires_grad_(False)
        self.notes.update(self._judged(knowledge))

    def _learnt(self) -> dict[str, Tensor] | None:
        return self._shadow.state_dict()

    def _resume(self, knowledge: Knowledge, tensors: dict[str, Tensor]) -> None:
        self._shadow = self._untrained(knowledge, self._generator).eval().requires_grad_(False)
        self._shadow.load_state_dict(tensors)

    def _untrained(self, knowledge: Knowledge, generator: torch.Generator) -> nn.Module:
        """The shadow's layers with their first weights."""
        assert knowledge.fresh_head is not None
        return knowledge.fresh_head(generator)

    def _trained(self, knowledge: Knowledge, generator: torch.Generator) -> nn.Module:
        """A shadow, in training mode, that the frozen tail understands."""
        assert knowledge.tail is not None
        assert knowledge.auxiliary is not None
        tail, auxiliary = knowledge.tail, knowledge.auxiliary
        shadow = self._untrained(knowledge, generator).train()
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
        return shadow

    def _judged(self, knowledge: Knowledge) -> dict[str, float]:
        """How well shadow and tail do the task together."""
        assert knowledge.tail is not None
        assert knowledge.auxiliary is not None
        tail, auxiliary = knowledge.tail, knowledge.auxiliary
        reached = accuracy(
            lambda images: tail(self._shadow(images)), auxiliary.validation_images, auxiliary.validation_labels
        )
        return {"shadow_validation_accuracy": reached}

    def _reconstruct(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        return self._inverted(knowledge, activations, generator)

    def _inverted(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        """The images whose activations the shadow would have made."""
        inverter = Inverter(self._shadow, knowledge.input_spec, self.settings)
        weight = torch.full((len(activations),), self.settings.weight)
        found = inverter(activations, TotalVariation(), weight, lambda part: self.progress((1 + part) / 2))
        self.notes["median_loss"] = float(found.losses.median())
        if found.without_gradient:
            self.notes["without_gradient"] = found.without_gradient
        return found.images
