"""Training-based inversion (Yang, Chang and Liang, CCS 2019): a decoder from scores back to inputs."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from attacks.attack import AttackRefused, AttackSettings
from attacks.output_attack import Access, Goal, OutputAttack, OutputKnowledge, Victims
from split_models.input_decoder import InputDecoder
from split_models.randomness import layers_from
from split_models.tensor_spec import TensorSpec
from split_models.training import minimise

LEAST_SCORE = 1e-5
"""A lower score counts as this, so that its logarithm is a number; rounded and withheld scores are 0."""


class TrainingBasedSettings(AttackSettings):
    """What the decoder reads, and how it is trained."""

    truncate: int = Field(default=0, ge=0, description="the highest scores alone are read; 0: all of them")
    epochs: int = Field(default=20, ge=1, description="passes over the auxiliary images")
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's, annealed along a cosine")
    width: int = Field(default=32, ge=1, description="channels of the decoder")


class TrainingBased(OutputAttack):
    """Asks the host about auxiliary images, learns to decode its scores, and decodes those that somebody else got.

    Auxiliary images need not be of the classes that the host knows. Truncation aligns what the decoder learns from
    with answers of which a host tells the highest scores alone.
    """

    name = "training_based"
    goal = Goal.SAMPLE
    requires = frozenset({Access.QUERIES, Access.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = TrainingBasedSettings
    settings: TrainingBasedSettings

    def _prepare(self, knowledge: OutputKnowledge, generator: torch.Generator) -> None:
        assert knowledge.oracle is not None
        assert knowledge.auxiliary is not None
        settings, images = self.settings, knowledge.auxiliary.images
        told = knowledge.oracle.predict(images).scores
        if told is None:
            raise AttackRefused(f"{self.name} needs scores, and this host tells labels alone")
        read = read_scores(told, settings.truncate)
        with layers_from(generator):
            self._decoder = InputDecoder(TensorSpec.of(read), knowledge.input_spec, settings.width)
        self._decoder.calibrate(read, images)
        minimise(
            self._decoder.parameters(),
            lambda rows: mse_loss(self._decoder(read[rows]), images[rows]),
            len(images),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            generator=generator,
            after_epoch=lambda epoch: self.progress((epoch + 1) / settings.epochs),
        )
        self.notes["queries"] = len(images)
        with torch.no_grad():
            self.notes["training_mse"] = float(mse_loss(self._decoder(read), images))

    def _invert(self, knowledge: OutputKnowledge, victims: Victims, generator: torch.Generator) -> Tensor:
        assert victims.outputs is not None
        with torch.no_grad():
            found: Tensor = self._decoder(read_scores(victims.outputs, self.settings.truncate))
        return found


def read_scores(scores: Tensor, truncate: int = 0) -> Tensor:
    """Logarithms of scores (N, classes) above the least; 0 for what is not among the `truncate` highest, if not 0."""
    logs = scores.clamp_min(LEAST_SCORE).log()
    highest = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, : truncate or scores.shape[1]]
    mask = torch.zeros_like(logs).scatter(1, highest, 1.0)
    return (logs - torch.tensor(LEAST_SCORE).log()) * mask
