"""Results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.record import AttackOutcome, Leakage, Record
from experiments.report.tables import reading_rows
from experiments.statistics import Summary


def results_tables(records: Sequence[Record]) -> Group:
    """A table a trial: means over the victims with 95 % intervals; ► marks the attack with the highest SSIM.

    What was read without rebuilding images follows in a table of its own.
    """
    return Group(*(_table(record) for record in records), *_readings_table(records))


def study_table(records: Sequence[Record]) -> Group:
    """One line for each cut and defense of pooled records: what the strongest attack reaches, with 95 % intervals."""
    table = Table("cut", "defense", "accuracy", "strongest attack", "SSIM", "PSNR dB", "identified", "bytes an image")
    for record in records:
        accuracy = f"{record.utility.accuracy_defended:.1%}"
        worst = max(record.attacks, key=_mean_ssim, default=None)
        psnr, ssim, identified, *_ = _figures(worst.leakage if worst else None)
        name = Text(worst.label if worst else "–")
        size = f"{record.cost.bytes_per_image:,}"
        table.add_row(Text(record.cut), Text(record.defense), accuracy, name, ssim, psnr, identified, size)
    return Group(table, *_readings_table(records))


def _readings_table(records: Sequence[Record]) -> list[Table]:
    rows = reading_rows(records)
    table = Table(
        "cut", "defense", "reading", "secret", "right", "most frequent value", "AUC", title="What was read off"
    )
    for row in rows:
        right, auc = (Text(f"{cell.figure} {cell.interval}".strip()) for cell in (row.right, row.auc))
        table.add_row(Text(row.cut), Text(row.defense), Text(row.label), Text(row.secret), right, row.majority, auc)
    return [table] if rows else []


def _table(record: Record) -> Table:
    utility, defended = record.utility, record.defense != "none"
    accuracy = f"{utility.accuracy:.1%}" + (f" → {utility.accuracy_defended:.1%}" if defended else "")
    title = f"{record.label}   accuracy {accuracy}, {record.cost.bytes_per_image:,} bytes an image"
    table = Table(title=Text(title, style="bold"), title_justify="left", title_style="")
    series = len(record.dataset.get("input_shape", ())) == 2
    for name in ("attack", "PSNR dB", "SSIM", "identified", *(["DTW"] if series else [])):
        table.add_column(name)
    worst = max(record.attacks, key=_mean_ssim, default=None)
    for outcome in record.attacks:
        is_worst = outcome is worst and outcome.leakage is not None
        label = Text(f"► {outcome.label}" if is_worst else outcome.label, style="bold" if is_worst else "")
        table.add_row(label, *_figures(outcome.leakage))
    table.add_section()
    for floor, leakage in record.floors.items():
        table.add_row(Text(f"floor: {floor.replace('_', ' ')}", style="dim"), *_figures(leakage))
    return table


def _mean_ssim(outcome: AttackOutcome) -> float:
    return outcome.leakage.ssim.mean if outcome.leakage else float("-inf")


def _figures(leakage: Leakage | None) -> list[str]:
    if leakage is None:
        return ["refused", "", ""]
    figures = [_interval(leakage.psnr_db, 1), _interval(leakage.ssim, 2), f"{leakage.identification.mean:.0%}"]
    return [*figures, *([_interval(leakage.dtw, 1)] if leakage.dtw else [])]


def _interval(summary: Summary, digits: int) -> str:
    return f"{summary.mean:.{digits}f} ({summary.low:.{digits}f}–{summary.high:.{digits}f})"
