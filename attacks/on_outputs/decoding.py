"""What inversions by a decoder share: how answers are read, and how a decoder learns on the attacker's own images."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from attacks.attack import AttackSettings
from attacks.output_attack import Goal, OutputAttack
from split_models.training import minimise

LEAST_SCORE = 1e-5
"""A lower score counts as this, so that its logarithm is a number; rounded and withheld scores are 0."""


class DecodingSettings(AttackSettings):
    """How a decoder is trained."""

    epochs: int = Field(default=20, ge=1, description="passes over the auxiliary images")
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's, annealed along a cosine")


class DecodingAttack(OutputAttack):
    """Learns to decode what the host tells of auxiliary images, and decodes what it told somebody else."""

    goal = Goal.SAMPLE
    Settings: ClassVar[type[AttackSettings]] = DecodingSettings
    settings: DecodingSettings

    def _teach(self, decoder: nn.Module, seen: tuple[Tensor, ...], images: Tensor, generator: torch.Generator) -> None:
        """Train `decoder` to make each image (N, C, H, W) of what was seen of it: tensors of N rows, its arguments."""
        settings = self.settings
        minimise(
            decoder.parameters(),
            lambda rows: mse_loss(decoder(*(part[rows] for part in seen)), images[rows]),
            len(images),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            generator=generator,
            after_epoch=lambda epoch: self.progress((epoch + 1) / settings.epochs),
        )
        with torch.no_grad():
            self.notes["training_mse"] = float(mse_loss(decoder(*seen), images))


def read_scores(scores: Tensor, truncate: int = 0) -> Tensor:
    """Logarithms of scores (N, classes) above the least; 0 for what is not among the `truncate` highest, if not 0."""
    logs = scores.clamp_min(LEAST_SCORE).log()
    highest = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, : truncate or scores.shape[1]]
    mask = torch.zeros_like(logs).scatter(1, highest, 1.0)
    return (logs - torch.tensor(LEAST_SCORE).log()) * mask
