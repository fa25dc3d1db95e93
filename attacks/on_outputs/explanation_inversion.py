"""Inversion of explained answers (Zhao, Zhang, Xiao and Lim, ICCV 2021): a decoder from explanations back to inputs."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss, one_hot

from attacks.attack import AttackSettings
from attacks.on_outputs.training_based import read_scores
from attacks.oracle import Prediction
from attacks.output_attack import Access, Goal, OutputAttack, OutputKnowledge, Victims
from split_models.randomness import layers_from
from split_models.tensor_spec import SpecError, TensorSpec
from split_models.training import minimise


class ExplanationInversionSettings(AttackSettings):
    """What the decoder reads, and how it is trained."""

    reads: Literal["both", "explanation"] = Field(
        default="both", description="explanations beside the answers that they explain, or by themselves"
    )
    epochs: int = Field(default=20, ge=1, description="passes over the auxiliary images")
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's, annealed along a cosine")
    width: int = Field(default=16, ge=1, description="channels of the decoder where it is widest")


class ExplanationInversion(OutputAttack):
    """Asks the host about auxiliary images, and why; learns to decode its explanations, and decodes somebody else's.

    Each auxiliary image takes two queries. Victims' explanations are of what the host told about them.
    """

    name = "explanation_inversion"
    goal = Goal.SAMPLE
    requires = frozenset({Access.QUERIES, Access.EXPLANATIONS, Access.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = ExplanationInversionSettings
    settings: ExplanationInversionSettings

    def _prepare(self, knowledge: OutputKnowledge, generator: torch.Generator) -> None:
        assert knowledge.explained is not None
        assert knowledge.auxiliary is not None
        settings, images, oracle = self.settings, knowledge.auxiliary.images, knowledge.explained
        told = oracle.predict(images)
        assert told.labels is not None  # whoever explains has classes
        maps, answers = oracle.explain(images, told.labels), _numbers(told, knowledge.classes)
        read = answers.shape[1] if settings.reads == "both" else 0
        with layers_from(generator):
            self._decoder = ExplanationDecoder(TensorSpec.of(maps), knowledge.input_spec, read, settings.width)
        self._decoder.calibrate(maps, images)
        minimise(
            self._decoder.parameters(),
            lambda rows: mse_loss(self._decoder(maps[rows], answers[rows]), images[rows]),
            len(images),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            generator=generator,
            after_epoch=lambda epoch: self.progress((epoch + 1) / settings.epochs),
        )
        self.notes["queries"] = 2 * len(images)
        with torch.no_grad():
            self.notes["training_mse"] = float(mse_loss(self._decoder(maps, answers), images))

    def _invert(self, knowledge: OutputKnowledge, victims: Victims, generator: torch.Generator) -> Tensor:
        if victims.explanations is None:
            raise SpecError(
                f"{self.name}: expected the victims' explanations, got none; grant them, of a host that explains"
            )
        assert victims.outputs is not None
        told = victims.outputs
        seen = Prediction(labels=told) if told.ndim == 1 else Prediction(scores=told)
        with torch.no_grad():
            found: Tensor = self._decoder(victims.explanations, _numbers(seen, knowledge.classes))
        return found


def _numbers(told: Prediction, classes: int) -> Tensor:
    """Scores, or the label's own class, as a decoder reads them: (N, classes)."""
    if told.scores is not None:
        return read_scores(told.scores)
    assert told.labels is not None
    return read_scores(one_hot(told.labels, classes).float())


class ExplanationDecoder(nn.Module):
    """Explanations (N, E, H, W) and answers (N, answers) → images (N, C, H, W) in [0, 1].

    A U-Net (Ronneberger et al. 2015): two halvings and back with what was seen at each size, for an explanation lies
    where its image does. The answers join where the map is smallest; with `answers = 0` they are not read.
    """

    scale: Tensor

    def __init__(self, explanation: TensorSpec, images: TensorSpec, answers: int, width: int) -> None:
        super().__init__()
        self.at_full = _convolutions(explanation.shape[0], width)
        self.at_half = _convolutions(width, 2 * width, stride=2)
        self.at_quarter = _convolutions(2 * width, 2 * width, stride=2)
        self.told = nn.Linear(answers, 2 * width) if answers else None
        self.joined = _convolutions(2 * width * (2 if answers else 1), 2 * width)
        self.to_half = _convolutions(4 * width, width)
        self.to_full = _convolutions(2 * width, width)
        self.out = nn.Conv2d(width, images.shape[0], 3, padding=1)
        self.register_buffer("scale", torch.ones(()))

    def calibrate(self, explanations: Tensor, images: Tensor) -> None:
        """Divide explanations by their root mean square from now on, and begin with the mean of each channel."""
        self.scale = explanations.square().mean().sqrt().clamp_min(1e-12)
        assert self.out.bias is not None
        with torch.no_grad():
            self.out.bias.copy_(images.mean((0, 2, 3)).clamp(0.01, 0.99).logit())

    def forward(self, explanations: Tensor, answers: Tensor) -> Tensor:
        full: Tensor = self.at_full(explanations / self.scale)
        half: Tensor = self.at_half(full)
        found: Tensor = self.at_quarter(half)
        if self.told is not None:
            told = self.told(answers).relu()[:, :, None, None].expand(-1, -1, *found.shape[2:])
            found = torch.cat([found, told], dim=1)
        found = self.joined(found)
        for skipped, layers in ((half, self.to_half), (full, self.to_full)):
            found = layers(torch.cat([interpolate(found, skipped.shape[2:]), skipped], dim=1))
        image: Tensor = self.out(found).sigmoid()
        return image


def _convolutions(channels: int, width: int, stride: int = 1) -> nn.Module:
    first = nn.Conv2d(channels, width, 3, padding=1, stride=stride)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
