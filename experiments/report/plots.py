"""Where the marks of two figures go: leakage over the depth of the cut, and accuracy against leakage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.record import AttackOutcome, Record
from experiments.report import gallery
from experiments.report.figure import FLOORS, MARKERS
from experiments.report.tables import attack_labels, by_cut
from experiments.report.wording import count, interval, percent, value, worst_case
from experiments.statistics import pareto_front

WIDTH = 640
LEFT, RIGHT, TOP, BOTTOM = 48, 626, 14, 300
PEEKED = 6
"""Victims whose reconstructions a point shows."""


@dataclass(frozen=True)
class Point:
    """A mark with its whisker, and what pointing at it tells and shows."""

    x: float
    y: float
    low: float
    high: float
    series: int
    shape: str
    label: str
    figures: str
    strips: list[gallery.Strip]
    front: bool = False


@dataclass(frozen=True)
class Plot:
    """One figure; `lines` are SVG paths with their series, `keys` name the series."""

    title: str
    x_name: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[str, str]]  # path, class
    floors: list[tuple[float, str, str]]  # y, class, name
    points: list[Point]
    keys: list[tuple[str, int, str]]  # name, series, shape
    slanted: bool = False
    floors_named_left: bool = False

    @property
    def begins_with(self) -> int:
        """The mark whose card is shown before any is pointed at, from 1: in the middle of the front, or of all."""
        every = range(1, len(self.points) + 1)
        telling = [number for number in every if self.points[number - 1].front] or list(every)
        return telling[len(telling) // 2] if telling else 0

    @property
    def height(self) -> int:
        """Of the whole figure; slanted names below the axis take more of it."""
        return BOTTOM + (80 if self.slanted else 44)


def depth_plots(folder: Path, records: Sequence[Record], pictures: bool) -> list[Plot]:
    """For each defense that was measured at three cuts or more: every attack's SSIM from the first cut to the last."""
    defenses = list(dict.fromkeys(record.defense for record in records))
    plots = []
    for defense in defenses:
        members = [record for record in records if record.defense == defense]
        if len(members) >= 3:
            title = "Leakage by cut" + ("" if defense == "none" else f", {defense}")
            plots.append(_depth(folder, title, members, pictures))
    return plots


def tradeoff_plots(folder: Path, records: Sequence[Record], pictures: bool) -> list[Plot]:
    """For each cut with three defenses or strengths: accuracy against the strongest attack's SSIM, with the front."""
    cuts = by_cut(records)
    return [_tradeoff(folder, cut, members, pictures) for cut, members in cuts.items() if len(members) >= 3]


def family(defense: str) -> str:
    """A defense's name without its strength."""
    return defense.split(" ")[0]


def _depth(folder: Path, title: str, records: list[Record], pictures: bool) -> Plot:
    peek = _peek(folder, records, pictures)
    y = _vertical(records)
    width = (RIGHT - LEFT) / len(records)
    places = [round(LEFT + width * (number + 0.5), 1) for number in range(len(records))]
    points, lines, keys = [], [], []
    labels = attack_labels(records)
    for series, label in enumerate(labels):
        shape = MARKERS[series % len(MARKERS)]
        found = []
        for place, record in zip(places, records, strict=True):
            for attack in record.attacks:
                if attack.label == label and attack.leakage:
                    # Side by side, so that whiskers of several attacks at one cut can be told apart.
                    x = place + (series - (len(labels) - 1) / 2) * min(12.0, width / (len(labels) + 1))
                    told = f"{record.cut}, {label}"
                    found.append(_point(x, y, series, record, attack, told, peek(record, attack)))
        if found:
            lines.append((_path(found), f"line c{series % len(MARKERS)}"))
            keys.append((label, series % len(MARKERS), shape))
            points += found
    floors = _floors(records[0], y) if len(by_cut(records)) == len(records) else []
    ticks = [(place, record.cut) for place, record in zip(places, records, strict=True)]
    points.sort(key=lambda point: point.x)  # the arrow keys go from left to right
    slanted = len(records) > 6 or any(len(record.cut) > 12 for record in records)
    return Plot(title, "cut, from the input on", ticks, _ssim_ticks(y), lines, floors, points, keys, slanted)


def _tradeoff(folder: Path, cut: str, records: list[Record], pictures: bool) -> Plot:
    peek, y = _peek(folder, records, pictures), _vertical(records)
    done = [(record, worst) for record in records if (worst := worst_case(record))]
    accuracies = [record.utility.accuracy_defended for record, _ in done]
    left, right = min(accuracies, default=0.0), max(accuracies, default=1.0)
    margin = max(0.02, 0.06 * (right - left))
    left, right = max(0.0, left - margin), min(1.0, right + margin)

    def x(accuracy: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (accuracy - left) / (right - left), 1)

    families = list(dict.fromkeys(family(record.defense) for record, _ in done))
    front = pareto_front([(r.utility.accuracy_defended, w.leakage.ssim.mean) for r, w in done if w.leakage])
    points = []
    for number, (record, worst) in enumerate(done):
        series = families.index(family(record.defense))
        name = "no defense" if record.defense == "none" else record.defense
        told = f"{name}: accuracy {percent(record.utility.accuracy_defended)}, strongest {worst.label}"
        place = x(record.utility.accuracy_defended)
        points.append(_point(place, y, series, record, worst, told, peek(record, worst), number in front))
    lines = []
    for series, name in enumerate(families):
        members = [point for point, (record, _) in zip(points, done, strict=True) if family(record.defense) == name]
        if len(members) > 1:
            lines.append((_path(members), f"line c{series % len(MARKERS)}"))
    lines.append((_stairs([points[number] for number in front]), "front"))
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (right - left) / step <= 7)
    shares = [step * n for n in range(int(1 / step) + 1)]
    ticks = [(x(share), f"{100 * share:.0f} %") for share in shares if left <= share <= right]
    keys = [
        ("no defense" if name == "none" else name.replace("_", " "), n % len(MARKERS), MARKERS[n % len(MARKERS)])
        for n, name in enumerate(families)
    ]
    points.sort(key=lambda point: point.x)
    return Plot(
        f"Accuracy against leakage at {cut}",
        "accuracy with the defense",
        ticks,
        _ssim_ticks(y),
        lines,
        _floors(records[0], y),
        points,
        keys,
        floors_named_left=True,  # most marks are at the right, where little accuracy is lost
    )


def _point(
    x: float,
    y: Callable[[float], float],
    series: int,
    record: Record,
    attack: AttackOutcome,
    label: str,
    strips: list[gallery.Strip],
    front: bool = False,
) -> Point:
    assert attack.leakage
    ssim, psnr = attack.leakage.ssim, attack.leakage.psnr_db
    figures = (
        f"SSIM {value('ssim', ssim.mean)} {interval('ssim', ssim)}, PSNR {value('psnr_db', psnr.mean)} dB, "
        f"{count(record.cost.bytes_per_image)} bytes an image"
    )
    shape = MARKERS[series % len(MARKERS)]
    places = (y(ssim.mean), y(ssim.low), y(ssim.high))
    return Point(round(x, 1), *places, series % len(MARKERS), shape, label, figures, strips, front)


def _floors(record: Record, y: Callable[[float], float]) -> list[tuple[float, str, str]]:
    """Where the floors are, the class of each line, and what it is called."""
    names = [name for name in record.floors if name in FLOORS]
    return [(y(record.floors[name].ssim.mean), FLOORS[name][1], FLOORS[name][0]) for name in names]


def _peek(
    folder: Path, records: Sequence[Record], pictures: bool
) -> Callable[[Record, AttackOutcome], list[gallery.Strip]]:
    """What a point shows: the same few victims everywhere, private and as an attack rebuilt them."""
    chosen, _ = gallery.choose(records, PEEKED)

    def strips(record: Record, attack: AttackOutcome) -> list[gallery.Strip]:
        return gallery.beside(folder, record, attack, chosen) if pictures else []

    return strips


def _vertical(records: Sequence[Record]) -> Callable[[float], float]:
    lows = [attack.leakage.ssim.low for record in records for attack in record.attacks if attack.leakage]
    start = max(-0.25, min([0.0, *lows]))
    return lambda ssim: round(BOTTOM - (BOTTOM - TOP) * (min(max(ssim, start), 1.0) - start) / (1.0 - start), 1)


def _ssim_ticks(y: Callable[[float], float]) -> list[tuple[float, str]]:
    return [(y(step / 4), f"{step / 4:g}") for step in range(5)]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{point.x} {point.y}" for point in points)


def _stairs(points: Sequence[Point]) -> str:
    """The front from its highest accuracy down: between two of its points nothing better was measured."""
    steps = [f"{point.x} {point.y}" if n == 0 else f"V{point.y}H{point.x}" for n, point in enumerate(points)]
    return "M" + "".join(steps) if steps else ""


def keyed(plots: Sequence[Plot], kind: str) -> Mapping[str, Plot]:
    """Plots under names that are unique in a page."""
    return {f"{kind}-{number}": plot for number, plot in enumerate(plots)}
