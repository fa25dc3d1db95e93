"""Noise calibrated to differential privacy of one message's sample, with its sensitivity enforced by clipping.

The guarantee is local: whatever two inputs are compared, the distributions of what goes onto the wire for them are
(ε, δ)-close. It holds for one query; a sample that is sent k times costs at most k·ε and k·δ.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from defenses.on_activations.noise import PlacedNoise, laplace
from defenses.settings import positive


class GaussianMechanism(PlacedNoise):
    """Clips each sample to an ℓ2 norm of `clip` and adds the least Gaussian noise that is (ε, δ)-private.

    A sample is an activation or, with `where` "input", an image; two clipped ones are at most 2·clip apart. The noise
    is that of the analytic Gaussian mechanism (Balle & Wang 2018, theorem 8), which is valid for every ε > 0, where the
    classical σ is for ε < 1 only.
    """

    name = "gaussian_mechanism"

    def __init__(
        self, *, epsilon: float, delta: float, clip: float, where: str = "activation", in_training: bool = False
    ) -> None:
        super().__init__(where, in_training)
        self.epsilon = positive(self.name, "epsilon", epsilon)
        self.delta = positive(self.name, "delta", delta, below=1.0)
        self.clip = positive(self.name, "clip", clip)
        self.sigma = 2 * self.clip * analytic_gaussian_sigma(self.epsilon, self.delta)

    @property
    def settings(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon, "delta": self.delta, "clip": self.clip, **super().settings}

    def _disturbed(self, given: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(given.shape, generator=generator, dtype=given.dtype)
        return _clipped(given, self.clip, order=2) + self.sigma * noise.to(given.device)


class LaplaceMechanism(PlacedNoise):
    """Clips each sample to an ℓ1 norm of `clip` and adds Laplace noise of scale 2·clip/ε (Dwork et al. 2006).

    A sample is an activation or, with `where` "input", an image.
    """

    name = "laplace_mechanism"

    def __init__(self, *, epsilon: float, clip: float, where: str = "activation", in_training: bool = False) -> None:
        super().__init__(where, in_training)
        self.epsilon = positive(self.name, "epsilon", epsilon)
        self.clip = positive(self.name, "clip", clip)

    @property
    def settings(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon, "clip": self.clip, **super().settings}

    def _disturbed(self, given: Tensor, generator: torch.Generator) -> Tensor:
        noise = laplace(given, generator).to(given.device)
        return _clipped(given, self.clip, order=1) + 2 * self.clip / self.epsilon * noise


def analytic_gaussian_sigma(epsilon: float, delta: float) -> float:
    """The least σ with which a query of ℓ2 sensitivity 1 is (ε, δ)-private (Balle & Wang 2018, theorem 8)."""
    # Every party imports this file, and scipy takes as long to load as a quarter of torch.
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    def excess(log_sigma: float) -> float:
        sigma = math.exp(log_sigma)
        first = log_ndtr(0.5 / sigma - epsilon * sigma)
        second = epsilon + log_ndtr(-0.5 / sigma - epsilon * sigma)
        return float(math.exp(first) - math.exp(min(second, first))) - delta

    return math.exp(brentq(excess, math.log(1e-6), math.log(1e9), xtol=1e-12))


def _clipped(samples: Tensor, norm: float, order: int) -> Tensor:
    """Each sample scaled down to a norm of at most `norm`; one that is shorter stays as it is."""
    lengths = torch.linalg.vector_norm(samples.flatten(1).double(), ord=order, dim=1).clamp_min(1e-300)
    factors: Tensor = (norm / lengths).clamp(max=1.0).to(samples.dtype)
    return samples * factors.reshape(-1, *(1 for _ in samples.shape[1:]))
