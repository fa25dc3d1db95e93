"""Black-box inversion: learn the head's inverse from queries (He et al. 2019, section 4.2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from attacks.attack import ActivationAttack, AttackRefused, AttackSettings
from attacks.decoders import Capacity, Fitted, Pairs, Training, best_decoder
from attacks.knowledge import Capability, Knowledge
from attacks.sightings import average
from split_models.input_decoder import InputDecoder

FRESH_ANSWERS = 8
"""How often a random defense is asked about one image, as far as the budget allows, so that epochs differ."""

MOST_VALUES = 2**28
"""How many activation values are kept at most: 1 GB."""


class InverseNetworkSettings(AttackSettings):
    """How the decoder is built and trained."""

    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="of Adam, annealed to 0 along a cosine")
    width: int = Field(default=32, ge=1, description="channels of the decoder's layers")
    capacities: tuple[Capacity, ...] = Field(
        default=("plain",), min_length=1, description="decoders to train; of several, the best on validation images"
    )


class InverseNetwork(ActivationAttack):
    """Queries the owner with auxiliary images and trains decoders on the answers, defended as they come.

    The decoder and the epoch with the smallest error on validation images are kept. What the budget does not cover is
    left out, the validation images last. Where answers are random it asks again as long as the budget lasts: it learns
    from averages of as many answers as there are repeats of a victim, and draws others for every epoch.
    """

    name = "inverse_network"
    requires = frozenset({Capability.QUERIES, Capability.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = InverseNetworkSettings
    settings: InverseNetworkSettings

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        images, validation = self._inputs(knowledge, generator)
        answers = self._answers(knowledge, torch.cat([images, validation]))
        self._averaged = min(knowledge.repeats or 1, answers.shape[1])
        learnt = _pairs(images, answers[: len(images)], self._averaged, generator)
        judged = Pairs.fixed(average(answers[len(images) :, : self._averaged]), validation)
        settings = self.settings
        training = Training(
            settings.epochs, settings.batch_size, settings.learning_rate, settings.width, settings.capacities
        )
        self._decoder = best_decoder(knowledge, learnt, judged, training, generator, self.progress)
        self.notes.update(
            capacity=self._decoder.capacity,
            starts=self._decoder.starts,
            validation_mse=self._decoder.error,
            answers_per_image=answers.shape[1],
            averaged=self._averaged,
        )

    def _learnt(self) -> dict[str, Tensor]:
        return self._decoder.decoder.state_dict()

    def _resume(self, knowledge: Knowledge, tensors: dict[str, Tensor]) -> None:
        spec, notes = knowledge.activation_spec, self.notes
        decoder = InputDecoder(spec, knowledge.input_spec, self.settings.width, notes["capacity"])
        decoder.load_state_dict(tensors)
        self._decoder = Fitted(decoder.eval(), notes["validation_mse"], notes["capacity"], notes["starts"])
        self._averaged = notes["averaged"]

    def _inputs(self, knowledge: Knowledge, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images to learn from and to validate on, at most the budget together, a fifth of it for validation."""
        assert knowledge.auxiliary is not None
        budget = knowledge.query_budget
        if budget < 2:
            raise AttackRefused(f"{self.name} needs a query budget of at least 2, got {budget}")
        validation = knowledge.auxiliary.validation_images[: max(1, budget // 5)]
        return knowledge.auxiliary.images[: budget - len(validation)], validation

    def _answers(self, knowledge: Knowledge, images: Tensor) -> Tensor:
        """What the owner answers about each image, as often as that is of use: (N, times, *shape)."""
        assert knowledge.query is not None
        answers = [knowledge.query(images)]
        left = knowledge.query_budget - len(images)
        times = min(
            max(knowledge.repeats or 1, FRESH_ANSWERS), MOST_VALUES // answers[0].numel(), 1 + left // len(images)
        )
        if left > len(images) and times > 1:
            left -= 1  # for one question that tells whether answers are random
            times = min(times, 1 + left // len(images))
            if torch.equal(knowledge.query(images[:1]), answers[0][:1]):
                times = 1
            answers += [knowledge.query(images) for _ in range(times - 1)]
            self.notes["queries"] = times * len(images) + 1
        else:
            self.notes["queries"] = len(images)
        return torch.stack(answers, dim=1)

    def _reconstruct_repeated(self, knowledge: Knowledge, sightings: Tensor, generator: torch.Generator) -> Tensor:
        """Decode averages of as many sightings as the decoder knows averages of, and average the images."""
        groups = [group for group in sightings.split(self._averaged, dim=1) if group.shape[1] == self._averaged]
        return torch.stack([self._decoder(average(group)) for group in groups]).mean(0)

    def _reconstruct(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        return self._decoder(activations)


def _pairs(images: Tensor, answers: Tensor, averaged: int, generator: torch.Generator) -> Pairs:
    """Images with averages of so many of the answers (N, times, *shape), drawn anew where there are more."""
    times = answers.shape[1]
    if times == averaged:
        return Pairs.fixed(average(answers), images)

    def drawn(rows: Tensor) -> Tensor:
        chosen = torch.rand(len(rows), times, generator=generator).argsort(1)[:, :averaged]
        return average(answers[rows[:, None], chosen])

    return Pairs(images, drawn)
