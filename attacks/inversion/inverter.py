"""Inverts a head by what it is: a linear solve where it is affine, a search elsewhere; memory bounded by batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor

from attacks.attack import AttackSettings, Progress
from attacks.inversion.affine import solve
from attacks.inversion.descent import descend
from attacks.inversion.objective import Head, Objective
from attacks.inversion.priors.prior import Prior, value_range
from split_models.tensor_spec import TensorSpec

NEARLY_NOTHING = 0.9
"""Loss of a search that matches next to nothing of the activation."""


def accelerator() -> torch.device:
    """A GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class SearchSettings(AttackSettings):
    """How long and how boldly images are searched."""

    iterations: int = Field(default=1000, ge=1, description="steps at most; a victim stops when its loss does")
    step: float = Field(default=0.1, gt=0, description="first step in pixel values, halved when the loss stops falling")
    batch: int = Field(default=128, ge=1, description="victims at a time, which bounds memory")


@dataclass(frozen=True)
class Inversion:
    """What came out: images (N, C, H, W), each one's loss (N,), and the steps that the slowest victim took.

    `without_gradient` counts victims that a search could not move: nothing led away from anywhere it began.
    """

    images: Tensor
    losses: Tensor
    steps: int
    without_gradient: int = 0


@dataclass(frozen=True)
class Inverter:
    """Inverts one head with one prior; `affine` says what the head is."""

    head: Head
    spec: TensorSpec
    settings: SearchSettings
    affine: bool = False
    zero_trust: float = 1.0

    def solves(self, prior: Prior, weight: Tensor) -> bool:
        """Is the loss a quadratic form of the pixels, so that its minimum can be solved for?"""
        return self.affine and prior.of_pixels and (prior.quadratic or not bool(weight.any()))

    def __call__(
        self,
        activations: Tensor,
        prior: Prior,
        weight: Tensor,
        progress: Progress = lambda fraction: None,
    ) -> Inversion:
        """Invert activations (N, *shape) with a weight of the prior for each of them (N,)."""
        groups = torch.arange(len(activations)).split(self.settings.batch)
        images, losses, steps, stuck = [], [], 0, 0
        for number, rows in enumerate(groups):
            seen, begun = activations[rows], prior.begin(activations[rows], self.spec)
            objective = Objective(self.head, seen, prior, weight[rows], begun, self.zero_trust).on(accelerator())
            if self.solves(prior, weight):
                found, loss, taken = solve(objective, self.settings.iterations)
            else:
                found, loss, taken, still = self._searched(
                    objective,
                    lambda part, number=number: progress((number + part) / len(groups)),  # type: ignore[misc]
                )
                stuck += int(still.sum())
            progress((number + 1) / len(groups))
            images.append(found.cpu())
            losses.append(loss.cpu())
            steps = max(steps, taken)
        return Inversion(torch.cat(images), torch.cat(losses), steps, stuck)

    def _searched(self, objective: Objective, progress: Progress) -> tuple[Tensor, Tensor, int, Tensor]:
        """Search from where the prior says, and once more from noise where no gradient led away from there.

        A flat image may leave every unit behind it inactive. The noise is the same for every victim. Last comes which
        victims (N,) met no gradient at all.
        """
        still = objective.without_gradient()
        limits, step = {"iterations": self.settings.iterations, "progress": progress}, self.settings.step
        found, loss, taken = descend(objective, self.spec, step=step, **limits)  # type: ignore[arg-type]
        dead = loss > NEARLY_NOTHING
        if dead.any() and objective.prior.of_pixels:
            low, high = value_range(self.spec)
            noise = torch.rand(1, *self.spec.shape, generator=torch.Generator().manual_seed(0)).to(objective.begun)
            elsewhere = replace(
                objective.of(dead), begun=(low + (high - low) * noise).expand(int(dead.sum()), *self.spec.shape)
            )
            again, lower, more = descend(elsewhere, self.spec, step=step, **limits)  # type: ignore[arg-type]
            still[dead] &= elsewhere.without_gradient()
            better = lower < loss[dead]
            rows = dead.nonzero()[:, 0][better]
            found[rows], loss[rows], taken = again[better], lower[better], taken + more
        return found, loss, taken, still
