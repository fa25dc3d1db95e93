"""CEM: conditional entropy maximisation (Xia et al., CVPR 2025)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from defenses.defense import Defense, DefenseError
from defenses.settings import checked


class ConditionalEntropyMaximization(Defense):
    """Adds N(0, σ²) to activations, in training too, and trains them to hide in that noise.

    The added loss is weight · Σ_k π_k · mean_d ½·log((v_kd + σ²) / σ²), an estimate, per element and in nats, of how
    much of an input the noisy activation tells: it falls as a component's variance v sinks into the noise, and with it
    rises the conditional entropy of the input, which bounds every attacker's mean squared error from below (theorem 1).
    The paper fits a Gaussian mixture by clustering each class; here a class is one component with a diagonal
    covariance, estimated from the batch, of which at least two samples are there. π_k is its share of the batch; the
    constant −Σ π_k·log π_k is left out.
    """

    name = "cem"
    random = True
    trains = True
    in_training = True
    uses_labels = True

    def __init__(self, *, sigma: float, weight: float = 1.0) -> None:
        super().__init__()
        self.sigma = checked(self.name, "sigma", sigma)
        self.weight = checked(self.name, "weight", weight)
        if weight > 0 and sigma == 0:
            raise DefenseError(
                f"{self.name}: expected sigma above 0 with a weight of {weight}, got 0; nothing hides in it"
            )

    @property
    def settings(self) -> dict[str, Any]:
        return {"sigma": self.sigma, "weight": self.weight}

    def training_loss(self, inputs: Tensor, activations: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        total = super().training_loss(inputs, activations, labels, generator)
        if self.weight == 0:
            return total
        for group in labels.unique():
            component = activations[labels == group].flatten(1).float()
            if len(component) > 1:
                excess = component.var(0, correction=0) / self.sigma**2
                total = total + len(component) / len(labels) * torch.log1p(excess).mean() / 2
        return self.weight * total

    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(activations.shape, generator=generator, dtype=activations.dtype)
        return activations + self.sigma * noise.to(activations.device)
