"""The contract of a reading: from what was granted and seen to a secret about each input, its label or an attribute."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from attacks.attack import Attack, AttackRefused, AttackSettings
from attacks.knowledge import LABEL, Knowledge, Observation
from attacks.sightings import average


class ReadingSettings(AttackSettings):
    """What is read."""

    secret: str = Field(default=LABEL, description="the task's label, or an attribute of the data set by its name")


class Reading(Attack):
    """Infers a secret of each input without rebuilding the input. A subclass writes `_read`.

    Of an input that was sent repeatedly it gets the average of what was seen.
    """

    Settings: ClassVar[type[AttackSettings]] = ReadingSettings
    settings: ReadingSettings

    @final
    def read(self, observation: Observation) -> Tensor:
        """How likely each value of the secret is, (N, values), float32 in [0, 1], a row an observed activation.

        Raises:
            RuntimeError: `prepare` was not called.
        """
        knowledge, sightings = self._sightings(observation)
        scores = self._read(knowledge, average(sightings), self._generator).detach()
        # An attacker with broken numbers still has to answer; all values alike is what it knows then.
        return scores.float().softmax(1).nan_to_num(nan=1 / scores.shape[1])

    def _known(self, knowledge: Knowledge) -> tuple[Tensor, Tensor]:
        """The secret's values of the attacker's own images, (N,) each: those to learn from and those to choose by."""
        assert knowledge.auxiliary is not None
        try:
            return knowledge.auxiliary.secret(self.settings.secret)
        except KeyError:
            names = ", ".join([LABEL, *knowledge.auxiliary.attributes])
            raise AttackRefused(
                f"{self.name}: the attacker's images say nothing of {self.settings.secret!r}; use one of: {names}"
            ) from None

    @abstractmethod
    def _read(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        """Logits (N, values) from activations (N, *shape)."""
