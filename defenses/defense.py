"""The contract of a client-side defense: what the owner does before activations cross the wire."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from split_models.tensor_spec import TensorSpec


class DefenseError(ValueError):
    """A defense has wrong settings, or does not fit where it is put."""


def checked_like(defense: str, given: Tensor, protected: Tensor) -> Tensor:
    """What a defense made of a tensor, checked to have its shape and dtype, and finite values only; what it left as it
    was is not looked at.

    Raises:
        DefenseError: it has not; the message names the defense.
    """
    if protected.shape != given.shape or protected.dtype != given.dtype:
        raise DefenseError(
            f"{defense}: expected {tuple(given.shape)} {given.dtype} back, "
            f"got {tuple(protected.shape)} {protected.dtype}; a defense keeps both"
        )
    # Looking at every value takes longer than many defenses; their sum tells, unless it is too large itself.
    if protected is not given and not _is_finite(protected.detach().sum()) and not _is_finite(protected):
        raise DefenseError(f"{defense}: its strength drives values out of {given.dtype}; lower it")
    return protected


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


@dataclass(frozen=True)
class FrozenSplit:
    """A trained network around the cut, whose weights stay as they are, with the data that trained it."""

    head: Callable[[Tensor], Tensor]
    tail: Callable[[Tensor], Tensor]
    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,)


@dataclass(frozen=True)
class TrainingPlan:
    """How the network is going to be trained."""

    samples: int
    batch_size: int
    epochs: int

    @property
    def steps(self) -> int:
        """How many batches there will be."""
        return self.epochs * -(-self.samples // self.batch_size)


class Defense(nn.Module, ABC):
    """Acts in the owner's process, in training and in evaluation alike.

    A subclass names itself, lists its settings as keyword arguments of `__init__`, and writes what it needs of the
    hooks, from first to last: `attach` and `check_head` (it learns where it is), `around_training` and `training_loss`
    (while the network is trained), `fit` (afterwards), `_protect_inputs` and `_protect` (on every message). Its
    parameters join the owner's optimiser; parameters and buffers are its state, in a file that travels beside the head.
    """

    name: ClassVar[str]
    on_wire: bool = True  # does it change activations at the boundary?
    on_inputs: bool = False  # does it change private inputs before the head?
    fits: bool = False  # does it learn its state against the trained network?
    random: bool = False  # does it draw anew for every message? then an attacker may average
    trains: bool = False  # does it shape the network while that is trained?
    in_training: bool = False  # does it also act on the inputs and activations of training batches?
    uses_labels: bool = False  # does what it does in training depend on labels?
    per_sample_gradients: bool = False  # does it need each sample's gradient in training by itself?

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, Any] = {}  # what it reached while it was fitted, for the record

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, as it is written into records."""
        return {}

    def attach(self, inputs: TensorSpec, activation: TensorSpec) -> None:
        """Make what depends on the shapes at the cut; called once, before anything else.

        Raises:
            DefenseError: it does not fit this cut.
        """
        return

    def check_head(self, head: nn.Module) -> None:
        """Look at the head before anything is trained; every head will do by default.

        Raises:
            DefenseError: it cannot protect this one.
        """
        return

    @contextmanager
    def around_training(
        self, head: nn.Module, plan: TrainingPlan, generator: torch.Generator
    ) -> Iterator[Callable[[], None]]:
        """Surrounds the whole training of `head`; what it yields is called for every batch, between the backward
        pass and the optimiser's step, when the gradients are there and not yet used."""
        yield lambda: None

    def training_inputs(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """A training batch (N, C, H, W) as the head gets it."""
        return self.protect_inputs(inputs, generator) if self.in_training else inputs

    def training_pass(
        self, inputs: Tensor, activations: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The activations (N, *shape) of a training batch as the tail gets them, and what is added to the loss."""
        added = self.training_loss(inputs, activations, labels, generator)
        return (self.protect(activations, generator) if self.in_training else activations), added

    def training_loss(self, inputs: Tensor, activations: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """What it adds to the owner's loss on a batch while the network is trained: a scalar, 0 by default."""
        return activations.new_zeros(())

    def fit(self, frozen: FrozenSplit, generator: torch.Generator, report: Callable[[float], None]) -> None:
        """Learn its state against a trained network; nothing by default."""
        return

    @final
    def protect_inputs(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """The private inputs (N, C, H, W) as the head gets them: same shape, dtype and device.

        Raises:
            DefenseError: the defense changed the shape or dtype, or made values that are not finite.
        """
        return checked_like(self.name, inputs, self._protect_inputs(inputs, generator))

    @final
    def protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        """The activations (N, *shape) as they go onto the wire: same shape, dtype and device.

        Raises:
            DefenseError: the defense changed the shape or dtype, or made values that are not finite.
        """
        return checked_like(self.name, activations, self._protect(activations, generator))

    def _protect_inputs(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Protect a batch of inputs; every random draw comes from `generator`, never from a global one."""
        return inputs

    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        """Protect a batch; every random draw comes from `generator`, never from a global one."""
        return activations

    @final
    def state(self) -> dict[str, Tensor]:
        """Its parameters and buffers, as a file beside the head holds them; empty for most defenses."""
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}

    @final
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave; call `attach` before.

        Raises:
            DefenseError: tensors are missing, unknown or of another shape.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        got = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if got != expected:
            raise DefenseError(
                f"{self.name}: expected a state with {expected or 'nothing'}, got {got or 'none'}; "
                "give the file that was written for this defense at this cut"
            )
        self.load_state_dict(dict(state))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.settings.items())})"


class NoDefense(Defense):
    """Sends the activations as they are."""

    name = "none"
    on_wire = False
