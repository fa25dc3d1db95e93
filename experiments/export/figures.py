"""Static figures for papers: leakage over the cuts, and accuracy against leakage, as SVG and PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.export.extras import wanted
from experiments.record import Record
from experiments.report.plots import family
from experiments.report.tables import attack_labels, by_cut
from experiments.report.wording import worst_case
from experiments.statistics import Summary, pareto_front
from split_models.checkpoints import write_atomically

FORMATS = ("svg", "pdf")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#201f1c")
"""Of Okabe and Ito, which colour-blind readers tell apart; markers differ as well."""
MARKERS = "os^Dv*P"


def write_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write every figure that pooled records have something for; returns the paths.

    Raises:
        ExportError: matplotlib is not installed.
    """
    matplotlib = wanted("matplotlib", "figures")
    figure = wanted("matplotlib.figure", "figures").Figure
    paths = []
    # A fixed salt and no date: the same records give the same files.
    with matplotlib.rc_context({"svg.hashsalt": "unsmash", "svg.fonttype": "none", "font.size": 8}):
        for defense in dict.fromkeys(record.defense for record in records):
            members = [record for record in records if record.defense == defense]
            if len(members) > 1:
                paths += _saved(_by_cut(figure(figsize=(6, 3)), members), folder / f"leakage-{_plain(defense)}")
        for cut, members in by_cut(records).items():
            if len(members) > 1:
                paths += _saved(_tradeoff(figure(figsize=(5, 3)), members), folder / f"tradeoff-{_plain(cut)}")
    return paths


def _by_cut(figure: Any, records: Sequence[Record]) -> Any:
    axes = figure.add_subplot()
    for number, label in enumerate(attack_labels(records)):
        found = [
            (place, attack.leakage.ssim)
            for place, record in enumerate(records)
            for attack in record.attacks
            if attack.label == label and attack.leakage
        ]
        _marked(axes, [place + 0.06 * number for place, _ in found], [ssim for _, ssim in found], number, label, "-")
    for style, (name, floor) in zip(("--", ":"), records[0].floors.items(), strict=False):
        axes.axhline(
            floor.ssim.mean, linestyle=style, color="0.4", linewidth=1, label=f"floor: {name}".replace("_", " ")
        )
    axes.set_xticks(range(len(records)), [record.cut for record in records], rotation=35, ha="right")
    return _finished(figure, axes, "cut")


def _tradeoff(figure: Any, records: Sequence[Record]) -> Any:
    axes = figure.add_subplot()
    done = [
        (record.utility.accuracy_defended, worst.leakage.ssim, family(record.defense))
        for record in records
        if (worst := worst_case(record)) and worst.leakage
    ]
    for number, name in enumerate(dict.fromkeys(name for *_, name in done)):
        found = [(accuracy, ssim) for accuracy, ssim, other in done if other == name]
        _marked(axes, [a for a, _ in found], [ssim for _, ssim in found], number, name, "-")
    points = [(accuracy, ssim.mean) for accuracy, ssim, _ in done]
    front = [points[number] for number in pareto_front(points)]
    axes.step([a for a, _ in front], [s for _, s in front], where="pre", linestyle="--", color="0.3", label="front")
    return _finished(figure, axes, "accuracy with the defense")


def _marked(axes: Any, x: Sequence[float], y: Sequence[Summary], number: int, label: str, line: str) -> None:
    arms = [[one.mean - one.low for one in y], [one.high - one.mean for one in y]]
    axes.errorbar(
        x,
        [one.mean for one in y],
        yerr=arms,
        label=label.replace("_", " "),
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
        linestyle=line,
        linewidth=1,
        elinewidth=0.6,
        markersize=5,
        capsize=2,
    )


def _finished(figure: Any, axes: Any, x_name: str) -> Any:
    axes.set_xlabel(x_name)
    axes.set_ylabel("SSIM, mean and 95 % interval")
    axes.set_ylim(max(-0.25, axes.get_ylim()[0]), 1.02)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside, so it hides no mark
    figure.set_layout_engine("tight")
    return figure


def _saved(figure: Any, stem: Path) -> list[Path]:
    paths = []
    for kind in FORMATS:
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else {"CreationDate": None})
        path = stem.with_name(f"{stem.name}.{kind}")
        write_atomically(path, content.getvalue())
        paths.append(path)
    return paths


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)
