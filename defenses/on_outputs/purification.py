"""Prediction purification: scores pass a small auto-encoder that loses what tells inputs apart (Yang et al. 2020)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, nll_loss

from defenses.defense import DefenseError
from defenses.output_defense import OutputDefense
from defenses.settings import checked, positive, whole
from split_models.randomness import layers_from
from split_models.training import batches


class Purification(OutputDefense):
    """Learns G to minimise ‖G(s) − s‖² + label_weight · CE(G(s), argmax s) on the host's own inputs.

    Layers of 2 · code, code and 2 · code units with batch normalisation; published for ten classes: 7, 4 and 7.
    With `adversarial` above 0 it also learns to defeat an inverter that is trained beside it to recover the inputs
    from G(s): adversarial · its error is subtracted.
    """

    name = "purification"
    learns = True

    def __init__(
        self,
        *,
        label_weight: float = 0.1,
        adversarial: float = 0.0,
        code: int = 4,
        epochs: int = 60,
        learning_rate: float = 3e-3,
    ) -> None:
        super().__init__()
        self.label_weight = checked(self.name, "label_weight", label_weight)
        self.adversarial = checked(self.name, "adversarial", adversarial)
        self.code, self.epochs = whole(self.name, "code", code), whole(self.name, "epochs", epochs)
        self.learning_rate = positive(self.name, "learning_rate", learning_rate)
        self.purifier: nn.Sequential | None = None

    @property
    def settings(self) -> dict[str, Any]:
        names = ("label_weight", "adversarial", "code", "epochs", "learning_rate")
        return {name: getattr(self, name) for name in names}

    def fit(self, inputs: Tensor, scores: Tensor, generator: torch.Generator) -> None:
        with layers_from(generator):
            self.purifier = _layers(
                scores.shape[1], 2 * self.code, self.code, 2 * self.code, scores.shape[1], norm=True
            )
            inverter = _layers(scores.shape[1], 64, 64, inputs[0].numel())
        wanted = inputs.flatten(1)
        spread = wanted.std().clamp_min(1e-6)  # so that `adversarial` means the same whatever the inputs' units
        wanted = (wanted - wanted.mean()) / spread
        steps = [torch.optim.Adam(part.parameters(), self.learning_rate) for part in (self.purifier, inverter)]
        # Without it the last steps leave labels changed that a narrow code can keep.
        annealing = torch.optim.lr_scheduler.CosineAnnealingLR(steps[0], self.epochs)
        for _ in range(self.epochs):
            for rows in batches(len(scores), 64, generator):
                purified = self._logits(scores[rows]).log_softmax(1)
                if self.adversarial:
                    _step(steps[1], mse_loss(inverter(purified.detach()), wanted[rows]))
                loss = mse_loss(purified.exp(), scores[rows])
                loss = loss + self.label_weight * nll_loss(purified, scores[rows].argmax(1))
                if self.adversarial:
                    loss = loss - self.adversarial * mse_loss(inverter(purified), wanted[rows])
                _step(steps[0], loss)
            annealing.step()
        self.purifier.eval().requires_grad_(False)

    def _logits(self, scores: Tensor) -> Tensor:
        if self.purifier is None:
            raise DefenseError(f"{self.name} has learnt nothing yet; fit it on the host's own inputs first")
        told: Tensor = self.purifier(scores.float().clamp_min(1e-6).log())
        return told

    def _protect(self, scores: Tensor, generator: torch.Generator) -> Tensor:
        return self._logits(scores).softmax(1).to(scores.dtype)


def _layers(*widths: int, norm: bool = False) -> nn.Sequential:
    every: list[nn.Module] = []
    for before, after in pairwise(widths):
        every += [nn.Linear(before, after), nn.BatchNorm1d(after) if norm else nn.Identity(), nn.ReLU()]
    return nn.Sequential(*every[:-2])


def _step(optimizer: torch.optim.Adam, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
