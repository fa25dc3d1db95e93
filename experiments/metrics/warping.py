"""How far apart two series are when time may be stretched: dynamic time warping, by dtaidistance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from dtaidistance import dtw, dtw_ndim
from torch import Tensor


def dynamic_time_warping(truth: Tensor, series: Tensor) -> npt.NDArray[np.float64]:
    """The cost of the cheapest alignment of each pair of series (N, C, L) and (N, C, M): (N,), 0 for equal ones.

    The sum of distances between aligned samples, in the units of the series (Sakoe and Chiba 1978; no window, no
    normalisation by length). Channels are stretched together.

    Raises:
        ValueError: not as many series, or channels, on both sides.
    """
    if truth.ndim != 3 or series.ndim != 3 or truth.shape[:2] != series.shape[:2]:
        raise ValueError(f"expected series (N, C, L) in pairs, got {tuple(truth.shape)} and {tuple(series.shape)}")
    pairs = zip(*(np.ascontiguousarray(side.double().numpy().swapaxes(1, 2)) for side in (truth, series)), strict=True)
    return np.array([_cost(first, second) for first, second in pairs])


def _cost(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    if first.shape[1] == 1:
        return float(dtw.distance_fast(first[:, 0], second[:, 0], inner_dist="euclidean"))
    return float(dtw_ndim.distance_fast(first, second, inner_dist="euclidean"))
