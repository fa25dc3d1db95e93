"""What the report's tables hold, row by row."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from attacks import ATTACKS
from experiments.record import AttackOutcome, Leakage, Record
from experiments.report.wording import NOTHING, interval, value
from experiments.statistics import Summary

MEASURES = {"ssim": "SSIM", "psnr_db": "PSNR, dB", "identification": "Label read, %", "dtw": "DTW"}
"""Measure → its name in tables, with the unit."""

FALLING = ("dtw",)
"""Measures of distance: the less, the more has leaked."""


@dataclass(frozen=True)
class Cell:
    """One figure with its interval; `worst` marks the largest of its row."""

    figure: str
    interval: str = ""
    worst: bool = False
    refused: bool = False


@dataclass(frozen=True)
class Row:
    """One measure of one trial."""

    measure: str
    attacks: list[Cell]
    floors: list[Cell]


@dataclass(frozen=True)
class Told:
    """Something that holds for several trials: a warning, or the reason of a refusal."""

    text: str
    trials: list[str]


@dataclass(frozen=True)
class AttackSummary:
    """One attack over all trials."""

    label: str
    about: str
    requires: list[str]
    uses: list[str]
    queries: int  # the most it spent in one trial
    settings: dict[str, Any]
    ran: int
    refusals: list[Told]
    notes: list[tuple[str, dict[str, str]]]  # trial → what it chose and noticed by itself


def by_cut(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each cut, in the order of the run."""
    cuts: dict[str, list[Record]] = {}
    for record in records:
        cuts.setdefault(record.cut, []).append(record)
    return cuts


def attack_labels(records: Sequence[Record]) -> list[str]:
    """Every attack of the run, in its order."""
    return list(dict.fromkeys(attack.label for record in records for attack in record.attacks))


def short_labels(labels: Sequence[str], length: int) -> dict[str, str]:
    """Labels without the settings that all attacks of that name share, cut in the middle to at most `length`."""
    short = {}
    for label in labels:
        name, *settings = label.split(" ")
        others = [other.split(" ")[1:] for other in labels if other.split(" ")[0] == name]
        telling = [setting for setting in settings if not all(setting in other for other in others)]
        text = " ".join([name, *(telling if len(others) > 1 else settings)])
        half = (length - 1) // 2
        short[label] = text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
    return short


def floor_names(records: Sequence[Record]) -> list[str]:
    """Every floor of the run."""
    return list(dict.fromkeys(name for record in records for name in record.floors))


def result_rows(record: Record, labels: Sequence[str], floors: Sequence[str]) -> list[Row]:
    """A trial's figures: a row for each measure, a cell for each attack and each floor."""
    attacks = {attack.label: attack for attack in record.attacks}
    several = len(record.victims) > 1
    return [
        Row(
            name,
            _mark_worst(
                [_attack_cell(attacks.get(label), measure, several) for label in labels], record, measure, labels
            ),
            [_cell(record.floors.get(floor), measure, several) for floor in floors],
        )
        for measure, name in MEASURES.items()
        if measure != "dtw" or len(record.dataset.get("input_shape", ())) == 2
    ]


@dataclass(frozen=True)
class ReadingRow:
    """What one reading got out of one trial, against answering the most frequent value."""

    cut: str
    defense: str
    label: str
    secret: str
    values: int
    right: Cell
    majority: str
    auc: Cell
    queries: int


def reading_rows(records: Sequence[Record]) -> list[ReadingRow]:
    """A row for each reading of each trial; none where nothing was to be read."""
    return [
        ReadingRow(
            record.cut,
            record.defense,
            one.label,
            one.secret,
            one.values,
            _read("identification", one.accuracy, one.reason),
            value("identification", one.majority) + " %" if one.accuracy else NOTHING,
            _read("ssim", one.auc, ""),
            one.queries,
        )
        for record in records
        for one in record.readings
    ]


def _read(measure: str, summary: Summary | None, reason: str) -> Cell:
    """An accuracy is shown as a label read off a picture is, an area under a curve with the digits of an SSIM."""
    if summary is None:
        return Cell(f"refused: {reason}" if reason else NOTHING, refused=bool(reason))
    unit = " %" if measure == "identification" else ""
    return Cell(value(measure, summary.mean) + unit, interval(measure, summary))


def warnings(records: Sequence[Record]) -> list[Told]:
    """Every warning once, with the trials that raise it."""
    return _grouped([(text, record.label) for record in records for text in record.warnings])


def attack_summaries(records: Sequence[Record]) -> list[AttackSummary]:
    """Every attack once: what it needs, what it spent, why it was refused."""
    summaries = [_summary(label, records) for label in attack_labels(records)]
    abouts = [summary.about for summary in summaries]
    # The same attack with other settings needs no second introduction.
    return [
        replace(summary, about="") if summary.about in abouts[:number] else summary
        for number, summary in enumerate(summaries)
    ]


def readable(figure: Any) -> str:
    """A setting or a note as text: floats at four digits, lists without brackets."""
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    if isinstance(figure, float):
        return f"{figure:.4g}"
    if isinstance(figure, (list, tuple)):
        return ", ".join(map(readable, figure)) or NOTHING
    if isinstance(figure, dict):
        return ", ".join(f"{key}: {readable(inner)}" for key, inner in figure.items()) or NOTHING
    return str(figure)


def _summary(label: str, records: Sequence[Record]) -> AttackSummary:
    outcomes = [(record, attack) for record in records for attack in record.attacks if attack.label == label]
    first = outcomes[0][1]
    cls = ATTACKS.get(first.name)
    refused = [(attack.reason, record.label) for record, attack in outcomes if attack.leakage is None]
    notes = [(record.label, {key: readable(note) for key, note in attack.notes.items()}) for record, attack in outcomes]
    return AttackSummary(
        label=label,
        about=(inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ") if cls else "",
        requires=first.requires,
        uses=first.uses,
        queries=max(attack.queries for _, attack in outcomes),
        settings=first.settings,
        ran=len(outcomes) - len(refused),
        refusals=_grouped(refused),
        notes=[(trial, found) for trial, found in notes if found],
    )


def _grouped(pairs: Sequence[tuple[str, str]]) -> list[Told]:
    told: dict[str, list[str]] = {}
    for text, trial in pairs:
        told.setdefault(text, []).append(trial)
    return [Told(text, trials) for text, trials in told.items()]


def _attack_cell(attack: AttackOutcome | None, measure: str, several: bool) -> Cell:
    if attack is not None and attack.leakage is None:
        return Cell("refused", refused=True)
    return _cell(attack.leakage if attack else None, measure, several)


def _cell(leakage: Leakage | None, measure: str, several: bool) -> Cell:
    if leakage is None:
        return Cell(NOTHING)
    summary = getattr(leakage, measure)
    return Cell(value(measure, summary.mean), interval(measure, summary) if several else "")


def _mark_worst(cells: list[Cell], record: Record, measure: str, labels: Sequence[str]) -> list[Cell]:
    """Mark the attack that leaks most by its mean; with fewer than two attacks there is nothing to compare."""
    means = {a.label: getattr(a.leakage, measure).mean for a in record.attacks if a.leakage}
    if len(means) < 2:
        return cells
    top = min(means.values()) if measure in FALLING else max(means.values())
    return [
        Cell(cell.figure, cell.interval, worst=means.get(label) == top) if not cell.refused else cell
        for label, cell in zip(labels, cells, strict=True)
    ]
