"""Black-box inversion: learn the head's inverse from queries (He et al. 2019, section 4.2)."""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from attacks.attack import ActivationAttack, AttackRefused, AttackSettings, Progress
from attacks.knowledge import Capability, Knowledge
from split_models.input_decoder import InputDecoder
from split_models.randomness import layers_from
from split_models.training import minimise

STARTS = 3
"""How often a decoder is begun anew before it is taken for granted that nothing can be learnt."""

CALMER = 4
"""By how much the learning rate is divided when it is begun anew: on mostly black images the first steps can push every
pixel's unit into its flat part."""


class InverseNetworkSettings(AttackSettings):
    """How the decoder is built and trained."""

    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="of Adam, annealed to 0 along a cosine")
    width: int = Field(default=32, ge=1, description="channels of the decoder's layers")
    capacities: tuple[Literal["linear", "plain", "residual"], ...] = Field(
        default=("plain",), min_length=1, description="decoders to train; of several, the best on validation images"
    )


class InverseNetwork(ActivationAttack):
    """Queries the owner with auxiliary images and trains decoders on the answers, defended as they come.

    The decoder and the epoch with the smallest error on validation images are kept. What the budget does not cover is
    left out, the validation images last.
    """

    name = "inverse_network"
    requires = frozenset({Capability.QUERIES, Capability.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = InverseNetworkSettings
    settings: InverseNetworkSettings

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        assert knowledge.query is not None
        images, validation = self._inputs(knowledge, generator)
        answers, validation_answers = knowledge.query(images), knowledge.query(validation)
        self.notes["queries"] = len(images) + len(validation)
        capacities, least = self.settings.capacities, float("inf")
        # A decoder that is no better than the mean image has died on its first steps; the attacker sees it and retries
        # with shorter ones.
        floor = float(mse_loss(images.mean(0).expand_as(validation), validation))
        tries = [(capacity, start) for capacity in capacities for start in range(STARTS)]
        alive: set[str] = set()
        for number, (capacity, start) in enumerate(tries):
            if capacity in alive:
                continue
            with layers_from(generator):
                decoder = InputDecoder(knowledge.activation_spec, knowledge.input_spec, self.settings.width, capacity)
            error = fit_decoder(
                decoder,
                (answers, images),
                (validation_answers, validation),
                self.settings.model_copy(update={"learning_rate": self.settings.learning_rate / CALMER**start}),
                generator,
                lambda fraction, number=number: self.progress((number + fraction) / len(tries)),  # type: ignore[misc]
            )
            if error < floor:
                alive.add(capacity)
            if error <= least or number == 0:
                least, self._decoder = error, decoder
                self.notes.update(capacity=capacity, starts=start + 1, validation_mse=error)

    def _learnt(self) -> dict[str, Tensor]:
        return self._decoder.state_dict()

    def _resume(self, knowledge: Knowledge, tensors: dict[str, Tensor]) -> None:
        spec, capacity = knowledge.activation_spec, self.notes["capacity"]
        self._decoder = InputDecoder(spec, knowledge.input_spec, self.settings.width, capacity).eval()
        self._decoder.load_state_dict(tensors)

    def _inputs(self, knowledge: Knowledge, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images to learn from and to validate on, at most the budget together, a fifth of it for validation."""
        assert knowledge.auxiliary is not None
        budget = knowledge.query_budget
        if budget < 2:
            raise AttackRefused(f"{self.name} needs a query budget of at least 2, got {budget}")
        validation = knowledge.auxiliary.validation_images[: max(1, budget // 5)]
        return knowledge.auxiliary.images[: budget - len(validation)], validation

    def _reconstruct(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            return torch.cat([self._decoder(group) for group in activations.split(256)])


def fit_decoder(
    decoder: InputDecoder,
    pairs: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    settings: InverseNetworkSettings,
    generator: torch.Generator,
    report: Progress,
) -> float:
    """Train a decoder on (activations, images), keep its best epoch on validation pairs; returns its error there."""
    answers, images = pairs
    decoder.calibrate(answers)
    best = (float("inf"), copy.deepcopy(decoder.state_dict()))

    def keep_best(epoch: int) -> None:
        nonlocal best
        with torch.no_grad():
            error = float(mse_loss(decoder(validation[0]), validation[1]))
        if error < best[0]:
            best = (error, copy.deepcopy(decoder.state_dict()))
        report((epoch + 1) / settings.epochs)

    minimise(
        decoder.parameters(),
        lambda rows: mse_loss(decoder(answers[rows]), images[rows]),
        len(images),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        generator=generator,
        after_epoch=keep_best,
    )
    decoder.load_state_dict(best[1])
    decoder.eval()
    return best[0]
