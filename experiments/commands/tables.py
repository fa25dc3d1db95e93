"""Results as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from experiments.record import AttackOutcome, Leakage, Record
from experiments.statistics import Summary

WORST = "◄ worst case"


def results_table(records: Sequence[Record]) -> Table:
    """One row an attack, grouped by trial: means over the victims with their 95 % intervals."""
    table = Table(title="Leakage: means over the victims and 95 % intervals", title_justify="left")
    for name in ("trial", "attack", "PSNR dB", "SSIM", "identified"):
        table.add_column(name, overflow="fold")
    for record in records:
        worst = max(record.attacks, key=_mean_ssim, default=None)
        for position, outcome in enumerate(record.attacks):
            name = Text(outcome.label)
            if outcome is worst and outcome.leakage:
                name = Text(f"{outcome.label} {WORST}", style="bold")
            table.add_row(_trial_cell(record, position), name, *_figures(outcome.leakage))
        for name, leakage in record.floors.items():
            table.add_row("", Text(f"floor: {name.replace('_', ' ')}", style="dim"), *_figures(leakage))
        table.add_section()
    return table


def _mean_ssim(outcome: AttackOutcome) -> float:
    return outcome.leakage.ssim.mean if outcome.leakage else float("-inf")


def _trial_cell(record: Record, line: int) -> str:
    """What the trial was, spread over the rows of its attacks."""
    utility = record.utility
    accuracy = f"accuracy {utility.accuracy:.3f}"
    if record.defense != "none":
        accuracy += f" → {utility.accuracy_defended:.3f}"
    if len(record.attacks) == 1:
        return f"{record.label}, {accuracy}"
    return [record.label, accuracy, f"{record.cost.bytes_per_image:,} bytes/image"][line] if line < 3 else ""


def _figures(leakage: Leakage | None) -> list[str]:
    if leakage is None:
        return ["refused", "", ""]
    psnr, ssim, right = leakage.psnr_db, leakage.ssim, leakage.identification
    return [_interval(psnr, 1), _interval(ssim, 2), f"{right.mean:.0%}"]


def _interval(summary: Summary, digits: int) -> str:
    low, high = (f"{value:.{digits}f}" for value in (summary.low, summary.high))
    return f"{summary.mean:.{digits}f} ({low}–{high})"
