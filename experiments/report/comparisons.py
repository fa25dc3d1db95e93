"""Paired comparisons and what defenses are worth at equal cost: the tables of a study."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.record import Record
from experiments.report.plots import family
from experiments.report.pooling import alike, measured, pooled, within
from experiments.report.wording import NOTHING, interval, value
from experiments.statistics import (
    Column,
    Comparison,
    Summary,
    compare,
    cross_fitted,
    holm,
    hypervolume,
    largest,
    over_seeds,
)

DROPS = (0.01, 0.03, 0.05)
"""Accuracy, as fractions, that a defense may cost where defenses are compared at equal cost."""


@dataclass(frozen=True)
class Compared:
    """One question: does the strongest attack see less here than there?"""

    cut: str
    one: str
    other: str
    difference: str
    p: str
    seeds: int
    answer: str


@dataclass(frozen=True)
class Worth:
    """One defense over its strengths at one cut: the worst-case SSIM it leaves at each allowed drop, and its area."""

    cut: str
    name: str
    strengths: int
    at: list[str]
    area: str


def comparisons(records: Sequence[Record]) -> list[Compared]:
    """Every defense against none at its cut; with one defense each cut against the one before it; Holm over all.

    Each side is attacked by what leaks most there, which may be another attack on either side, and is chosen on other
    seeds (with one seed: other victims) than it is judged by.
    """
    questions = [(cut, one, other, found) for cut, one, other, *sides in _pairs(records) if (found := _asked(*sides))]
    corrected = holm([found.p for *_, found in questions])
    return [
        Compared(
            cut,
            one,
            other,
            f"{found.difference.mean:+.2f} {interval('ssim', found.difference)}".replace("-", "\u2212"),
            "< 0.001" if p < 0.001 else f"{p:.3f}",
            found.seeds,
            "leaks less" if p < 0.05 and found.difference.mean < 0 else "leaks more" if p < 0.05 else "undecided",
        )
        for (cut, one, other, found), p in zip(questions, corrected, strict=True)
    ]


def worths(records: Sequence[Record]) -> list[Worth]:
    """Every defense that was measured beside none at the same cut.

    Which strength leaves least to its strongest attacker is chosen as attacks are: on other seeds or victims.
    """
    cuts: dict[str, dict[str, list[Strength]]] = {}
    for whole, members in zip(pooled(records), alike(records), strict=True):
        if columns := measured(members):
            strength = Strength(whole, [int(record.scenario["seed"]) for record in members], columns)
            cuts.setdefault(whole.cut, {}).setdefault(family(whole.defense), []).append(strength)
    return [
        _worth(cut, name, strengths)
        for cut, families in cuts.items()
        if len(families) > 1
        for name, strengths in families.items()
    ]


@dataclass(frozen=True)
class Strength:
    """One strength of a defense: its pooled record, and attack → for each of its seeds one SSIM a victim."""

    record: Record
    seeds: list[int]
    columns: dict[str, list[Column]]


def _worth(cut: str, name: str, strengths: list[Strength]) -> Worth:
    leaks = [float(np.mean([c.mean() for c in cross_fitted(one.columns).columns])) for one in strengths]
    points = [(one.record.utility.accuracy_defended, leak) for one, leak in zip(strengths, leaks, strict=True)]
    chance = (1.0 / strengths[0].record.dataset.get("classes", 2), 1.0)
    # A drop of a thousandth more is rounding of a test part, not a price.
    affordable = ([one for one in strengths if one.record.utility.drop <= drop + 1e-3] for drop in DROPS)
    at = [
        f"{value('ssim', least.mean)} {interval('ssim', least)}" if (least := _least(some)) else NOTHING
        for some in affordable
    ]
    return Worth(cut, name, len(strengths), at, f"{hypervolume(points, chance):.3f}")


def _least(strengths: Sequence[Strength]) -> Summary | None:
    """What the strongest attacker reaches against the strength that leaves it least; over the seeds that all have."""
    seeds = [seed for seed in strengths[0].seeds if all(seed in one.seeds for one in strengths)] if strengths else []
    if not seeds:
        return None
    options = {
        (number, attack): [columns[one.seeds.index(seed)] for seed in seeds]
        for number, one in enumerate(strengths)
        for attack, columns in one.columns.items()
    }
    return within("ssim", over_seeds(cross_fitted(options, _least_to_the_strongest).columns))


def _least_to_the_strongest(means: Mapping[tuple[int, str], float]) -> tuple[int, str]:
    """Of each strength's strongest attack, with their numbers, the one with the smallest mean."""
    numbers = dict.fromkeys(number for number, _ in means)
    strongest = [largest({option: means[option] for option in means if option[0] == number}) for number in numbers]
    return min(strongest, key=lambda option: means[option])


def _pairs(records: Sequence[Record]) -> Iterator[tuple[str, str, str, list[Record], list[Record]]]:
    """Cut, what is compared with what, and the records of both sides."""
    both = list(zip(pooled(records), alike(records), strict=True))
    bare = {one.cut: members for one, members in both if one.defense == "none"}
    if len({one.defense for one, _ in both}) == 1:
        for (before, those), (here, these) in itertools.pairwise(both):
            if before.scenario.get("data") == here.scenario.get("data"):  # else victims are others
                yield here.defense, here.cut, before.cut, these, those
        return
    for one, members in both:
        if one.defense != "none" and one.cut in bare:
            yield one.cut, one.defense, "no defense", members, bare[one.cut]


def _asked(one: Sequence[Record], other: Sequence[Record]) -> Comparison | None:
    """The comparison over the seeds and victims that both sides have; None where no attack ran on all of them."""
    ours, theirs = ({int(record.scenario["seed"]): record for record in side} for side in (one, other))
    seeds = [seed for seed in ours if seed in theirs]
    victims = [sorted(_numbers(ours[seed]) & _numbers(theirs[seed])) for seed in seeds]
    if not all(victims):
        return None
    sides = [measured([side[seed] for seed in seeds], victims=victims) for side in (ours, theirs) if seeds]
    return compare(*(cross_fitted(side).columns for side in sides)) if sides and all(sides) else None


def _numbers(record: Record) -> set[int]:
    return {victim.index for victim in record.victims}
