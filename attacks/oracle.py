"""A hosted model as its customers see it: predictions for inputs of their own, counted against a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from split_models.answers import Answers
from split_models.tensor_spec import SpecError, TensorSpec


@dataclass(frozen=True)
class Prediction:
    """The host's answers to N inputs; None is what it does not tell."""

    labels: Tensor | None = None  # (N,) int64; also where scores are told: their maximum
    scores: Tensor | None = None  # (N, classes) float32, after whatever defense the host has
    values: Tensor | None = None  # (N,) float32, of a regression

    @property
    def answers(self) -> Tensor:
        """What came from the host, in whichever form it answers."""
        return next(form for form in (self.scores, self.values, self.labels) if form is not None)


class BudgetExhausted(Exception):
    """The host answers no more of this customer's queries; nothing of the batch was answered."""


class Service(Protocol):
    """One customer's line to a host; over gRPC or in this process, an attack cannot tell."""

    answers: Answers
    max_batch: int
    explains: bool

    def predict(self, inputs: Tensor) -> Tensor:
        """Labels (N,), scores (N, classes) or values (N,) of at most `max_batch` inputs."""
        ...

    def explain(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The host's explanation of each label (N,) for its input: (N, *shape)."""
        ...


class PredictionOracle:
    """All that an attack may ask of a hosted model.

    Args:
        service: the line to the host.
        input_spec: one input as the host takes it.
        budget: how many inputs may be asked about in all; an explanation counts like a prediction.
    """

    def __init__(self, service: Service, input_spec: TensorSpec, budget: int) -> None:
        self.input_spec, self.budget = input_spec, budget
        self.answers, self.explains = service.answers, service.explains
        self.queries = 0  # inputs asked about so far
        self._service = service

    @property
    def left(self) -> int:
        """How many inputs may still be asked about."""
        return self.budget - self.queries

    def predict(self, inputs: Tensor) -> Prediction:
        """What the host says about inputs (N, *shape), which travel in batches as large as it takes.

        Raises:
            BudgetExhausted: fewer than N queries are left; none was asked.
            SpecError: the inputs are none that the host takes; they are not counted.
        """
        told = self._in_batches(self._service.predict, inputs)
        if self.answers is Answers.SCORES:
            return Prediction(labels=told.argmax(1), scores=told)
        return Prediction(labels=told) if self.answers is Answers.LABEL else Prediction(values=told)

    def explain(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Why each input (N, *shape) could be of its label (N,): the host's explanations (N, *shape of one).

        Raises:
            BudgetExhausted: fewer than N queries are left; none was asked.
            SpecError: the inputs are none that the host takes, or it explains nothing.
        """
        if not self.explains:
            raise SpecError("this host explains nothing; use predict()")
        return self._in_batches(self._service.explain, inputs, labels)

    def _in_batches(self, ask: Callable[..., Tensor], inputs: Tensor, *more: Tensor) -> Tensor:
        self.input_spec.check(inputs, "inputs of the oracle")
        if not torch.isfinite(inputs).all():
            raise SpecError("inputs of the oracle: expected finite values, got NaN or infinity")
        if not len(inputs) or any(len(tensor) != len(inputs) for tensor in more):
            raise SpecError(f"expected at least one input, each with its label, got {len(inputs)}")
        if len(inputs) > self.left:
            raise BudgetExhausted(
                f"{self.budget} queries were granted and {self.left} are left, got {len(inputs)}; ask about fewer"
            )
        size = self._service.max_batch
        batches = zip(*(tensor.detach().split(size) for tensor in (inputs, *more)), strict=True)
        told = []
        for batch in batches:
            told.append(ask(*batch))
            self.queries += len(batch[0])
        return torch.cat(told)
