"""`unsmash export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.export.extras import ExportError
from experiments.export.figures import write_figures
from experiments.export.summary import write_summary
from experiments.export.table import reading_rows, rows, write_csv, write_parquet
from experiments.export.trackers import to_mlflow, to_tensorboard
from experiments.record import read_records
from experiments.report.pooling import pooled


def export(
    folder: Annotated[Path, typer.Argument(help="The folder of an `unsmash run` or `unsmash study`.")],
    csv: Annotated[
        Path | None, typer.Option(help="Write the tidy table as CSV to this file, and readings beside it.")
    ] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the tidy table as Parquet (extra: parquet).")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write pooled figures as one small JSON file.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write SVG and PDF figures to this folder.")] = None,
    mlflow: Annotated[str | None, typer.Option(metavar="URI", help="Log the trials to this MLflow store.")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write the trials as TensorBoard runs to this folder.")
    ] = None,
) -> None:
    """Results for other tools: a table with one row a victim and attack, a summary, figures for papers, trackers.

    Where something was read off activations, a second table, FILE-readings, has one row a reading, trial and owner.
    """
    if not any((csv, parquet, summary, figures, mlflow, tensorboard)):
        options = "--csv, --parquet, --summary, --figures, --mlflow or --tensorboard"
        raise ExportError(f"expected something to write; give {options}")
    records = read_records(folder)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    read = list(reading_rows(records))
    for path, write in ((csv, write_csv), (parquet, write_parquet)):
        if path:
            write(list(rows(records)), path)
            console.print(f"table:       {path}")
        if path and read:
            beside = path.with_stem(f"{path.stem}-readings")
            write(read, beside)
            console.print(f"readings:    {beside}")
    if summary:
        write_summary(records, folder, summary)
        console.print(f"summary:     {summary}")
    if figures:
        for path in write_figures(pooled(records), figures):
            console.print(f"figure:      {path}")
    if mlflow:
        name = folder.resolve().name
        new = to_mlflow(records, name, mlflow)
        console.print(f"mlflow:      {new} new of {len(records)} trials, experiment {name!r} at {mlflow}")
    if tensorboard:
        to_tensorboard(records, tensorboard)
        console.print(f"tensorboard: {tensorboard}")
