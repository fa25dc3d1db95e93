"""The contract of an attack on a hosted model: from what it answers to what it was never to tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from attacks.attack import AttackRefused, AttackSettings, Progress
from attacks.knowledge import Auxiliary
from attacks.oracle import PredictionOracle
from split_models.tabular.columns import Column
from split_models.tensor_spec import SpecError, TensorSpec


class Access(StrEnum):
    """One thing that a threat model may grant a customer of a hosted model; scenarios list them by these names."""

    QUERIES = "queries"  # the prediction API, up to a budget
    EXPLANATIONS = "explanations"  # the API explains its predictions as well
    WEIGHTS = "weights"  # the model itself: white box
    MARGINALS = "marginals"  # how often each value of each column occurs
    PERFORMANCE = "performance"  # how often, and how, the model errs: published with it
    AUXILIARY = "auxiliary"  # public samples, labelled where they are of the same classes


class Goal(StrEnum):
    """What an attack finds out."""

    ATTRIBUTE = "attribute"  # a sensitive column of each victim, of whom the other columns are known
    CLASS = "class"  # what a typical input of a class looks like
    SAMPLE = "sample"  # the input behind each output that was seen


@dataclass(frozen=True)
class OutputKnowledge:
    """All a customer knows beforehand; None where the threat model does not grant it."""

    input_spec: TensorSpec
    classes: int  # 0 for a regression
    columns: tuple[Column, ...] | None = None  # of a tabular model: part of how its API is documented
    oracle: PredictionOracle | None = None
    explained: PredictionOracle | None = None  # the same oracle, where explanations are granted as well
    model: nn.Module | None = None  # inputs → logits (N, classes), or values (N,) of a regression
    marginals: tuple[Tensor, ...] | None = None  # a column's probabilities by level (levels,), or values seen (M,)
    performance: Tensor | None = None  # (classes, classes): rows true, columns predicted; or (1,): residual deviation
    auxiliary: Auxiliary | None = None


@dataclass(frozen=True)
class Victims:
    """Whom an attack is about, one row each.

    For ATTRIBUTE `known`, `sensitive` and `labels` are given; for CLASS `labels`, and `known` where the attacker has
    a corrupted picture of each; for SAMPLE `outputs`, and `explanations` where they are granted.
    """

    labels: Tensor | None = None  # (N,): the true class, int64, or the true response of a regression, float32
    known: Tensor | None = None  # (N, *input shape), with 0 in the sensitive column
    sensitive: int | None = None  # which column that is
    outputs: Tensor | None = None  # (N, classes) float32 or labels (N,) int64, as the host answered somebody else
    explanations: Tensor | None = None  # (N, *shape of one) float32, of what it answered


class OutputAttack(ABC):
    """Runs as a customer of the host. A subclass writes `_prepare` (optional) and `_invert`.

    `requires` must be granted, `uses` is handed over when it is; nothing else reaches the attack.
    """

    name: ClassVar[str]
    goal: ClassVar[Goal]
    requires: ClassVar[frozenset[Access]]
    uses: ClassVar[frozenset[Access]] = frozenset()
    Settings: ClassVar[type[AttackSettings]] = AttackSettings

    def __init__(self, settings: AttackSettings | None = None) -> None:
        self.settings = settings or self.Settings()
        self.notes: dict[str, Any] = {}  # what it chose and noticed by itself, for the record
        self.progress: Progress = lambda fraction: None
        self._knowledge: OutputKnowledge | None = None

    @final
    def prepare(self, knowledge: OutputKnowledge, generator: torch.Generator) -> None:
        """Learn what can be learnt before victims are named; every random draw comes from `generator`.

        Raises:
            AttackRefused: something required is not granted.
        """
        missing = sorted(need for need in self.requires if getattr(knowledge, _FIELD[need]) is None)
        if missing:
            raise AttackRefused(f"{self.name} needs {', '.join(missing)}, which the threat model does not grant")
        self._knowledge, self._generator = knowledge, generator
        self._prepare(knowledge, generator)

    @final
    def invert(self, victims: Victims) -> Tensor:
        """The sensitive column's levels (N,) int64, or inputs (N, *input shape) float32 within the input's range.

        Raises:
            RuntimeError: `prepare` was not called.
            SpecError: the victims lack what the attack's goal needs.
        """
        if self._knowledge is None:
            raise RuntimeError(f"{self.name}: call prepare() before invert()")
        self._check(self._knowledge, victims)
        found = self._invert(self._knowledge, victims, self._generator).detach()
        if self.goal is Goal.ATTRIBUTE:
            return found.long()
        spec = self._knowledge.input_spec
        low, high = (0.0 if spec.low is None else spec.low), (1.0 if spec.high is None else spec.high)
        # An attacker with broken numbers still has to answer; the middle of the range is what it knows then.
        return found.float().nan_to_num(nan=(low + high) / 2).clamp(low, high)

    def _check(self, knowledge: OutputKnowledge, victims: Victims) -> None:
        for field in _NEEDED[self.goal]:
            if getattr(victims, field) is None:
                raise SpecError(f"{self.name}: expected the victims' {field}, got none; its goal is {self.goal.value}")
        if victims.known is not None:
            knowledge.input_spec.check(victims.known, "what is known of the victims")

    def _prepare(self, knowledge: OutputKnowledge, generator: torch.Generator) -> None:
        return None

    @abstractmethod
    def _invert(self, knowledge: OutputKnowledge, victims: Victims, generator: torch.Generator) -> Tensor:
        """Find what `goal` says, one row for each victim."""

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.settings.model_dump().items())})"


_NEEDED = {Goal.ATTRIBUTE: ("known", "sensitive", "labels"), Goal.CLASS: ("labels",), Goal.SAMPLE: ("outputs",)}
_FIELD = {
    Access.QUERIES: "oracle",
    Access.EXPLANATIONS: "explained",
    Access.WEIGHTS: "model",
    Access.MARGINALS: "marginals",
    Access.PERFORMANCE: "performance",
    Access.AUXILIARY: "auxiliary",
}


def granted_to(knowledge: OutputKnowledge, attack: type[OutputAttack]) -> OutputKnowledge:
    """The part of `knowledge` that an attack asks for: an attack that claims to need less gets no more."""
    wanted = attack.requires | attack.uses
    withheld = {field: None for need, field in _FIELD.items() if need not in wanted}
    return OutputKnowledge(**{**knowledge.__dict__, **withheld})
