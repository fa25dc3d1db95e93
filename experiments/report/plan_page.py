"""The planner's answer as one self-contained HTML file with its plot as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.planner import Link, Option, Wishes
from experiments.record import Record
from experiments.report import gallery, html
from experiments.report.plots import PEEKED
from experiments.report.tables import readable
from experiments.statistics import Summary
from split_models.checkpoints import write_atomically

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 620, 16, 330
CLOSE = 14  # pixels within which two options share one text
MEASURES = {"ssim": "SSIM", "psnr_db": "PSNR in dB", "identification": "fraction identified"}


@dataclass(frozen=True)
class Dot:
    """One option in the plot: a disc if it satisfies every wish, a cross if not; a ring if it is on the front.

    An open disc has a remark. The whisker reaches from `low` to `high`, in pixels.
    """

    text: str  # its number in the table, with those of options too close for a text of their own; empty for these
    spoken: str
    x: float
    y: float
    low: float
    high: float
    option: Option


@dataclass(frozen=True)
class Axis:
    """From data to pixels, with marks at round values."""

    low: float
    high: float
    start: float
    end: float
    ticks: list[tuple[float, str]]  # pixels, and what they say

    def place(self, value: float) -> float:
        """The pixel of a value."""
        return _place(value, self.low, self.high, self.start, self.end)


def conclusion(options: Sequence[Option]) -> str:
    """The answer in a sentence: what satisfies every wish and leaks least, or what comes nearest."""
    good = [option for option in options if not option.misses]
    known = [option for option in options if option.evidence.leakage is not None]
    if good:
        best = min(good, key=_leakage)
        doubtful = sum(bool(option.remark) for option in good)
        alone = f", {doubtful} of them by the mean of the leakage alone" if doubtful else ""
        but = f", but {best.remark}: more seeds or victims may tell" if best.remark else ""
        return f"{len(good)} of {len(options)} options satisfy every wish{alone}; least leaks from {_told(best)}{but}."
    if not known:
        return "Nothing satisfies every wish: of no option is it known what leaks."
    nearest = min(known, key=lambda option: (len(option.misses), _leakage(option)))
    return (
        f"Nothing satisfies every wish. Nearest comes {_told(nearest)}, which misses {' and '.join(nearest.misses)}; "
        "relax a wish, or run scenarios with other cuts and defenses."
    )


def leaked(summary: Summary) -> str:
    """A leakage with its 95 % interval."""
    return f"{summary.mean:.2f} [{summary.low:.2f}, {summary.high:.2f}]"


def one_seed_note(options: Sequence[Option]) -> str:
    """What is to be said where an interval is over the victims of a single training; else empty."""
    if any(option.evidence.seeds == 1 for option in options):
        return "With one seed an interval is over its victims and says nothing about another training."
    return ""


def _told(option: Option) -> str:
    defense = option.evidence.defense
    return f"{option.evidence.cut} {'without a defense' if defense.name == 'none' else f'under {defense.label}'}"


def _leakage(option: Option) -> float:
    return math.inf if option.evidence.leakage is None else option.evidence.leakage.mean


def peeks(folder: Path, records: Sequence[Record], options: Sequence[Option]) -> dict[str, list[gallery.Strip]]:
    """Option → the same victims everywhere, private and as its strongest attacker rebuilt them; shareable data only.

    Raises:
        CheckpointError: a file of pictures is broken.
    """
    if not all(record.dataset.get("shareable") is True for record in records):
        return {}
    by_key = {record.key: record for record in records}
    shown = {option.label: by_key[option.evidence.keys[0]] for option in options}
    chosen, _ = gallery.choose(list(shown.values()), PEEKED)
    found = {}
    for option in options:
        record = shown[option.label]
        places = [path.parent.parent for path in folder.rglob(f"records/{record.key}.safetensors")]
        for attack in record.attacks:
            if attack.label == option.evidence.attacker and places:
                found[option.label] = gallery.beside(places[0], record, attack, chosen)
    return found


def write_plan(
    path: Path,
    model: str,
    dataset: str,
    options: Sequence[Option],
    link: Link,
    wishes: Wishes,
    measure: str,
    pictures: Mapping[str, Sequence[gallery.Strip]] | None = None,
) -> Path:
    """Write the page atomically and return its path; `pictures` are those of `peeks`."""
    known = [
        (number, option, leak.mean, leak.low, leak.high)
        for number, option in enumerate(options, 1)
        if (leak := option.evidence.leakage)
    ]
    x = _axis([option.latency_ms for _, option, *_ in known], wishes.latency_ms, LEFT, RIGHT)
    y = _axis([end for *_, low, high in known for end in (low, high)], wishes.leakage, BOTTOM, TOP)
    dots = [
        Dot("", str(number), x.place(option.latency_ms), y.place(mean), y.place(low), y.place(high), option)
        for number, option, mean, low, high in known
    ]
    page = (
        html.environment()
        .get_template("plan.html")
        .render(
            css=html.inline("report.css"),
            js=html.inline("report.js"),
            model=model,
            dataset=readable(dataset),
            options=options,
            conclusion=conclusion(options),
            link=link,
            wishes=wishes,
            measure=MEASURES[measure],
            dots=_numbered(dots),
            leaked=leaked,
            one_seed_note=one_seed_note(options),
            peeks=pictures or {},
            x=x,
            y=y,
            size=(WIDTH, HEIGHT),
            box=(LEFT, RIGHT, TOP, BOTTOM),
        )
    )
    write_atomically(path, page.encode())
    return path


def _numbered(dots: Sequence[Dot]) -> list[Dot]:
    """The dots with texts: the first of several that lie together carries all their numbers."""
    sharing: dict[int, list[str]] = {}
    for index, dot in enumerate(dots):
        near = (i for i in sharing if max(abs(dot.x - dots[i].x), abs(dot.y - dots[i].y)) < CLOSE)
        sharing.setdefault(next(near, index), []).append(dot.spoken)
    return [replace(dot, text=", ".join(sharing.get(index, []))) for index, dot in enumerate(dots)]


def _axis(values: list[float], wish: float | None, start: float, end: float) -> Axis:
    """From zero, or from the lowest value below it, to a round value above all."""
    shown = [0.0, *values, *([wish] if wish is not None else [])]
    span = (max(shown) - min(shown)) or 1.0
    rough = 10 ** math.floor(math.log10(span / 4))
    step = next(rough * factor for factor in (1, 2, 5, 10) if span / (rough * factor) <= 6)
    low, high = math.floor(min(shown) / step), math.floor(max(shown) / step) + 1
    bounds = (low * step, high * step, start, end)
    ticks = [(_place(number * step, *bounds), f"{number * step:.4g}") for number in range(low, high + 1)]
    return Axis(*bounds, ticks)


def _place(value: float, low: float, high: float, start: float, end: float) -> float:
    return round(start + (value - low) / (high - low) * (end - start), 1)
