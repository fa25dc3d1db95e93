"""Where defenses of equal cost stand: what each leaves to its strongest attacker, and which of them are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.record import Record
from experiments.report.pooling import RANGES, alike, measured
from experiments.report.wording import interval, value
from experiments.scenario import Named
from experiments.statistics import Column, Comparison, Summary, compare, cross_fitted, holm, over_seeds

SIGNIFICANT = 0.05

Chosen = Mapping[float, Mapping[str, dict[str, object]]]
"""Drop → name of the comparison → the defense as a table."""


@dataclass(frozen=True)
class Standing:
    """One defense at one drop; the strongest attacks are chosen on other seeds than they are judged by."""

    drop: float
    name: str  # under which it is compared
    label: str  # with its settings
    cost: Summary  # accuracy lost on the seeds that are reported, as a fraction
    ssim: Summary
    identification: Summary
    attacks: list[str]  # by SSIM, one a seed
    columns: dict[int, Column]  # seed → SSIM of the strongest attack, one value a victim

    @property
    def strongest(self) -> str:
        """The attacks that were strongest, each once."""
        return " or ".join(dict.fromkeys(self.attacks))


@dataclass(frozen=True)
class Verdict:
    """All standings of one drop from the least leakage up, and what is to be said of them."""

    drop: float
    standings: list[Standing]
    sentences: list[str]


def verdicts(records: Sequence[Record], chosen: Chosen) -> list[Verdict]:
    """For each drop: which defense leaves least, from which others it is told apart, and which buy nothing."""
    groups = {group[0].defense: group for group in alike(records)}
    bare = standing(0.0, "none", groups["none"]) if "none" in groups else None
    found = []
    for drop, entries in chosen.items():
        named = [(name, Named.model_validate(table).label) for name, table in entries.items()]
        standings = [
            one for name, label in named if label in groups and (one := standing(drop, name, groups[label])) is not None
        ]
        standings.sort(key=lambda one: one.ssim.mean)
        found.append(Verdict(drop, standings, _sentences(drop, standings, bare)))
    return found


def standing(drop: float, name: str, group: Sequence[Record]) -> Standing | None:
    """What records that differ in their seed say of a defense; None where no attack ran on all of them."""
    columns = measured(group)
    if not columns:
        return None
    strongest = cross_fitted(columns)
    read = cross_fitted(measured(group, "identification"))
    return Standing(
        drop,
        name,
        group[0].defense,
        over_seeds([[record.utility.drop] for record in group]),
        _possible("ssim", over_seeds(strongest.columns)),
        _possible("identification", over_seeds(read.columns)),
        strongest.chosen,
        dict(zip((int(record.scenario["seed"]) for record in group), strongest.columns, strict=True)),
    )


def _possible(measure: str, summary: Summary) -> Summary:
    """An interval over few seeds, without what the measure cannot be."""
    least, most = RANGES[measure]
    return summary.model_copy(update={"low": max(summary.low, least), "high": min(summary.high, most)})


def _sentences(drop: float, standings: Sequence[Standing], bare: Standing | None) -> list[str]:
    if not standings:
        return [f"At {points(drop)} no defense was found."]
    return [_winner(drop, standings), *([_idle(standings, bare)] if bare else [])]


def _winner(drop: float, standings: Sequence[Standing]) -> str:
    best, *others = standings
    rivals = [
        one.name for one, told in zip(others, told_apart([(other, best) for other in others]), strict=True) if not told
    ]
    if not others:
        return f"At {points(drop)} only {best.label} was compared: it leaves {_leaves(best)}."
    if len(rivals) == len(others):
        return f"At {points(drop)} nothing separates the defenses; {best.label} has the smallest mean, {_leaves(best)}."
    beside = f"not told apart from {', '.join(rivals)}" if rivals else "less than every other"
    return f"At {points(drop)} {best.label} leaves least, {beside}: {_leaves(best)}."


def _idle(standings: Sequence[Standing], bare: Standing) -> str:
    level = f"no defense at all, which leaves SSIM {value('ssim', bare.ssim.mean)}"
    helps = told_apart([(bare, one) for one in standings])
    idle = [one for one, useful in zip(standings, helps, strict=True) if not useful]
    if not idle:
        return f"Each of them leaves less than {level}."
    named = ", ".join(f"{one.name} ({value('ssim', one.ssim.mean)})" for one in idle)
    return f"Not told apart from {level}: {named}."


def points(drop: float) -> str:
    """A drop in accuracy in words."""
    return "1 point" if drop == 0.01 else f"{100 * drop:g} points"


def _leaves(one: Standing) -> str:
    return (
        f"SSIM {value('ssim', one.ssim.mean)} {interval('ssim', one.ssim)} to {one.strongest}, its strongest attack; "
        f"the label can be read off {value('identification', one.identification.mean)} %, and it really costs "
        f"{100 * one.cost.mean:.1f} points"
    )


def told_apart(pairs: Sequence[tuple[Standing, Standing]]) -> list[bool]:
    """Whether the first of each pair leaks more than the second, over the same victims; Holm over all pairs."""
    found = [_compared(*pair) for pair in pairs]
    corrected = holm([one.p if one else 1.0 for one in found])
    return [
        one is not None and p < SIGNIFICANT and one.difference.mean > 0 for p, one in zip(corrected, found, strict=True)
    ]


def _compared(more: Standing, less: Standing) -> Comparison | None:
    seeds = [seed for seed in more.columns if seed in less.columns]
    sides = ([one.columns[seed] for seed in seeds] for one in (more, less))
    return compare(*sides) if seeds else None
