"""`unsmash reproduce`: a paper's figures, measured again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.commands.options import DataDir
from experiments.commands.progress import progress
from experiments.papers import make_paper
from experiments.papers.bench import adopt, matching, measure, write_comparison
from experiments.papers.paper import Paper, PaperError, Plan, Row
from experiments.statistics import Summary


def reproduce(
    paper: Annotated[str, typer.Argument(help="One of `unsmash list papers`.")],
    dataset: Annotated[str | None, typer.Option(help="Another data set that the paper has figures for.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Training seeds; intervals are over seeds, then victims. Default: 3 or 5.")
    ] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="The seeds are this one and those that follow.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small size: shows that it runs, its figures say nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for results; default runs/PAPER.")] = None,
    data_dir: DataDir = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what was measured earlier.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only cells whose 'COLUMN · ROW' matches, as 'conv1 · white*'.")
    ] = None,
    onto: Annotated[
        Path | None, typer.Option(help="An earlier record, from which cells that were not measured here are taken.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cells at once; default: one a core.")] = None,
) -> None:
    """Measure the figures of a published paper again, and print them beside the published ones.

    Every cell of its table is kept as soon as it is measured: an interrupted run goes on where it stopped.
    """
    chosen = make_paper(paper)
    plan = Plan(dataset or chosen.datasets[0], seeds or chosen.default_seeds, quick, first_seed)
    if plan.dataset not in chosen.datasets:
        raise PaperError(f"{paper} has no figures for {plan.dataset!r}; use one of: {', '.join(chosen.datasets)}")
    folder = out or Path("runs") / paper
    console = Console()
    if not console.is_terminal:
        console.width = 60 + 30 * len(chosen.figures)  # a file has no width, and the table needs so much
    with progress(console, paper, len(matching(chosen, plan, only or []))) as (say, finished):
        lanes = workers or len(os.sched_getaffinity(0))
        for cell, reused in measure(chosen, plan, folder, data_dir, say, lanes, fresh, only or []):
            finished(f"{cell.label} · seed {cell.seed}" + (" (was there already)" if reused else ""))
    if onto:
        adopt(chosen, plan, folder, onto)
    rows, record = write_comparison(chosen, plan, folder)
    console.print(comparison_table(chosen, rows))
    for note in chosen.notes(plan):
        console.print(f"[yellow]otherwise than published[/] {escape(note)}", highlight=False)
    console.print(f"record: {record}", soft_wrap=True, highlight=False, markup=False)


def comparison_table(paper: Paper, rows: list[Row]) -> Table:
    """A line a row, and in it each figure as published → as measured, with its 95 % interval."""
    table = Table(title=f"{paper.citation}: published → measured", title_justify="left")
    for name in ("", ""):
        table.add_column(name, no_wrap=True)
    for name in paper.figures:
        table.add_column(name)
    for row in rows:
        figures = (
            _figure(row.published.get(name), row.measured.get(name), digits) for name, digits in paper.figures.items()
        )
        table.add_row(escape(row.column), escape(row.row), *figures)
    return table


def _figure(published: float | None, measured: Summary | None, digits: int) -> str:
    before = "" if published is None else f"{published:.{digits}f} "
    if measured is None:
        return before
    return f"{before}→ {measured.mean:z.{digits}f} ({measured.low:z.{digits}f}–{measured.high:z.{digits}f})"
