"""Trials that differ in their seed alone, as one: what a study says of a cut and a defense."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.record import AttackOutcome, Leakage, ReadingOutcome, Record, Utility
from experiments.statistics import Column, Summary, over_seeds

APART = {"name", "description", "seed", "transport", "cuts", "defenses"}
"""What a scenario may say differently about trials that are alike: these fields name trials, or cannot change them."""

RANGES = {
    "ssim": (-1.0, 1.0),
    "psnr_db": (-math.inf, 160.0),
    "mse": (0.0, 1.0),
    "identification": (0.0, 1.0),
    "dtw": (0.0, math.inf),
}
"""What each measure can be; intervals over few seeds would otherwise reach beyond."""


def pooled(records: Sequence[Record]) -> list[Record]:
    """One record for each data set, network, cut and defense, with intervals over seeds, then victims.

    All that is not a figure (victims, pictures, provenance) is that of the first seed, under whose key it is found.
    Where trials differ in more than cut and defense, the cut's name says in what.
    """
    groups = alike(records)
    names = _distinctions([group[0] for group in groups])
    return [_pooled(group, name) for group, name in zip(groups, names, strict=True)]


def alike(records: Sequence[Record]) -> list[list[Record]]:
    """Records in groups that differ in their seed alone, in the order of their first members."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        base = {key: value for key, value in record.scenario.items() if key not in APART}
        groups.setdefault(json.dumps([base, record.cut, record.defense], sort_keys=True), []).append(record)
    return list(groups.values())


def measured(
    group: Sequence[Record], measure: str = "ssim", victims: Sequence[Sequence[int]] | None = None
) -> dict[str, list[Column]]:
    """Attack → for each record of a group one value a victim (N,), as statistics take them; attacks that ran in all.

    `victims` says which of each record's are meant, by their numbers; None means all of them, in the order of these.
    """
    whose = victims or [sorted(victim.index for victim in record.victims) for record in group]
    found: dict[str, list[Column]] = {}
    for label in [attack.label for attack in group[0].attacks]:
        columns = [_column(record, label, measure) for record in group]
        if all(columns):
            found[label] = [np.array([c[i] for i in chosen]) for c, chosen in zip(columns, whose, strict=True)]
    return found


def _column(record: Record, label: str, measure: str) -> dict[int, float]:
    """Victim → value under an attack; empty where it did not run."""
    for attack in record.attacks:
        if attack.label == label and attack.leakage:
            numbers = [victim.index for victim in record.victims]
            return dict(zip(numbers, attack.leakage.per_victim[measure], strict=True))
    return {}


def _pooled(group: Sequence[Record], cut: str) -> Record:
    first = group[0]
    if len(group) == 1:
        return first.model_copy(update={"cut": cut})
    return first.model_copy(
        update={
            "cut": cut,
            "utility": Utility(
                **{name: _mean([getattr(r.utility, name) for r in group]) for name in Utility.model_fields}
            ),
            "attacks": [_outcome([record.attacks[number] for record in group]) for number in range(len(first.attacks))],
            "readings": [_reading([r.readings[number] for r in group]) for number in range(len(first.readings))],
            "floors": {name: _leakage([record.floors[name] for record in group]) for name in first.floors},
            "warnings": list(dict.fromkeys(text for record in group for text in record.warnings)),
            "timing": {
                name: _mean([record.timing[name] for record in group if name in record.timing]) for name in first.timing
            },
        }
    )


def _outcome(outcomes: Sequence[AttackOutcome]) -> AttackOutcome:
    found = [outcome.leakage for outcome in outcomes if outcome.leakage]
    if len(found) < len(outcomes):
        return outcomes[0]
    return outcomes[0].model_copy(
        update={"leakage": _leakage(found), "queries": max(outcome.queries for outcome in outcomes)}
    )


def _reading(outcomes: Sequence[ReadingOutcome]) -> ReadingOutcome:
    """Accuracy over seeds, then victims; the area under the curve, which is of all victims together, over seeds."""
    if any(outcome.accuracy is None for outcome in outcomes):
        return outcomes[0]
    areas = [outcome.auc.mean for outcome in outcomes if outcome.auc]
    auc = over_seeds([[area] for area in areas]) if len(areas) == len(outcomes) else None
    accuracy = over_seeds([[float(right) for right in outcome.right] for outcome in outcomes])
    return outcomes[0].model_copy(
        update={
            "accuracy": within("identification", accuracy),
            "auc": auc and within("identification", auc),
            "majority": _mean([outcome.majority for outcome in outcomes]),
            "queries": max(outcome.queries for outcome in outcomes),
            "owners": {},
        }
    )


def _leakage(found: Sequence[Leakage]) -> Leakage:
    summaries = {}
    for name in found[0].per_victim:
        summaries[name] = within(name, over_seeds([one.per_victim[name] for one in found]))
    return found[0].model_copy(update=summaries)


def within(measure: str, summary: Summary) -> Summary:
    """The summary with an interval that ends where the measure does."""
    least, most = RANGES[measure]
    return summary.model_copy(update={"low": max(summary.low, least), "high": min(summary.high, most)})


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _distinctions(firsts: Sequence[Record]) -> list[str]:
    """Each cut's name, with what else tells these records apart."""
    flat = [dict(_flat({k: v for k, v in record.scenario.items() if k not in APART})) for record in firsts]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    differing = [key for key in keys if len({json.dumps(one.get(key)) for one in flat}) > 1]
    names = []
    for record, one in zip(firsts, flat, strict=True):
        said = ", ".join(f"{key}={one[key]}" for key in differing if key in one)
        names.append(f"{record.cut} ({said})" if said else record.cut)
    return names


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
            yield from _flat({entry.get("name", str(number)): entry for number, entry in enumerate(value)}, f"{key}.")
        else:
            yield f"{prefix}{key}", value
