"""Additive noise on the activation, drawn anew for every message (He et al., IEEE IoT Journal 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from defenses.defense import Defense
from defenses.settings import checked


class GaussianNoise(Defense):
    """Adds N(0, σ²), with σ in the activation's own units."""

    name = "gaussian_noise"
    random = True

    def __init__(self, *, sigma: float) -> None:
        super().__init__()
        self.sigma = checked(self.name, "sigma", sigma)

    @property
    def settings(self) -> dict[str, Any]:
        return {"sigma": self.sigma}

    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(activations.shape, generator=generator, dtype=activations.dtype)
        return activations + self.sigma * noise.to(activations.device)


class LaplaceNoise(Defense):
    """Adds Laplace noise of scale b (standard deviation √2·b), in the activation's own units."""

    name = "laplace_noise"
    random = True

    def __init__(self, *, scale: float) -> None:
        super().__init__()
        self.scale = checked(self.name, "scale", scale)

    @property
    def settings(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        # The difference of two standard exponentials is a standard Laplace variable, with no pole to step around.
        first, second = (torch.empty(activations.shape, dtype=activations.dtype) for _ in range(2))
        noise = first.exponential_(generator=generator) - second.exponential_(generator=generator)
        return activations + self.scale * noise.to(activations.device)
