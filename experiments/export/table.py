"""Tidy tables: a row for each victim under each attack and each floor of each trial; a row for each reading."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.export.extras import wanted
from experiments.record import Leakage, Read, ReadingOutcome, Record
from experiments.statistics import Summary
from split_models.checkpoints import write_atomically


def rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Rows with the same columns throughout: what was run, by whom it was attacked, what leaked of whom."""
    for record in records:
        trial = _trial(record)
        found = [("attack", attack.label, attack.leakage) for attack in record.attacks]
        found += [("floor", name, leakage) for name, leakage in record.floors.items()]
        for kind, name, leakage in found:
            yield from ({**trial, "kind": kind, "name": name, **victim} for victim in _victims(record, leakage))


def reading_rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """A row for each reading that ran in each trial, on all victims, and one more for each owner of several.

    `owner` is empty where all victims are meant. `right` is how often the likeliest value is, `floor` how often the
    value that is most frequent among the attacker's own images. Intervals are over the victims.
    """
    for record in records:
        for one in record.readings:
            for owner, read in _worths(one):
                yield {
                    **_trial(record),
                    "reading": one.label,
                    "secret": one.secret,
                    "values": one.values,
                    "owner": owner,
                    "victims": read.victims,
                    "floor": read.majority,
                    **_figures("right", read.accuracy),
                    **_figures("auc", read.auc),
                    "queries": one.queries,
                }


def write_csv(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows of a table, at least one, as CSV, UTF-8, with a heading."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    write_atomically(path, text.getvalue().encode())


def write_parquet(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows of a table as Parquet.

    Raises:
        ExportError: pyarrow is not installed.
    """
    arrow, parquet = wanted("pyarrow", "parquet"), wanted("pyarrow.parquet", "parquet")
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(list(table)), sink)
    write_atomically(path, sink.getvalue())


def _trial(record: Record) -> dict[str, Any]:
    return {
        "trial": record.key,
        "dataset": record.dataset.get("name"),
        "model": record.scenario.get("model", {}).get("name"),
        "cut": record.cut,
        "defense": record.defense,
        "seed": record.scenario.get("seed"),
        "accuracy": record.utility.accuracy,
        "accuracy_defended": record.utility.accuracy_defended,
        "bytes_per_image": record.cost.bytes_per_image,
    }


def _worths(one: ReadingOutcome) -> Iterator[tuple[str, Read]]:
    """What a reading is worth on all victims, then owner by owner; a reading that was refused is worth nothing."""
    if one.accuracy:
        yield "", Read(victims=len(one.right), majority=one.majority, accuracy=one.accuracy, auc=one.auc)
        yield from one.owners.items()


def _figures(name: str, summary: Summary | None) -> dict[str, float | None]:
    if summary is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: summary.mean, f"{name}_low": summary.low, f"{name}_high": summary.high}


def _victims(record: Record, leakage: Leakage | None) -> Iterator[dict[str, Any]]:
    """A victim a row; an attack that was refused has none."""
    if leakage is None:
        return
    figures = leakage.per_victim
    for row, victim in enumerate(record.victims):
        yield {
            "victim": victim.index,
            "owner": victim.owner,
            "label": victim.label,
            "psnr_db": figures["psnr_db"][row],
            "ssim": figures["ssim"][row],
            "mse": figures["mse"][row],
            "dtw": figures["dtw"][row] if "dtw" in figures else None,
            "identified": bool(figures["identification"][row] > 0.5),
        }
