"""Several defenses, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from defenses.defense import Defense, DefenseError, FrozenSplit, TrainingPlan
from split_models.tensor_spec import TensorSpec


class Chain(Defense):
    """Applies its `parts` in order: each gets what those before it have made of inputs and activations.

    In training that holds for the parts that act there. A part that is fitted learns against a head that ends behind
    the parts before it. It is random if any part is, and its state holds every part's under its number, from 0.
    """

    name = "chain"

    def __init__(self, *, parts: Sequence[Defense]) -> None:
        super().__init__()
        if not parts:
            raise DefenseError("chain: expected at least one defense in parts, got none")
        alone = [part for part in parts if part.per_sample_gradients]
        if alone and (others := [part for part in parts if part.trains and part not in alone]):
            raise DefenseError(
                f"chain: {alone[0].name} needs each sample's gradient by itself, and {others[0].name} in parts also "
                "acts in training, where it may mix samples; leave one of them out"
            )
        self._chained = nn.ModuleList(parts)
        self.on_wire = any(part.on_wire for part in parts)
        self.on_inputs = any(part.on_inputs for part in parts)
        self.fits = any(part.fits for part in parts)
        self.random = any(part.random for part in parts)
        self.trains = any(part.trains for part in parts)
        self.in_training = any(part.in_training for part in parts)
        self.uses_labels = any(part.uses_labels for part in parts)
        self.per_sample_gradients = bool(alone)

    @property
    def parts(self) -> list[Defense]:
        """The defenses in the order in which they act."""
        return [part for part in self._chained if isinstance(part, Defense)]

    @property
    def settings(self) -> dict[str, Any]:
        return {"parts": [{"name": part.name, **part.settings} for part in self.parts]}

    def attach(self, inputs: TensorSpec, activation: TensorSpec) -> None:
        for number, part in enumerate(self.parts, start=1):
            with _named(number):
                part.attach(inputs, activation)

    def check_head(self, head: nn.Module) -> None:
        for number, part in enumerate(self.parts, start=1):
            with _named(number):
                part.check_head(head)

    @contextmanager
    def around_training(
        self, head: nn.Module, plan: TrainingPlan, generator: torch.Generator
    ) -> Iterator[Callable[[], None]]:
        with ExitStack() as stack:
            before_step = [stack.enter_context(part.around_training(head, plan, generator)) for part in self.parts]

            def all_of_them() -> None:
                for call in before_step:
                    call()

            yield all_of_them
        self._gather_notes()

    def training_inputs(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        for part in self.parts:
            inputs = part.training_inputs(inputs, generator)
        return inputs

    def training_pass(
        self, inputs: Tensor, activations: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        total = activations.new_zeros(())
        for part in self.parts:
            activations, added = part.training_pass(inputs, activations, labels, generator)
            total = total + added
        return activations, total

    def training_loss(self, inputs: Tensor, activations: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        return self.training_pass(inputs, activations, labels, generator)[1]

    def fit(self, frozen: FrozenSplit, generator: torch.Generator, report: Callable[[float], None]) -> None:
        for number, part in enumerate(self.parts):
            if part.fits:
                head = self._head_behind(number, frozen, generator)
                before = FrozenSplit(head, frozen.tail, frozen.images, frozen.labels)
                part.fit(before, generator, report)
        self._gather_notes()

    def _head_behind(self, number: int, frozen: FrozenSplit, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        """The head as the part with that number sees it: with every part before it."""

        def head(images: Tensor) -> Tensor:
            for part in self.parts[:number]:
                images = part.protect_inputs(images, generator)
            activations = frozen.head(images)
            for part in self.parts[:number]:
                activations = part.protect(activations, generator)
            return activations

        return head

    def _gather_notes(self) -> None:
        for number, part in enumerate(self.parts, start=1):
            self.notes.update({f"{number} {part.name} {key}": value for key, value in part.notes.items()})

    def _protect_inputs(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        for part in self.parts:
            inputs = part.protect_inputs(inputs, generator)
        return inputs

    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        for part in self.parts:
            activations = part.protect(activations, generator)
        return activations


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Errors inside say which part they are about."""
    try:
        yield
    except DefenseError as error:
        raise DefenseError(f"chain, part {number}: {error}") from error
