"""What an inversion minimises: the misfit to an observed activation, and what the prior says of the image."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attacks.inversion.priors.prior import Prior

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """‖f(x) − v‖² / ‖v‖² + λ·prior(x) for each victim; λ is relative to the activation's energy.

    So one λ serves targets whose activations have other scales. `activations` (N, *shape), `weight` λ (N,), `begun`
    the variables (N, …) the search starts from. `zero_trust` in [0, 1] weighs elements that were observed as exactly
    0 against the others.
    """

    head: Head
    activations: Tensor
    prior: Prior
    weight: Tensor
    begun: Tensor
    zero_trust: float = 1.0

    def misfit(self, images: Tensor) -> Tensor:
        """‖f(x) − v‖² / ‖v‖² of images (N, C, H, W) with trusted elements alone: (N,)."""
        error = (self.head(images) - self.activations).square()
        if self.zero_trust < 1.0:
            error = error * ((self.activations != 0) * (1 - self.zero_trust) + self.zero_trust)
        return error.flatten(1).mean(1) / self.activations.square().flatten(1).mean(1).clamp_min(1e-12)

    def __call__(self, variables: Tensor) -> Tensor:
        """The loss of each victim's variables, (N, …) → (N,)."""
        images = self.prior.images(variables)
        return self.misfit(images) + self.weight * self.prior.penalty(images, self.begun)

    def without_gradient(self) -> Tensor:
        """For which victims (N,) the misfit does not change, to first order, where the search begins."""
        variables = self.begun.detach().requires_grad_()
        misfit = self.misfit(self.prior.images(variables)).sum()
        if not misfit.requires_grad:
            return torch.ones(len(variables), dtype=torch.bool, device=variables.device)
        (gradient,) = torch.autograd.grad(misfit, variables)
        return (gradient == 0).flatten(1).all(1)

    def of(self, rows: Tensor | slice) -> Objective:
        """The same for some of the victims."""
        return replace(self, activations=self.activations[rows], weight=self.weight[rows], begun=self.begun[rows])

    def on(self, device: torch.device) -> Objective:
        """The same computed elsewhere, where the head is a module and the prior keeps nothing of its own."""
        if device == self.activations.device or not isinstance(self.head, nn.Module) or not self.prior.of_pixels:
            return self
        tensors = {name: getattr(self, name).to(device) for name in ("activations", "weight", "begun")}
        return replace(self, head=copy.deepcopy(self.head).to(device), **tensors)

    def doubled(self) -> Objective:
        """The same in double precision, as far as the head is a module whose weights can be copied."""
        if not isinstance(self.head, nn.Module):
            return self
        head = copy.deepcopy(self.head).double()
        tensors = {name: getattr(self, name).double() for name in ("activations", "weight", "begun")}
        return replace(self, head=head, **tensors)


def per_victim(values: Tensor, like: Tensor) -> Tensor:
    """One value a victim (N,), shaped so that it multiplies `like` (N, …) row by row."""
    return values.view(-1, *[1] * (like.ndim - 1))
