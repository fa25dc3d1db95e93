"""Mutual information of two batches of vectors, from distances to nearest neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def entropy_bits(samples: Tensor, neighbour: int = 3) -> float:
    """Differential entropy in bits of the distribution behind samples (N, …), by Kozachenko and Leonenko (1987).

    −ψ(k) + ψ(N) + log V_d + d·⟨log r_k⟩ over the distance r_k to the k-th neighbour. Biased in many dimensions:
    compare what was estimated with the same N and d only. Samples that coincide count as 1e-10 apart.

    Raises:
        ValueError: not more than `neighbour` samples.
    """
    flat = samples.flatten(1).double()
    count, dimensions = flat.shape
    if count <= neighbour:
        raise ValueError(f"expected more than {neighbour} samples, got {count}; give more or a smaller neighbour")
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    radii = distances.kthvalue(neighbour + 1, dim=1).values.clamp_min(1e-10)  # the nearest of all is itself
    from scipy.special import digamma, gammaln  # takes a quarter of a second, which every command would wait for

    ball = 0.5 * dimensions * math.log(math.pi) - gammaln(dimensions / 2 + 1)
    nats = digamma(count) - digamma(neighbour) + ball + dimensions * float(radii.log().mean())
    return float(nats / math.log(2))


def mutual_information_bits(first: Tensor, second: Tensor, neighbour: int = 3) -> float:
    """H(X) + H(Z) − H(X, Z) in bits for paired samples (N, …) and (N, …), each entropy from nearest neighbours.

    Raises:
        ValueError: batches of different size, or too few samples.
    """
    if len(first) != len(second):
        raise ValueError(f"expected pairs, got {len(first)} and {len(second)} samples")
    # Mutual information changes neither with units nor with constants added; so both count alike in joint distances.
    x, z = (_centred(batch) for batch in (first, second))
    joint = entropy_bits(torch.cat([x, z], 1), neighbour)
    return entropy_bits(x, neighbour) + entropy_bits(z, neighbour) - joint


def _centred(batch: Tensor) -> Tensor:
    flat = batch.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat / flat.square().mean().sqrt().clamp_min(1e-12)
