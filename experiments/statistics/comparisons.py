"""Is one defense, cut or attack better than another? Paired over the same victims, corrected for many questions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from experiments.statistics.intervals import Column, Summary, over_seeds


class Comparison(BaseModel):
    """One minus other, over pairs: mean with its 95 % interval, and the chance of it if there is none."""

    difference: Summary
    p: float
    seeds: int  # with 1, pairs are victims and p says nothing about other training seeds


def compare(one: Sequence[Column], other: Sequence[Column]) -> Comparison:
    """Compare two conditions that were measured on the same victims: for each seed (N,), in the same order.

    A t-test over the mean differences of the seeds, because victims of one training are not independent trainings;
    with a single seed over its victims, which then is a statement about that one network.

    Raises:
        ValueError: other seeds or victims on either side.
    """
    if [len(column) for column in one] != [len(column) for column in other]:
        raise ValueError(
            f"expected the same victims on both sides, got {[len(c) for c in one]} and {[len(c) for c in other]}"
        )
    differences = [np.asarray(a) - np.asarray(b) for a, b in zip(one, other, strict=True)]
    units = differences[0] if len(differences) == 1 else np.array([column.mean() for column in differences])
    return Comparison(difference=over_seeds(differences), p=_chance(units), seeds=len(differences))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): p-values that keep the chance of any false finding below what is read off."""
    count = len(p_values)
    corrected, largest = [0.0] * count, 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        corrected[int(index)] = largest
    return corrected


def _chance(units: Column) -> float:
    if len(units) < 2:
        return 1.0
    if np.ptp(units) <= 1e-9 * np.abs(units).max():  # the test divides by the spread, which here is rounding
        return 0.0 if units.any() else 1.0
    from scipy.stats import ttest_1samp  # takes half a second, which every command would wait for

    return float(ttest_1samp(units, 0.0).pvalue)
