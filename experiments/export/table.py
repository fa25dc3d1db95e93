"""One tidy table: a row for each victim under each attack and each floor of each trial."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.export.extras import wanted
from experiments.record import Leakage, Record
from split_models.checkpoints import write_atomically


def rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Rows with the same columns throughout: what was run, by whom it was attacked, what leaked of whom."""
    for record in records:
        trial = {
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
        found = [("attack", attack.label, attack.leakage) for attack in record.attacks]
        found += [("floor", name, leakage) for name, leakage in record.floors.items()]
        for kind, name, leakage in found:
            yield from ({**trial, "kind": kind, "name": name, **victim} for victim in _victims(record, leakage))


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Write the table as CSV, UTF-8, with a heading."""
    table = list(rows(records))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    write_atomically(path, text.getvalue().encode())


def write_parquet(records: Sequence[Record], path: Path) -> None:
    """Write the table as Parquet.

    Raises:
        ExportError: pyarrow is not installed.
    """
    arrow, parquet = wanted("pyarrow", "parquet"), wanted("pyarrow.parquet", "parquet")
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(list(rows(records))), sink)
    write_atomically(path, sink.getvalue())


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
