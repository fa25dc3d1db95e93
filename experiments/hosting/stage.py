"""What all trials of a hosting run share, whatever is hosted: who holds what, and how findings are judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from attacks.output_attack import Access, Goal
from defenses.fitting_defense import FittingDefense
from experiments.hosting.record import Figures, HostedAttack, HostedUtility
from experiments.hosting.scenario import HostScenario, PictureScenario
from experiments.scenario import Named

PLAIN, HOSTED = "plain.safetensors", "model.safetensors"
"""The model as it is without a defense, and the one that is hosted."""


class Stage(ABC):
    """One model with its data; `scratch` holds what the parties read and write."""

    dataset: dict[str, Any]  # what the record says of the data
    truth: Tensor  # of what the honest customer asks about first: classes, or responses

    def __init__(self, scenario: HostScenario | PictureScenario, scratch: Path) -> None:
        self.scenario, self.scratch = scenario, scratch

    @property
    @abstractmethod
    def floors(self) -> dict[str, dict[str, Figures]]:
        """What can be had without the model, by baseline and part: the same under every defense."""

    @abstractmethod
    def hand_out(self) -> None:
        """Write what the parties may hold: `own` for the host, `asked` for the honest customer, and the attacker's."""

    @abstractmethod
    def fit(self, defense: FittingDefense | None) -> None:
        """Write PLAIN and HOSTED."""

    @abstractmethod
    def parts(self, goal: Goal) -> Sequence[str]:
        """Whom an attack with this goal is run on; the victims of a part are in `victims PART`."""

    @abstractmethod
    def documented(self) -> dict[str, Any]:
        """How the API is documented to every customer."""

    @abstractmethod
    def offered(self, queries: int) -> dict[Access, Any]:
        """What each access consists of, so many queries being left; one that is not there cannot be granted."""

    @abstractmethod
    def judge(self, part: str, found: Tensor) -> Figures:
        """What an attack found, against the truth."""

    @abstractmethod
    def doubts(self, attacks: Sequence[HostedAttack], utility: HostedUtility, defense: Named) -> list[str]:
        """What a reader should know before believing the figures, in words."""

    def answered(self, answers: Tensor, explanations: Tensor | None) -> Tensor:
        """Take note of what the honest customer was told, and why; returns the answers that `truth` is of."""
        return answers

    def pictures(self) -> dict[str, Tensor]:
        """Private pictures by part, which are shown beside what was found; none for tables."""
        return {}
