"""Distance correlation of two batches: how far one can be told from the other, in any dimensions
(Székely, Rizzo and Bakirov, Annals of Statistics 2007; the unbiased form: Székely and Rizzo, 2014).

With distances |xᵢ - xⱼ| and |zᵢ - zⱼ|, less the means of their rows and columns, as matrices A and B:
dCor² = ⟨A, B⟩ / (‖A‖ ‖B‖), which Vepakomma et al. (2020) train against.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


def distance_correlation(first: Tensor, second: Tensor) -> Tensor:
    """The biased V-statistic over true Euclidean distances, as a loss: (N, …) and (N, …) → a scalar in [0, 1].

    Differentiable once, also where samples coincide; needs some N×N matrices and never an N×N×D one. It is far above 0
    for independent batches of few samples in many dimensions: read `unbiased_distance_correlation` beside it.

    Raises:
        ValueError: batches of different or fewer than 2 samples.
    """
    # The root has an infinite slope at 0, where a constant batch is.
    return _correlation(first, second, 2).clamp_min(_LEAST**2).sqrt()


def unbiased_distance_correlation(first: Tensor, second: Tensor) -> Tensor:
    """The bias-corrected squared distance correlation (U-centred): about 0 for independent batches, may be negative.

    (N, …) and (N, …) → a scalar of at most 1. Differentiable once.

    Raises:
        ValueError: batches of different or fewer than 4 samples.
    """
    return _correlation(first, second, 4, hollow=True)


# The least distance correlation, and the least spread of distances, that is told from 0.
_LEAST = 1e-6


def _correlation(first: Tensor, second: Tensor, least: int, hollow: bool = False) -> Tensor:
    if len(first) != len(second) or len(first) < least:
        raise ValueError(
            f"expected two batches of the same {least} or more samples, got {len(first)} and {len(second)}"
        )
    correlation: Tensor = _Correlation.apply(_rows(first), _rows(second), hollow)  # type: ignore[no-untyped-call]
    return correlation


def _rows(batch: Tensor) -> Tensor:
    return batch.flatten(1) if batch.ndim > 1 else batch[:, None]


class _Correlation(torch.autograd.Function):
    """dCor² of two batches (N, D), or its hollow (unbiased) form, and its gradient in closed form.

    With A and B scaled to a length of 1, r = ⟨A, B⟩ has the slope (A - r B) / ‖B‖ along B, and along the distances of z
    what is left of it, G, when means are taken off once more, since that is an orthogonal projection. With
    W = G / distances, 0 where samples coincide (no slope, and 0 is a subgradient), ∂r/∂z = 2 (diag(W 1) - W) z.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, hollow: bool) -> Tensor:
        x, z = _side(first, hollow), _side(second, hollow)
        r = (x.unit * z.unit).sum()
        kept: list[Tensor | None] = []
        for needed, own, other in zip(ctx.needs_input_grad, (x, z), (z, x), strict=False):
            kept += [own.points, _pulls(own, other, r, hollow)] if needed else [None, None]
        ctx.save_for_backward(*kept)
        return r

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "expected one derivative, got create_graph=True: distance correlation has no second"
            )
        x, x_pulls, z, z_pulls = ctx.saved_tensors
        along_x = None if x is None else (gradients[0] * x_pulls) @ x
        along_z = None if z is None else (gradients[0] * z_pulls) @ z
        return along_x, along_z, None


class _Side(NamedTuple):
    points: Tensor  # (N, D), around 0
    distances: Tensor  # (N, N)
    unit: Tensor  # the distances less their means, scaled to a length of 1
    length: Tensor  # which that had before


def _side(batch: Tensor, hollow: bool) -> _Side:
    points = batch - batch.mean(0)
    distances = _distances(points)
    rest = _less_means(distances, hollow)
    length = (rest * rest).sum().sqrt().clamp_min(_LEAST * len(rest))
    return _Side(points, distances, rest.div_(length), length)


def _pulls(own: _Side, other: _Side, r: Tensor, hollow: bool) -> Tensor:
    """2 (diag(W 1) - W), as `_Correlation` says: (N, N)."""
    slopes = _less_means((other.unit - r * own.unit).type_as(own.unit), hollow).mul_(-2 / own.length)
    pulls = slopes.div_(own.distances).nan_to_num_(0, 0, 0)
    pulls.diagonal().sub_(pulls.sum(1))
    return pulls


def _less_means(square: Tensor, hollow: bool) -> Tensor:
    """A symmetric matrix less the means of its rows and columns; if hollow, with a diagonal that stays 0."""
    count = len(square)
    means = square.sum(1) / (count - 2 * hollow)
    means -= means.sum() / (2 * (count - hollow))  # half of the mean of all, which rows and columns both take off
    rest = (square - means).sub_(means[:, None])
    return rest.fill_diagonal_(0) if hollow else rest


def _distances(points: Tensor) -> Tensor:
    """Distances of all pairs (N, D) → (N, N), through one matrix product.

    torch.cdist is exact without that product, and then takes as long as training a network; with it, small distances
    are lost to cancellation. Here they are the only ones that are computed without.
    """
    products = _products(points)
    sums = products.diagonal() + products.diagonal()[:, None]
    squared = torch.sub(sums, products, alpha=2)
    distances = squared.sqrt()
    margins = squared.sub_(sums, alpha=torch.finfo(points.dtype).eps ** (1 / 3)).fill_diagonal_(0)
    if margins.min() < 0:
        close = (margins < 0).any(1)
        exact = torch.cdist(points[close], points, compute_mode="donot_use_mm_for_euclid_dist")
        distances[close], distances[:, close] = exact, exact.T
    return distances


def _products(points: Tensor) -> Tensor:
    """Inner products of all pairs, each computed once: a strip of columns at a time, from the diagonal down."""
    count = len(points)
    products = points.new_empty(count, count)
    for start in range(0, count, _STRIP):
        strip, below = slice(start, start + _STRIP), slice(start + _STRIP, None)
        torch.mm(points[start:], points[strip].T, out=products[start:, strip])
        products[strip, below] = products[below, strip].T
    return products


_STRIP = 32  # narrower strips save more products, and each takes longer
