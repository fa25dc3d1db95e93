"""Dropout as a defense: part of every activation is not sent (He et al., IEEE IoT Journal 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from defenses.defense import Defense
from defenses.settings import checked


class DropoutMask(Defense):
    """Sets each element to 0 with probability `rate`, drawn anew for every message; the rest is not rescaled."""

    name = "dropout_mask"
    random = True

    def __init__(self, *, rate: float) -> None:
        super().__init__()
        self.rate = checked(self.name, "rate", rate, most=1.0)

    @property
    def settings(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        kept = torch.rand(activations.shape, generator=generator) >= self.rate
        return activations * kept.to(activations.device)
