"""Training-based inversion (Yang, Chang and Liang, CCS 2019): a decoder from scores back to inputs."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from attacks.attack import AttackRefused, AttackSettings
from attacks.on_outputs.decoding import DecodingAttack, DecodingSettings, read_scores
from attacks.output_attack import Access, OutputKnowledge, Victims
from split_models.input_decoder import InputDecoder
from split_models.randomness import layers_from
from split_models.tensor_spec import TensorSpec


class TrainingBasedSettings(DecodingSettings):
    """What the decoder reads, and how it is trained."""

    truncate: int = Field(default=0, ge=0, description="the highest scores alone are read; 0: all of them")
    width: int = Field(default=32, ge=1, description="channels of the decoder")


class TrainingBased(DecodingAttack):
    """Asks the host about auxiliary images, learns to decode its scores, and decodes those that somebody else got.

    Auxiliary images need not be of the classes that the host knows. Truncation aligns what the decoder learns from
    with answers of which a host tells the highest scores alone.
    """

    name = "training_based"
    requires = frozenset({Access.QUERIES, Access.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = TrainingBasedSettings
    settings: TrainingBasedSettings

    def _prepare(self, knowledge: OutputKnowledge, generator: torch.Generator) -> None:
        assert knowledge.oracle is not None
        assert knowledge.auxiliary is not None
        images = knowledge.auxiliary.images
        told = knowledge.oracle.predict(images).scores
        if told is None:
            raise AttackRefused(f"{self.name} needs scores, and this host tells labels alone")
        self.notes["queries"] = len(images)
        read = read_scores(told, self.settings.truncate)
        with layers_from(generator):
            self._decoder = InputDecoder(TensorSpec.of(read), knowledge.input_spec, self.settings.width)
        self._decoder.calibrate(read, images)
        self._teach(self._decoder, (read,), images, generator)

    def _invert(self, knowledge: OutputKnowledge, victims: Victims, generator: torch.Generator) -> Tensor:
        assert victims.outputs is not None
        with torch.no_grad():
            found: Tensor = self._decoder(read_scores(victims.outputs, self.settings.truncate))
        return found
