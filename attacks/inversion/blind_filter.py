"""A convolution told from what it answered to unknown images: blind identification by statistics of second order.

Each activation is a filter W times a patch of the image, so activations vary with their neighbours as W P W', where P
says how patches of images do. One distance between neighbours leaves W open up to a rotation; several tell the rotation
up to its sign (in the line of Belouchrani et al., A blind source separation technique using second-order statistics,
IEEE Transactions on Signal Processing 1997).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

DISTANCES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2))
"""Down and right, between neighbours."""

REACH = 2

NOTHING = 1e-10
"""Variance, relative to the largest, that rounding alone leaves where a filter has no further inputs."""

MOST_INPUTS = 49
"""Pixels of a patch; the system that the rotation solves has their square for its unknowns."""

ROUNDS = 200
"""Steps by which the rotation is improved; each takes next to nothing."""

GROUP = 128
"""Images at a time, which bounds memory."""


@dataclass(frozen=True)
class BlindFilter:
    """An unpadded convolution that answers like the observed one, up to the sign of all of its weights.

    `padding` is how many pixels beyond the border the observed one saw; `residual` what of the observed statistics,
    as a fraction, it does not explain.
    """

    layer: nn.Conv2d
    padding: int
    residual: float

    def inside(self, activations: Tensor) -> Tensor:
        """Those activations (N, C, H, W) that saw nothing from beyond the border."""
        return _inside(activations, self.padding)

    def padded(self) -> nn.Module:
        """The same with as large an output as was observed: beyond the border, images are taken to go on."""
        return nn.Sequential(nn.ReplicationPad2d(self.padding), self.layer).eval()


def blind_filters(images: Tensor, observed: Tensor) -> list[BlindFilter]:
    """Both signs of the convolution that makes of images (N, C, H, W) what resembles the observed (M, D, H', W').

    An empty list where what was observed is not a convolution's, or of one with fewer channels than inputs: a patch has
    as many pixels as there are independent channels.
    """
    shape = _shape(images, observed)
    if shape is None:
        return []
    kernel, padding = shape
    patch, of_patches = _moments(images, kernel)
    answer, of_answers = _moments(_inside(observed, padding), 1)
    variances, axes = (part[..., -len(patch) :] for part in torch.linalg.eigh(of_answers[0]))
    whitened, coloured = (axes / variances.sqrt()).T, axes * variances.sqrt()
    pixels, ways = torch.linalg.eigh(of_patches[0])
    plain = (ways / pixels.clamp_min(NOTHING * float(pixels[-1])).sqrt()) @ ways.T
    turn, residual = _rotation(
        [plain @ moment @ plain for moment in of_patches[1:]],
        [whitened @ moment @ whitened.T for moment in of_answers[1:]],
    )
    weight = coloured @ turn @ plain
    return [BlindFilter(_layer(sign * weight, patch, answer, kernel), padding, residual) for sign in (1, -1)]


def _shape(images: Tensor, observed: Tensor) -> tuple[int, int] | None:
    """Side of a patch, and padding, as the number of independent channels and the size of a map tell them."""
    if images.ndim != 4 or observed.ndim != 4:
        return None
    _, (covariance,) = _moments(observed, 1, ())
    variances = torch.linalg.eigvalsh(covariance)
    rank, channels = int((variances > NOTHING * variances[-1]).sum()), images.shape[1]
    kernel = math.isqrt(rank // channels)
    if not 0 < rank <= MOST_INPUTS or rank == observed.shape[1] or rank != kernel**2 * channels:
        return None
    lost = {before - after for before, after in zip(images.shape[2:], observed.shape[2:], strict=True)}
    padding, odd = divmod(kernel - 1 - max(lost), 2)
    fits = len(lost) == 1 and padding >= 0 and not odd and min(observed.shape[2:]) > 2 * padding + REACH
    return (kernel, padding) if fits else None


def _inside(activations: Tensor, padding: int) -> Tensor:
    high, wide = activations.shape[2:]
    return activations[..., padding : high - padding, padding : wide - padding]


def _layer(weight: Tensor, patch: Tensor, answer: Tensor, kernel: int) -> nn.Conv2d:
    """The convolution with weights (D, C·k·k), frozen, that answers the mean patch with the mean answer."""
    layer = nn.Conv2d(len(patch) // kernel**2, len(answer), kernel, device="meta").to_empty(device="cpu")
    layer.load_state_dict({"weight": weight.reshape(layer.weight.shape), "bias": answer - weight @ patch})
    return layer.eval().requires_grad_(False)


def _moments(
    maps: Tensor, kernel: int, distances: Sequence[tuple[int, int]] = DISTANCES
) -> tuple[Tensor, list[Tensor]]:
    """Mean of patches (P,), and their covariance with those at each distance, 0 first, (P, P); in double precision."""
    high, wide = (size - kernel + 1 for size in maps.shape[2:])
    sums = torch.stack([_patches(group, kernel).sum((1, 2, 3)) for group in maps.split(GROUP)])
    mean = sums.sum(0) / (len(maps) * high * wide)
    covariances = [torch.zeros(len(mean), len(mean)).to(mean) for _ in ((0, 0), *distances)]
    for group in maps.split(GROUP):
        # What varies is small beside the mean, so the mean goes first.
        centred = _patches(group, kernel) - mean[:, None, None, None]
        for number, (down, right) in enumerate(((0, 0), *distances)):
            here, there = centred[..., : high - down, : wide - right], centred[..., down:, right:]
            count = len(maps) * (high - down) * (wide - right)
            covariances[number] += here.flatten(1) @ there.flatten(1).T / count
    return mean, covariances


def _patches(maps: Tensor, kernel: int) -> Tensor:
    """(N, C, H, W) → (C·k·k, N, H-k+1, W-k+1)."""
    high, wide = (size - kernel + 1 for size in maps.shape[2:])
    patches: Tensor = unfold(maps.double(), kernel).unflatten(2, (high, wide)).transpose(0, 1)
    return patches


def _rotation(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[Tensor, float]:
    """The orthogonal Q, up to its sign, for which Q A Q' is nearest to B over pairs (A, B), and what it leaves of B.

    Q A = B Q is linear in Q: the least singular vector of that system begins, Procrustes steps improve it.
    """
    pairs, one = list(zip(ours, theirs, strict=True)), torch.eye(len(ours[0])).to(ours[0])
    system = torch.zeros(one.numel(), one.numel()).to(one)
    for a, b in pairs:
        system += torch.kron(one, a @ a.T + a.T @ a) + torch.kron(b @ b.T + b.T @ b, one)
        system -= 2 * (torch.kron(b, a) + torch.kron(b.T.contiguous(), a.T.contiguous()))
    turn = _orthogonal(torch.linalg.eigh(system)[1][:, 0].reshape(one.shape))
    for _ in range(ROUNDS):
        agreed = torch.stack([b @ turn @ a.T + b.T @ turn @ a for a, b in pairs]).mean(0)
        turn = _orthogonal(agreed + 2 * turn)
    left = torch.stack([(turn @ a @ turn.T - b).square().sum() for a, b in pairs]).sum()
    return turn, float(left / torch.stack([b.square().sum() for b in theirs]).sum())


def _orthogonal(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix."""
    left, _, right = torch.linalg.svd(matrix)
    found: Tensor = left @ right
    return found
