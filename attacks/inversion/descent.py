"""Where the head bends, the image is searched step by step, all victims at once and each at its own pace."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.attack import Progress
from attacks.inversion.objective import Objective, per_victim
from attacks.inversion.priors.prior import value_range
from split_models.tensor_spec import TensorSpec

MOMENTUM, MEMORY = 0.9, 0.95
"""Adam's decay rates. Gradients shrink by orders of magnitude on the way: the usual memory of 0.999 for their size
slows the search down tenfold at a ReLU."""

WINDOW = 20
"""Steps between two looks at the progress."""

LEAST_GAIN = 0.02
"""A victim whose loss fell by less than this fraction over a window has its step halved."""

HALVINGS = 6
"""A victim whose step has been halved so often has converged."""

LOSS_FLOOR = 1e-13
"""Relative misfit that float32 cannot tell from none."""


def descend(
    objective: Objective,
    spec: TensorSpec,
    *,
    iterations: int,
    step: float,
    progress: Progress = lambda fraction: None,
) -> tuple[Tensor, Tensor, int]:
    """Images (N, C, H, W), each one's loss (N,), and the steps that were taken until the last victim converged.

    Adam with a first step of `step` times the range of pixel values, projected onto that range. Each victim keeps the
    iterate with the lowest of the attacker's own loss, shortens its steps when that stops falling, and leaves the batch
    when it has converged, at the latest after `iterations`. No victim's result depends on its neighbours, unless the
    head says that its batch stays together; then the last to converge ends the search.
    """
    low, high = value_range(spec)
    step = step * (high - low) * objective.prior.step
    count = len(objective.activations)
    found, losses = objective.begun.clone(), objective.activations.new_full((count,), torch.inf)
    rows, now = torch.arange(count, device=objective.activations.device), _State.at(objective.begun, step)
    taken = 0
    while len(rows) and taken < iterations:
        before = now.best_loss.clone()
        for _ in range(min(WINDOW, iterations - taken)):
            taken += 1
            now.advance(objective, taken, low, high)
        found[rows], losses[rows] = now.best, now.best_loss
        going = ~now.converged(before, step)
        if not going.any():
            break
        if not going.all() and not getattr(objective.head, "keeps_batch", False):
            rows, objective = rows[going], objective.of(going)
            now = now.of(going)
        progress(taken / iterations)
    with torch.no_grad():
        return objective.prior.images(found), losses, taken


class _State:
    """Adam's state for each victim, and the best it has come by."""

    def __init__(self, *tensors: Tensor) -> None:
        self.variables, self.mean, self.square, self.step, self.best, self.best_loss = tensors

    @classmethod
    def at(cls, begun: Tensor, step: float) -> _State:
        nothing, each = torch.zeros_like(begun), begun.new_ones(len(begun))
        return cls(begun.clone(), nothing, nothing, step * each, begun.clone(), torch.inf * each)

    def of(self, rows: Tensor) -> _State:
        return _State(*(tensor[rows] for tensor in self.__dict__.values()))

    def advance(self, objective: Objective, number: int, low: float, high: float) -> None:
        """Judge where each victim is, then take its step number `number`, from 1."""
        at = self.variables.requires_grad_()
        loss = objective(at)
        (gradient,) = torch.autograd.grad(loss.sum(), at)
        at, loss = at.detach(), loss.detach()
        better = loss < self.best_loss
        self.best = torch.where(per_victim(better, at), at, self.best)
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.mean = MOMENTUM * self.mean + (1 - MOMENTUM) * gradient
        self.square = MEMORY * self.square + (1 - MEMORY) * gradient.square()
        size = (self.square / (1 - MEMORY**number)).sqrt() + 1e-12
        self.variables = at - per_victim(self.step, at) * (self.mean / (1 - MOMENTUM**number)) / size
        if objective.prior.of_pixels:
            self.variables = self.variables.clamp(low, high)

    def converged(self, before: Tensor, first_step: float) -> Tensor:
        """Which victims are done; halves the step of those that came no further than `before`, their earlier loss."""
        stuck = self.best_loss > (1 - LEAST_GAIN) * before
        self.step = torch.where(stuck, self.step / 2, self.step)
        return (self.step < first_step / 2 ** (HALVINGS - 0.5)) | (self.best_loss < LOSS_FLOOR)
