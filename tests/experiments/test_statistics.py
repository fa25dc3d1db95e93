"""Statistics against data whose truth is known: how often intervals cover it, how often a comparison is fooled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from experiments.statistics import compare, cross_fitted, holm, hypervolume, over_seeds, pareto_front, summarise

Draw = npt.NDArray[np.float64]


def _trainings(rng: np.random.Generator, seeds: int, victims: int, mean: float = 2.0, between: float = 1.0) -> Draw:
    """Seeds that differ from each other, and skewed victims within each: (seeds, victims)."""
    return mean + between * rng.normal(size=(seeds, 1)) + rng.exponential(1.0, size=(seeds, victims)) - 1


@pytest.mark.parametrize("seeds", [3, 5, 12])
@pytest.mark.parametrize("between", [0.02, 1.0], ids=["alike", "differing"])
def test_the_interval_over_seeds_covers_the_truth(seeds: int, between: float) -> None:
    rng = np.random.default_rng(seeds)
    hits = 0
    for trial in range(200):
        found = over_seeds(list(_trainings(rng, seeds, 60, between=between)), seed=trial)
        hits += found.low <= 2.0 <= found.high
    # Seeds that are alike make it wide, as victims then are resampled twice; differing ones are the hard case.
    assert hits / 200 >= 0.91
    assert between < 0.1 or hits / 200 <= 0.99


def test_victims_alone_would_be_too_sure_of_another_training() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        found = summarise(_trainings(rng, 5, 60).ravel(), seed=trial)
        hits += found.low <= 2.0 <= found.high
    assert hits / 200 < 0.7


def test_one_seed_is_summarised_over_its_victims() -> None:
    values = np.random.default_rng(2).exponential(size=30)
    assert over_seeds([values]) == summarise(values)


def test_seeds_weigh_alike_whatever_their_victims() -> None:
    assert over_seeds([[1.0] * 100, [3.0]]).mean == 2.0


def test_equal_values_have_no_interval() -> None:
    found = over_seeds([[0.5, 0.5], [0.5]])
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)


def test_percentiles_are_over_all_victims() -> None:
    found = over_seeds([np.arange(51.0), np.arange(50.0, 101.0)])
    assert found.percentiles["50"] == 50
    assert found.percentiles["95"] > 90


@pytest.mark.parametrize("seeds", [1, 3, 6])
def test_a_comparison_without_a_difference_is_fooled_in_one_of_twenty(seeds: int) -> None:
    rng = np.random.default_rng(10 + seeds)
    p_values = []
    for _ in range(400):
        common = _trainings(rng, seeds, 40)  # what both sides share does not matter
        # For another training the gap itself varies from seed to seed; for one seed it varies over victims alone.
        gap = rng.normal(size=(seeds, 1)) * (seeds > 1)
        p_values.append(compare(list(common + gap + rng.normal(size=common.shape)), list(common)).p)
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.085


def test_a_comparison_finds_what_is_there_since_it_is_paired() -> None:
    rng = np.random.default_rng(20)
    common = _trainings(rng, 4, 50, between=5.0)
    found = compare(list(common + 0.3 + 0.1 * rng.normal(size=common.shape)), list(common))
    assert found.p < 0.01
    assert found.difference.low < 0.3 < found.difference.high
    assert found.seeds == 4


def test_a_comparison_of_equals_and_of_a_constant_gap() -> None:
    values = np.arange(5.0)
    assert compare([values], [values]).p == 1
    assert compare([values + 1], [values]).p == 0
    assert compare([values[:1] + 1], [values[:1]]).p == 1, "one pair says nothing"


def test_other_victims_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same victims"):
        compare([np.zeros(3)], [np.zeros(4)])


def _attacks(rng: np.random.Generator, seeds: int, count: int) -> dict[int, list[Draw]]:
    """Attacks that are equally strong: every training favours some of them by chance."""
    return {n: list(_trainings(rng, seeds, 40, between=0.1 * (seeds > 1))) for n in range(count)}


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_strongest_of_equals_is_no_stronger_than_they_are(seeds: int) -> None:
    rng = np.random.default_rng(30 + seeds)
    picked, fitted = [], []
    for _ in range(300):
        attacks = _attacks(rng, seeds, 8)
        picked.append(max(np.mean([c.mean() for c in columns]) for columns in attacks.values()))
        fitted.append(np.mean([column.mean() for column in cross_fitted(attacks).columns]))
    assert np.mean(picked) > 2.05, "the data do flatter whoever picks on the victims it tests"
    assert abs(np.mean(fitted) - 2.0) < 0.02


@pytest.mark.parametrize("seeds", [1, 4])
def test_more_attackers_on_one_side_alone_do_not_fool_a_comparison(seeds: int) -> None:
    rng = np.random.default_rng(40 + seeds)
    p_values = []
    for _ in range(400):
        one, other = _attacks(rng, seeds, 8), _attacks(rng, seeds, 1)
        p_values.append(compare(cross_fitted(one).columns, cross_fitted(other).columns).p)
    assert np.mean(np.array(p_values) < 0.05) <= 0.085


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_attack_that_is_stronger_is_found(seeds: int) -> None:
    rng = np.random.default_rng(50)
    attacks = _attacks(rng, seeds, 5)
    attacks[3] = [column + 2 for column in attacks[3]]
    found = cross_fitted(attacks)
    assert set(found.chosen) == {3}
    assert all((ours == theirs).all() for ours, theirs in zip(found.columns, attacks[3], strict=True))


def test_each_part_is_judged_by_what_is_strongest_elsewhere() -> None:
    found = cross_fitted({"one": [np.array([9.0, 0, 9, 0])], "other": [np.array([1.0, 5, 1, 5])]})
    assert found.chosen == ["other", "one"]
    assert list(found.columns[0]) == [1, 0, 1, 0]
    by_seed = cross_fitted({"one": [np.zeros(2), np.ones(3)], "other": [np.full(2, 0.5), np.full(3, 0.5)]})
    assert by_seed.chosen == ["one", "other"]
    with pytest.raises(ValueError, match="same seeds and victims"):
        cross_fitted({"one": [np.zeros(2)], "other": [np.zeros(3)]})
    with pytest.raises(ValueError, match="same seeds and victims"):
        cross_fitted({})


def test_holm_against_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_finding() -> None:
    rng = np.random.default_rng(3)
    fooled = [min(holm(list(rng.uniform(size=8)))) < 0.05 for _ in range(2000)]
    assert 0.035 <= np.mean(fooled) <= 0.065


def test_the_front_holds_what_nothing_beats() -> None:
    points = [(0.9, 0.8), (0.8, 0.4), (0.85, 0.9), (0.7, 0.4), (0.6, 0.1), (0.9, 0.8)]
    assert pareto_front(points) == [0, 1, 4]
    assert pareto_front([]) == []


def test_the_hypervolume_of_known_staircases() -> None:
    assert hypervolume([(0.5, 0.5)], (0.0, 1.0)) == pytest.approx(0.25)
    assert hypervolume([(1.0, 0.5), (0.5, 0.0)], (0.0, 1.0)) == pytest.approx(0.75)
    assert hypervolume([(1.0, 0.5), (0.5, 0.0), (0.4, 0.6)], (0.0, 1.0)) == pytest.approx(0.75)
    assert hypervolume([(0.5, 1.5), (-0.5, 0.5)], (0.0, 1.0)) == 0
