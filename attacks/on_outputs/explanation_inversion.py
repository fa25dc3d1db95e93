"""Inversion of explained answers (Zhao, Zhang, Xiao and Lim, ICCV 2021): a decoder from explanations back to inputs."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot

from attacks.attack import AttackSettings
from attacks.on_outputs.decoding import DecodingAttack, DecodingSettings, read_scores
from attacks.output_attack import Access, OutputKnowledge, Victims
from split_models.input_decoder import begin_with_means
from split_models.randomness import layers_from
from split_models.tensor_spec import SpecError, TensorSpec


class ExplanationInversionSettings(DecodingSettings):
    """What the decoder reads, and how it is trained."""

    reads: Literal["both", "explanation"] = Field(
        default="both", description="explanations beside the answers that they explain, or by themselves"
    )
    width: int = Field(default=16, ge=1, description="channels of the decoder at the image's size")


class ExplanationInversion(DecodingAttack):
    """Asks the host about auxiliary images, and why; learns to decode its explanations, and decodes somebody else's.

    Each auxiliary image takes two queries. Victims' explanations are of what the host told about them.
    """

    name = "explanation_inversion"
    requires = frozenset({Access.QUERIES, Access.EXPLANATIONS, Access.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = ExplanationInversionSettings
    settings: ExplanationInversionSettings

    def _prepare(self, knowledge: OutputKnowledge, generator: torch.Generator) -> None:
        assert knowledge.explained is not None
        assert knowledge.auxiliary is not None
        images, oracle = knowledge.auxiliary.images, knowledge.explained
        told = oracle.predict(images)
        assert told.labels is not None  # whoever explains has classes
        maps, answers = oracle.explain(images, told.labels), _numbers(told.answers, knowledge.classes)
        self.notes["queries"] = 2 * len(images)
        read = knowledge.classes if self.settings.reads == "both" else 0
        with layers_from(generator):
            self._decoder = ExplanationDecoder(TensorSpec.of(maps), knowledge.input_spec, read, self.settings.width)
        self._decoder.calibrate(maps, images)
        self._teach(self._decoder, (maps, answers), images, generator)

    def _invert(self, knowledge: OutputKnowledge, victims: Victims, generator: torch.Generator) -> Tensor:
        if victims.explanations is None:
            raise SpecError(f"{self.name}: expected the victims' explanations, got none; attack a host that explains")
        assert victims.outputs is not None
        with torch.no_grad():
            found: Tensor = self._decoder(victims.explanations, _numbers(victims.outputs, knowledge.classes))
        return found


def _numbers(answers: Tensor, classes: int) -> Tensor:
    """Scores (N, classes), or labels (N,), as the decoder reads them: (N, classes)."""
    return read_scores(answers if answers.ndim == 2 else one_hot(answers, classes).float())


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
        begin_with_means(self.out, images, squashed=True)

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
