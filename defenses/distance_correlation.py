"""Distance correlation of two batches: how far one can be told from the other, in any dimensions
(Székely, Rizzo and Bakirov, Annals of Statistics 2007; the unbiased form: Székely and Rizzo, 2014).

With distances |xᵢ - xⱼ| and |zᵢ - zⱼ|, less the means of their rows and columns, as matrices A and B:
dCor² = ⟨A, B⟩ / (‖A‖ ‖B‖), which Vepakomma et al. (2020) train against.
"""

from __future__ import annotations

from typing import Any

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


def squared_distance_correlation(first: Tensor, second: Tensor) -> Tensor:
    """The biased statistic over *squared* distances, as Titcombe et al. release it: (N, …) and (N, …) → [0, 1].

    It is a function of inner products alone, the root of the RV coefficient (linear CKA), and 0 for what depends on
    the inputs without being correlated with them. Differentiable, also where samples coincide.

    Raises:
        ValueError: batches of different or fewer than 2 samples.
    """
    a, b = map(_unit_products, _paired(first, second, 2))
    return (a * b).sum().clamp_min(_LEAST**2).sqrt()


# The least distance correlation, and the least spread of distances, that is told from 0.
_LEAST = 1e-6


def _correlation(first: Tensor, second: Tensor, least: int, hollow: bool = False) -> Tensor:
    correlation: Tensor = _Correlation.apply(*_paired(first, second, least), hollow)  # type: ignore[no-untyped-call]
    return correlation


def _paired(first: Tensor, second: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Two batches of at least so many samples, as rows (N, D) of one dtype."""
    if len(first) != len(second) or len(first) < least:
        raise ValueError(
            f"expected two batches of the same {least} or more samples, got {len(first)} and {len(second)}"
        )
    dtype = torch.promote_types(first.dtype, second.dtype)
    return _rows(first).to(dtype), _rows(second).to(dtype)


def _rows(batch: Tensor) -> Tensor:
    return batch.flatten(1) if batch.ndim > 1 else batch[:, None]


def _unit_products(rows: Tensor) -> Tensor:
    """Squared distances less the means of rows and columns are -2 times these inner products: (N, N), of length 1."""
    centred = rows - rows.mean(0)
    products = centred @ centred.T
    unit: Tensor = products / products.norm().clamp_min(_LEAST**2 * len(rows))
    return unit


class _Correlation(torch.autograd.Function):
    """dCor² of two batches (N, D), or its hollow (unbiased) form, and its gradient in closed form.

    With A and B scaled to a length of 1, r = ⟨A, B⟩ has the slope (A - r B) / ‖B‖ along B, and along the distances of z
    what is left of it, G, when means are taken off once more, since that is an orthogonal projection. With
    W = G / distances, 0 where samples coincide (no slope, and 0 is a subgradient), ∂r/∂z = 2 (diag(W 1) - W) z.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, hollow: bool) -> Tensor:
        batches = first - first.mean(0), second - second.mean(0)
        distances = _distances(*batches)
        units = _less_means(distances, hollow)
        lengths = (units * units).sum((1, 2)).sqrt().clamp_min(_LEAST * len(first))
        units.div_(lengths[:, None, None])
        r = (units[0] * units[1]).sum()
        kept: list[Tensor | None] = []
        for side in (0, 1):
            if ctx.needs_input_grad[side]:
                slopes = _less_means(units[1 - side] - r * units[side], hollow).mul_(-2 / lengths[side])
                kept += [batches[side], _pulls(slopes, distances[side])]
            else:
                kept += [None, None]
        ctx.save_for_backward(*kept)
        return r

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "expected one derivative, got create_graph=True: distance correlation has no second"
            )
        x, x_pulls, z, z_pulls = ctx.saved_tensors
        along_x = None if x is None else _inner(gradients[0] * x_pulls, x.T)
        along_z = None if z is None else _inner(gradients[0] * z_pulls, z.T)
        return along_x, along_z, None


def _pulls(slopes: Tensor, distances: Tensor) -> Tensor:
    """From -2 G the matrix 2 (diag(W 1) - W) that `_Correlation` means: (N, N)."""
    pulls = slopes.div_(distances).nan_to_num_(0, 0, 0)
    pulls.diagonal().sub_(pulls.sum(1))
    return pulls


def _less_means(squares: Tensor, hollow: bool) -> Tensor:
    """Symmetric matrices (…, N, N) less the means of rows and columns; if hollow, with diagonals that stay 0."""
    count = squares.shape[-1]
    means = squares.sum(-1, keepdim=True) / (count - 2 * hollow)
    means -= means.sum(-2, keepdim=True) / (2 * (count - hollow))  # half of the mean of all, taken off twice
    rest = (squares - means).sub_(means.mT)
    if hollow:
        rest.diagonal(dim1=-2, dim2=-1).zero_()
    return rest


def _distances(*batches: Tensor) -> Tensor:
    """Distances of all pairs, two batches (N, D) around 0 → (2, N, N), through one matrix product each.

    torch.cdist is exact without that product, and then takes as long as training a network; with it, small distances
    are lost to cancellation. Here they are the only ones that are computed without.
    """
    products = torch.stack([_inner(points, points) for points in batches])
    energies = products.diagonal(dim1=1, dim2=2)
    sums = energies[:, None] + energies[:, :, None]
    squared = torch.sub(sums, products, alpha=2)
    distances = squared.sqrt()
    margins = squared.sub_(sums, alpha=torch.finfo(sums.dtype).eps ** (1 / 3))
    margins.diagonal(dim1=1, dim2=2).zero_()
    if margins.min() < 0:
        for points, near, found in zip(batches, (margins < 0).any(2), distances, strict=True):
            exact = torch.cdist(points[near], points, compute_mode="donot_use_mm_for_euclid_dist")
            found[near], found[:, near] = exact, exact.T
    return distances


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of the rows of two matrices: (N, D) and (M, D) → (N, M)."""
    if _ONEDNN and left.device.type == "cpu" and left.dtype == torch.float32:
        inner: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
        return inner
    return left @ right.T


# torch's own products go through MKL, which keeps to half of the width of some makers' processors; oneDNN, which its
# convolutions go through, takes what it finds. (A public call that reaches it would first copy into its own layout.)
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
