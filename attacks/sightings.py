"""What repeated sightings of one input say together about its activation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def average(sightings: Tensor) -> Tensor:
    """The mean over repeats, (N, repeats, *shape) → (N, *shape).

    An element that is exactly 0 in some sightings of an input and not in others was masked there: zeros are left out.
    """
    if sightings.shape[1] == 1:
        return sightings[:, 0]
    seen = (sightings != 0).sum(1)
    return sightings.sum(1) / seen.clamp_min(1)


def middle(sightings: Tensor) -> Tensor:
    """The median over repeats, with masked elements left out as in `average`: the best for heavy tails (Laplace)."""
    values = sightings.where(sightings != 0, torch.inf).sort(1).values
    seen = (sightings != 0).sum(1, keepdim=True)
    lower, upper = (values.gather(1, rank.clamp_min(0)) for rank in ((seen - 1) // 2, seen // 2))
    return ((lower + upper) / 2).where(seen > 0, 0.0)[:, 0]


MERGES: dict[str, Callable[[Tensor], Tensor]] = {"average": average, "median": middle}
