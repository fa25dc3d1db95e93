"""NoPeek: train the head to send activations that correlate little with the inputs (Vepakomma et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from defenses.defense import Defense, TrainingPlan
from defenses.distance_correlation import (
    distance_correlation,
    squared_distance_correlation,
    unbiased_distance_correlation,
)
from defenses.settings import checked, one_of

FORMS = ("biased", "unbiased", "squared")


class NoPeek(Defense):
    """Adds weight · dCor(inputs, activations) of each batch to the loss; afterwards activations go out as they are.

    `form` is "biased", the published V-statistic, "unbiased", the U-centred square where that is above 0, or "squared",
    the V-statistic over squared distances, as Titcombe et al. (2021) trained. The weight grows linearly from 0 over the
    first fraction `warmup` of training and falls back to 0 over the last fraction `cooldown`. What it leaves is a
    network trained in another way, so an attacker who knows the head knows the defense.
    """

    name = "nopeek"
    on_wire = False
    trains = True

    def __init__(self, *, weight: float, form: str = "biased", warmup: float = 0.0, cooldown: float = 0.0) -> None:
        super().__init__()
        self.weight = checked(self.name, "weight", weight)
        self.form = one_of(self.name, "form", form, FORMS)
        self.warmup = checked(self.name, "warmup", warmup, most=1.0)
        self.cooldown = checked(self.name, "cooldown", cooldown, most=1.0)
        self._share = 1.0  # of the weight, at this step of training

    @property
    def settings(self) -> dict[str, Any]:
        return {"weight": self.weight, "form": self.form, "warmup": self.warmup, "cooldown": self.cooldown}

    @contextmanager
    def around_training(
        self, head: nn.Module, plan: TrainingPlan, generator: torch.Generator
    ) -> Iterator[Callable[[], None]]:
        done = 0

        def next_step() -> None:
            nonlocal done
            done += 1
            self._share = self._share_at(done / plan.steps)

        self._share = self._share_at(0.0)
        yield next_step
        self._share = 1.0

    def _share_at(self, passed: float) -> float:
        """Which share of the weight holds when a fraction of training has passed."""
        rising = passed / self.warmup if self.warmup else 1.0
        falling = (1 - passed) / self.cooldown if self.cooldown else 1.0
        return max(0.0, min(1.0, rising, falling))

    def training_loss(self, inputs: Tensor, activations: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        if len(inputs) < (4 if self.form == "unbiased" else 2):  # too few to have a distance, or an unbiased one
            return super().training_loss(inputs, activations, labels, generator)
        weight = self.weight * self._share
        if self.form == "unbiased":
            return weight * unbiased_distance_correlation(inputs, activations).clamp_min(0)
        measure = squared_distance_correlation if self.form == "squared" else distance_correlation
        return weight * measure(inputs, activations)
