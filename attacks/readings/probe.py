"""Attribute and label inference: classifiers of activations whose inputs the attacker knows.

As the adversary of Shredder (ASPLOS 2020, section 4: digits read off activations of another task) and of
DeepObfuscator (2021); Song and Shmatikov, "Overlearning reveals sensitive attributes" (ICLR 2020), show that attributes
which a task has no use for are there to be read.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attacks.attack import AttackRefused, AttackSettings
from attacks.knowledge import Capability, Knowledge
from attacks.reading import Reading, ReadingSettings
from attacks.sightings import average
from split_models.randomness import layers_from
from split_models.training import minimise_to_best


class ProbeSettings(ReadingSettings):
    """How the classifiers are built and trained."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="of Adam, annealed to 0 along a cosine")
    hidden: int = Field(default=128, ge=1, description="units of the classifier with a hidden layer")
    kinds: tuple[Literal["linear", "hidden"], ...] = Field(
        default=("linear", "hidden"), min_length=1, description="classifiers; of several, the best on validation images"
    )


class Probe(Reading):
    """Trains classifiers on activations of the attacker's own images, and keeps the best epoch on validation images."""

    Settings: ClassVar[type[AttackSettings]] = ProbeSettings
    settings: ProbeSettings

    @abstractmethod
    def _sent(self, knowledge: Knowledge, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the owner sends, or would send, for images of the attacker's own."""

    def _own(self, knowledge: Knowledge) -> tuple[int, int]:
        """How many images to learn from and to choose by there are."""
        assert knowledge.auxiliary is not None
        return len(knowledge.auxiliary.images), len(knowledge.auxiliary.validation_images)

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        assert knowledge.auxiliary is not None
        known, held_out = self._known(knowledge)
        learn, choose = self._own(knowledge)
        seen = self._sent(knowledge, knowledge.auxiliary.images[:learn], generator).flatten(1)
        seen_held_out = self._sent(knowledge, knowledge.auxiliary.validation_images[:choose], generator).flatten(1)
        # Centred and scaled, so that one learning rate fits every cut.
        self._middle, self._spread = seen.mean(0), seen.std(0, correction=0).mean().clamp_min(1e-12)
        pairs = (self._scaled(seen), known[:learn]), (self._scaled(seen_held_out), held_out[:choose])
        values, least = int(torch.cat([known, held_out]).max()) + 1, float("inf")
        for number, kind in enumerate(self.settings.kinds):
            with layers_from(generator):
                network = _network(kind, seen.shape[1], values, self.settings.hidden)
            loss = self._fitted(network, *pairs, generator, number / len(self.settings.kinds))
            if loss < least or number == 0:
                least, self._network = loss, network
                self.notes.update(kind=kind, validation_cross_entropy=loss)

    def _scaled(self, activations: Tensor) -> Tensor:
        return (activations.flatten(1) - self._middle) / self._spread

    def _fitted(
        self,
        network: nn.Module,
        pairs: tuple[Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        generator: torch.Generator,
        done: float,
    ) -> float:
        """Train a classifier and keep its best epoch; returns its cross-entropy on validation images."""
        seen, known = pairs
        return minimise_to_best(
            network,
            lambda rows: cross_entropy(network(seen[rows]), known[rows]),
            len(known),
            lambda: cross_entropy(network(held_out[0]), held_out[1]),
            epochs=self.settings.epochs,
            batch_size=self.settings.batch_size,
            learning_rate=self.settings.learning_rate,
            generator=generator,
            report=lambda fraction: self.progress(done + fraction / len(self.settings.kinds)),
        )

    def _read(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            return torch.cat([self._network(self._scaled(group)) for group in activations.split(256)])


class QueryProbe(Probe):
    """Asks the owner about auxiliary images, and learns to read a secret off the answers, defended as they come."""

    name = "query_probe"
    requires = frozenset({Capability.QUERIES, Capability.AUXILIARY})

    def _own(self, knowledge: Knowledge) -> tuple[int, int]:
        learn, choose = super()._own(knowledge)
        budget = knowledge.query_budget
        if budget < 2:
            raise AttackRefused(f"{self.name} needs a query budget of at least 2, got {budget}")
        choose = min(choose, max(1, budget // 5))
        learn = min(learn, budget - choose)
        self.notes["queries"] = learn + choose
        return learn, choose

    def _sent(self, knowledge: Knowledge, images: Tensor, generator: torch.Generator) -> Tensor:
        assert knowledge.query is not None
        return knowledge.query(images)


class HeadProbe(Probe):
    """Knows the head, and so what the owner would send, through the defense if that is known as well."""

    name = "head_probe"
    requires = frozenset({Capability.HEAD, Capability.AUXILIARY})
    uses = frozenset({Capability.DEFENSE, Capability.REPEATS})

    def _sent(self, knowledge: Knowledge, images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([average(knowledge.sightings(group, generator)) for group in images.split(256)])


def _network(kind: str, features: int, values: int, hidden: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(features, values)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, values))
