"""The contract of a client-side defense: what the owner does to activations before they cross the wire."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn


class DefenseError(ValueError):
    """A defense has wrong settings, or does not fit where it is put."""


class Defense(nn.Module, ABC):
    """Acts in the owner's process, as the last step before the wire, in training and in evaluation alike.

    A subclass names itself, lists its settings as keyword arguments of `__init__`, and writes `_protect`. Where it
    has parameters they join the owner's optimiser; its state travels in checkpoints.
    """

    name: ClassVar[str]
    random: ClassVar[bool] = False  # does it draw anew for every message? then an attacker may average
    on_wire: ClassVar[bool] = True  # does it change activations at the boundary?
    trains: ClassVar[bool] = False  # does it shape the network while that is trained?

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, as it is written into records."""
        return {}

    def training_loss(self, inputs: Tensor, activations: Tensor, labels: Tensor) -> Tensor:
        """What it adds to the owner's loss on a batch while the network is trained: a scalar, 0 by default."""
        return activations.new_zeros(())

    @final
    def protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        """The activations (N, *shape) as they go onto the wire: same shape, dtype and device.

        Raises:
            DefenseError: the defense changed the shape or dtype, or made values that are not finite.
        """
        protected = self._protect(activations, generator)
        if protected.shape != activations.shape or protected.dtype != activations.dtype:
            raise DefenseError(
                f"{self.name}: expected {tuple(activations.shape)} {activations.dtype} back, "
                f"got {tuple(protected.shape)} {protected.dtype}; a defense keeps both"
            )
        if not torch.isfinite(protected).all():
            raise DefenseError(f"{self.name}: its strength drives activations out of {activations.dtype}; lower it")
        return protected

    @abstractmethod
    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        """Protect a batch; every random draw comes from `generator`, never from a global one."""

    def forward(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        return self.protect(activations, generator)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.settings.items())})"


class NoDefense(Defense):
    """Sends the activations as they are."""

    name = "none"
    on_wire = False

    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        return activations
