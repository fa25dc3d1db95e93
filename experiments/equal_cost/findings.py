"""What embarrasses a defense, found by comparing records: each finding is a sentence, or is not made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.equal_cost.standing import Standing, Verdict, points, standing, told_apart
from experiments.record import Record
from experiments.report.pooling import alike, measured
from experiments.report.wording import value

WORTH_SAYING = 0.1
"""A difference in SSIM or in a diagnostic below this is not worth a sentence."""

UNAWARE = " unaware"
"""How an attack's label ends where it did not know of the defense."""


def findings(records: Sequence[Record], verdicts: Sequence[Verdict]) -> list[str]:
    """All that is found about the defenses of some verdicts; of each defense its strongest setting is judged."""
    groups = {group[0].defense: group for group in alike(records)}
    dearest = {one.name: one for verdict in sorted(verdicts, key=lambda v: v.drop) for one in verdict.standings}
    bare = standing(0.0, "none", groups["none"]) if "none" in groups else None
    found = [_no_better_when_dearer(verdicts), *(_unaware(one, groups[one.label]) for one in dearest.values())]
    if bare:
        found += [_large_and_idle(one, bare, groups[one.label]) for one in dearest.values()]
        found += [_dependence(one, bare, groups[one.label], groups["none"]) for one in dearest.values()]
    return [text for text in found if text]


def _no_better_when_dearer(verdicts: Sequence[Verdict]) -> str:
    """Defenses of which a higher price buys nothing that can be measured."""
    if len(verdicts) < 2:
        return ""
    cheap, dear = (choose(verdicts, key=lambda v: v.drop) for choose in (min, max))
    at_first = {one.name: one for one in cheap.standings}
    pairs = [(at_first[one.name], one) for one in dear.standings if one.name in at_first]
    pairs = [pair for pair in pairs if pair[1].cost.mean - pair[0].cost.mean > 0.01]
    same = [before.name for (before, _), told in zip(pairs, told_apart(pairs), strict=True) if not told]
    if not same:
        return ""
    return f"Paying {points(dear.drop)} instead of {points(cheap.drop)} buys nothing measurable from {', '.join(same)}."


def _unaware(one: Standing, group: Sequence[Record]) -> str:
    """An attack that looks beaten until it knows of the defense."""
    columns = measured(group)
    for label in columns:
        if label + UNAWARE in columns:
            blind, knowing = (float(np.mean([c.mean() for c in columns[k]])) for k in (label + UNAWARE, label))
            if knowing - blind > WORTH_SAYING:
                return (
                    f"{one.label} looks good against a {label} that does not know of it (SSIM {value('ssim', blind)}); "
                    f"one that knows reaches {value('ssim', knowing)}."
                )
    return ""


def _large_and_idle(one: Standing, bare: Standing, group: Sequence[Record]) -> str:
    """A disturbance that is large beside the signal and hides nothing."""
    noted = [found for r in group for note, found in r.defense_notes.items() if note.endswith("inverse_snr")]
    ratio = float(np.mean(noted or [0.0]))
    if ratio < WORTH_SAYING or told_apart([(bare, one)])[0]:
        return ""
    times = f"{float(f'{ratio:.2g}'):g}"  # 350, and not 3.5e+02
    return (
        f"{one.label} sends {times} times as much noise as signal and hides nothing that can be measured: SSIM "
        f"{value('ssim', one.ssim.mean)} beside {value('ssim', bare.ssim.mean)} without it."
    )


def _dependence(one: Standing, bare: Standing, group: Sequence[Record], without: Sequence[Record]) -> str:
    """A distance correlation that falls while labels stay as readable as they were."""
    before, after = (_correlation(records) for records in (without, group))
    read, reads = bare.identification.mean, one.identification.mean
    if before is None or after is None or before - after < WORTH_SAYING or reads < read - 0.005:
        return ""
    change = "rises" if reads > read + 0.005 else "stays"
    said = f"from {value('identification', read)} to" if change == "rises" else "at"
    return (
        f"Under {one.label} distance correlation falls from {before:.2f} to {after:.2f} (unbiased, squared), while "
        f"identification {change} {said} {value('identification', reads)} %; it is no measure of recognition."
    )


def _correlation(records: Sequence[Record]) -> float | None:
    found = [record.dependence.dcor_unbiased for record in records if record.dependence]
    return float(np.mean(found)) if found else None
