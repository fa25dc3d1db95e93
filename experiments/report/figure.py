"""Where the marks of the leakage figure go: one panel a cut, one line an attack, floors as reference lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments.record import AttackOutcome, Record
from experiments.report.tables import attack_labels, by_cut, short_labels
from experiments.report.wording import interval, value

WIDTH = 360
LEFT, RIGHT = 10, 350
TOP = 8
LINE = 34  # height of one attack
HEADING = 26  # height of a defense's name
AXIS = 52  # ticks, and a line of text for each floor
LABEL_LENGTH = 32  # characters that fit beside the figures

MARKERS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",  # disc
    "M-4.5 -4.5h9v9h-9z",  # square
    "M0 -5.5L5.5 4.5H-5.5z",  # triangle
    "M0 -6L6 0L0 6L-6 0z",  # diamond
    "M0 5.5L5.5 -4.5H-5.5z",  # triangle on its tip
    "M-2 -5.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z",  # plus
    "M-5 -5L0 -2L5 -5L2 0L5 5L0 2L-5 5L-2 0z",  # four-pointed star
    "M-5.5 -3h11v6h-11z",  # bar
)
"""Outlines around (0, 0), as many as there are colours; a marker tells attacks apart without its colour."""

FLOORS = {"mean_image": ("mean image", "mean"), "nearest_auxiliary": ("nearest auxiliary image", "nearest")}
"""Floor → what readers call it, and the class of its line."""


@dataclass(frozen=True)
class Mark:
    """An attack's line: where its text, whisker and marker are; `x` is None for a refused attack."""

    label: str
    full_label: str
    figures: str
    series: int
    shape: str
    y: float
    x: float | None
    low: float = 0
    high: float = 0


@dataclass(frozen=True)
class Floor:
    """A vertical reference line of a group, with its name's place below the axis."""

    kind: str
    name: str
    figure: str
    x: float
    anchor: str
    text_y: float


@dataclass(frozen=True)
class Group:
    """The attacks under one defense."""

    defense: str
    y: float
    bottom: float
    marks: list[Mark]
    floors: list[Floor]


@dataclass(frozen=True)
class Panel:
    """One cut: a figure of its own, with what a screen reader says."""

    cut: str
    description: str
    height: float
    axis_y: float
    ticks: list[tuple[float, str]]
    groups: list[Group]
    floors: list[Floor]  # named once, below the axis


def panels(records: Sequence[Record]) -> list[Panel]:
    """One panel for each cut, in the order of the run."""
    labels = short_labels(attack_labels(records), LABEL_LENGTH)
    start = min([0.0, *(low for record in records for low in _lows(record))])
    return [_panel(cut, members, labels, start) for cut, members in by_cut(records).items()]


def _lows(record: Record) -> Iterator[float]:
    yield from (attack.leakage.ssim.low for attack in record.attacks if attack.leakage)
    yield from (floor.ssim.mean for floor in record.floors.values())


def _panel(cut: str, records: list[Record], labels: dict[str, str], start: float) -> Panel:
    groups: list[Group] = []
    y = float(TOP)
    for record in records:
        bottom = y + HEADING + LINE * len(record.attacks)
        marks = [
            _mark(attack, labels, y + HEADING + LINE * line, start, len(record.victims))
            for line, attack in enumerate(record.attacks)
        ]
        groups.append(Group(record.defense, y, bottom, marks, _floors(record, start)))
        y = bottom
    ticks = [(_x(step / 4, start), f"{step / 4:g}") for step in range(5)]
    return Panel(cut, _description(records), y + AXIS, y, ticks, groups, groups[0].floors)


def _mark(attack: AttackOutcome, labels: dict[str, str], y: float, start: float, victims: int) -> Mark:
    series, short = list(labels).index(attack.label), labels[attack.label]
    # Past the last colour the markers shift by one, so that no pair of colour and marker comes twice.
    shape = MARKERS[(series + series // len(MARKERS)) % len(MARKERS)]
    if attack.leakage is None:
        return Mark(short, attack.label, "refused", series % len(MARKERS), shape, y, None)
    ssim = attack.leakage.ssim
    figures = value("ssim", ssim.mean) + (f" {interval('ssim', ssim)}" if victims > 1 else "")
    places = (_x(ssim.mean, start), _x(ssim.low, start), _x(ssim.high, start))
    return Mark(short, attack.label, figures, series % len(MARKERS), shape, y, *places)


def _floors(record: Record, start: float) -> list[Floor]:
    floors = []
    for line, (key, (name, kind)) in enumerate(FLOORS.items()):
        if key in record.floors:
            ssim = record.floors[key].ssim.mean
            x = _x(ssim, start)
            anchor = "start" if x < WIDTH / 2 else "end"
            floors.append(Floor(kind, name, value("ssim", ssim), x, anchor, 30.0 + 15 * line))
    return floors


def _x(ssim: float, start: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * (min(ssim, 1.0) - start) / (1.0 - start), 1)


def _description(records: list[Record]) -> str:
    """The whole panel in words."""
    told = []
    for record in records:
        figures = [
            f"{attack.label} {value('ssim', attack.leakage.ssim.mean)}" if attack.leakage else f"{attack.label} refused"
            for attack in record.attacks
        ]
        told.append(f"{record.defense}: {', '.join(figures)}.")
    floors = [
        f"{FLOORS[key][0]} {value('ssim', floor.ssim.mean)}"
        for key, floor in records[0].floors.items()
        if key in FLOORS
    ]
    return " ".join([*told, f"Floors: {', '.join(floors)}." if floors else ""]).strip()
