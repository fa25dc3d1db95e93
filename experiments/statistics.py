"""Intervals: what a mean over victims is worth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from scipy.stats import bootstrap

RESAMPLES = 2000
CONFIDENCE = 0.95


class Summary(BaseModel):
    """A mean over victims with its 95 % bootstrap interval, and percentiles: the worst-hit victims matter."""

    mean: float
    low: float
    high: float
    percentiles: dict[str, float]


def summarise(values: npt.NDArray[np.float64], seed: int = 0) -> Summary:
    """Summarise one value per victim (N,); with a single victim the interval is that value alone.

    The interval is a percentile bootstrap over victims of one training seed: it says nothing about other seeds.
    """
    mean = float(np.mean(values))
    low = high = mean
    if len(values) > 1 and np.ptp(values) > 0:
        interval = bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    percentiles = {str(p): float(np.percentile(values, p)) for p in (5, 25, 50, 75, 95)}
    return Summary(mean=mean, low=low, high=high, percentiles=percentiles)
