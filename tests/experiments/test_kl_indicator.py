"""The KL indicator on distributions whose divergence is known (the simulation of Tanaka et al. 2020, table 1)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from experiments.metrics.kl_indicator import kl_indicator


def shifted(dimensions: int, count: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """N(1_d, I) and N(0, I): KL = d/2."""
    rng = np.random.default_rng(seed)
    return 1 + rng.normal(size=(count, dimensions)), rng.normal(size=(count, dimensions))


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_it_is_half_the_dimension_for_a_mean_of_one(dimensions: int) -> None:
    found = np.mean([kl_indicator(*shifted(dimensions, seed=seed)) for seed in range(4)])
    assert found == pytest.approx(dimensions / 2, rel=0.2, abs=0.05)


@pytest.mark.parametrize("dimensions", [50, 200])
def test_it_is_biased_low_in_many_dimensions_and_still_grows(dimensions: int) -> None:
    found = kl_indicator(*shifted(dimensions))
    assert 0.3 * dimensions / 2 < found < 0.95 * dimensions / 2
    assert found > 2 * kl_indicator(*shifted(dimensions // 5))


def test_a_kolmogorov_smirnov_test_says_whether_and_the_indicator_how_far() -> None:
    """Along the line between the means the test saturates: it is as sure at 50 dimensions as at 200."""
    statistics, estimates = [], []
    for dimensions in (50, 200):
        pair = shifted(dimensions, 400)
        statistics.append(ks_2samp(*(sample.sum(1) for sample in pair)).statistic)
        estimates.append(kl_indicator(*pair))
    assert min(statistics) > 0.99
    assert estimates[1] > 2 * estimates[0]


def inverted(private: np.ndarray, auxiliary: np.ndarray) -> np.ndarray:
    """What an inversion without fault finds: for each private output, the auxiliary sample that comes nearest to it.

    The output is the log-odds of N(1, I) against N(-1, I), which is 2 Σ x: all that a classifier tells of x.
    """
    order = np.argsort(auxiliary.sum(1))
    ranks = np.searchsorted(auxiliary.sum(1)[order], private.sum(1)).clip(0, len(order) - 1)
    return auxiliary[order[ranks]]


@pytest.mark.parametrize("dimensions", [1, 5, 10, 50, 100])
def test_the_published_contrast_is_in_what_is_found_and_not_in_the_two_distributions(dimensions: int) -> None:
    """Kolmogorov-Smirnov rejects for d ≥ 50 and not for d ≤ 10, as published: auxiliary samples with the private
    ones' outputs, at √d standard deviations from their own mean, are rare at 10 and not to be had at 50. The two
    Gaussians themselves it tells apart in any dimension."""
    private, _ = shifted(dimensions, 50)
    auxiliary = np.random.default_rng(1).normal(size=(50_000, dimensions))
    found = inverted(private, auxiliary)
    assert (ks_2samp(private.sum(1), found.sum(1)).pvalue < 0.05) == (dimensions >= 50)
    assert ks_2samp(private.sum(1), auxiliary.sum(1)).pvalue < 1e-3
    assert np.isfinite(kl_indicator(private, found))


def test_the_same_distribution_is_nothing_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 2000, 3))
    assert abs(kl_indicator(one, other)) < 0.1
    assert kl_indicator(one[::-1], rng.permutation(other)) == pytest.approx(kl_indicator(one, other))
    assert kl_indicator(one.reshape(2000, 3, 1), other.reshape(2000, 1, 3)) == kl_indicator(one, other)


def test_it_ranks_reconstructions_by_how_near_they_come() -> None:
    rng = np.random.default_rng(4)
    private = rng.normal(size=(400, 20))
    found = [kl_indicator(private, private + noise * rng.normal(size=private.shape)) for noise in (0.1, 1.0, 3.0)]
    assert found == sorted(found)
    collapsed = np.repeat(private[:1], 400, axis=0) + 1e-3 * rng.normal(size=private.shape)
    assert kl_indicator(private, collapsed) > kl_indicator(private, rng.normal(size=private.shape))


def test_duplicates_and_exact_copies_stay_finite() -> None:
    rng = np.random.default_rng(5)
    private = rng.normal(size=(50, 4))
    assert np.isfinite(kl_indicator(np.concatenate([private, private]), private))
    assert kl_indicator(private, private) < -10


def test_wrong_samples_are_errors() -> None:
    with pytest.raises(ValueError, match="expected samples of 3 numbers, got 4"):
        kl_indicator(np.zeros((5, 3)), np.zeros((5, 4)))
    with pytest.raises(ValueError, match="more than 2 private and at least 2 found"):
        kl_indicator(np.zeros((2, 3)), np.zeros((5, 3)), k=2)
