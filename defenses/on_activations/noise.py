"""Additive noise on inputs or activations, drawn anew for every message (He et al., IEEE IoT Journal 2020)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from defenses.defense import Defense
from defenses.settings import checked, one_of, switch

PLACES = ("activation", "input")


class PlacedNoise(Defense):
    """Random noise at a place: `where` is "activation" (the default) or "input", before the head.

    With `in_training` it acts on training batches as well, so the network learns to live with it.
    """

    random = True

    def __init__(self, where: str, in_training: bool) -> None:
        super().__init__()
        self._where = one_of(self.name, "where", where, PLACES)
        self.on_wire, self.on_inputs = where == "activation", where == "input"
        self.in_training = self.trains = switch(self.name, "in_training", in_training)

    @property
    def settings(self) -> dict[str, Any]:
        return {"where": self._where, "in_training": self.in_training}

    @abstractmethod
    def _disturbed(self, given: Tensor, generator: torch.Generator) -> Tensor:
        """Inputs or activations with the noise."""

    def _protect_inputs(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        return self._disturbed(inputs, generator) if self.on_inputs else inputs

    def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
        return self._disturbed(activations, generator) if self.on_wire else activations


class AdditiveNoise(PlacedNoise):
    """Adds noise in the units of its place.

    With `relative` its strength is in units of each sample's own range, max − min, as in Abuadbba et al. (ASIA CCS
    2020), whose ε is 1 / `scale` of Laplace noise. Such noise says how far the data reach, so that ε promises no
    differential privacy.
    """

    def __init__(self, strength: float, where: str, in_training: bool, relative: bool) -> None:
        super().__init__(where, in_training)
        self._strength = strength
        self._relative = switch(self.name, "relative", relative)

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "relative": self._relative}

    @abstractmethod
    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise of unit strength on the CPU, with the shape and dtype of `like`."""

    def _disturbed(self, given: Tensor, generator: torch.Generator) -> Tensor:
        noise = self._strength * self._noise(given, generator).to(given.device)
        if self._relative:
            flat = given.detach().flatten(1)
            noise = noise * (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (given.ndim - 1))
        return given + noise


class GaussianNoise(AdditiveNoise):
    """Adds N(0, σ²), with σ in the units of the activation, or of the input."""

    name = "gaussian_noise"

    def __init__(
        self, *, sigma: float, where: str = "activation", in_training: bool = False, relative: bool = False
    ) -> None:
        super().__init__(checked(self.name, "sigma", sigma), where, in_training, relative)

    @property
    def settings(self) -> dict[str, Any]:
        return {"sigma": self._strength, **super().settings}

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)


class LaplaceNoise(AdditiveNoise):
    """Adds Laplace noise of scale b (standard deviation √2·b), in the units of the activation, or of the input."""

    name = "laplace_noise"

    def __init__(
        self, *, scale: float, where: str = "activation", in_training: bool = False, relative: bool = False
    ) -> None:
        super().__init__(checked(self.name, "scale", scale), where, in_training, relative)

    @property
    def settings(self) -> dict[str, Any]:
        return {"scale": self._strength, **super().settings}

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return laplace(like, generator)


def laplace(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Laplace variables on the CPU, with the shape and dtype of `like`."""
    # The difference of two standard exponentials is a standard Laplace variable, with no pole to step around.
    first, second = (torch.empty(like.shape, dtype=like.dtype) for _ in range(2))
    return first.exponential_(generator=generator) - second.exponential_(generator=generator)
