"""What embarrasses a defense, found by comparing records: each finding is a sentence, or is not made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from experiments.equal_cost.standing import Standing, Verdict, points, told_apart
from experiments.record import Record
from experiments.report.pooling import alike, measured
from experiments.report.wording import value
from experiments.statistics import cross_fitted, over_seeds

LEAST_FALL = 0.1
"""A fall of a diagnostic below this is not worth a sentence."""


def findings(records: Sequence[Record], verdicts: Sequence[Verdict]) -> list[str]:
    """All that is found about the defenses of some verdicts, most expensive drop first; each defense once a finding."""
    groups = {group[0].defense: group for group in alike(records)}
    standings = [one for verdict in sorted(verdicts, key=lambda v: -v.drop) for one in verdict.standings]
    once = list({one.name: one for one in reversed(standings)}.values())[::-1]
    bare = groups.get("none")
    return [
        *(_dearer_but_no_better(verdicts)),
        *(text for one in once if (text := _unaware(one, groups[one.label]))),
        *(text for one in once if bare and (text := _dependence(one, groups[one.label], bare))),
    ]
