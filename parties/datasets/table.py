"""What a party can hold beside images: a table with a response, and a column that was meant to stay secret."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parties.datasets.dataset import DataError, DataMissing, RawData, data_directory
from split_models.tabular.columns import Column, ColumnEncoding

Records = list[dict[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows as models read them: a level's number from 0, or a number, in each column."""

    name: str
    columns: tuple[Column, ...]
    rows: Tensor  # (N, columns) float32
    targets: Tensor  # (N,): classes int64, or the response of a regression float32
    classes: tuple[str, ...]  # names; empty for a regression
    sensitive: int  # which column the published attacks go for
    positive: int  # the level of it that hurts to be known by

    def marginals(self) -> tuple[Tensor, ...]:
        """A column's probabilities by level (levels,) where it has levels, else its values (N,)."""
        return tuple(
            torch.bincount(self.rows[:, index].long(), minlength=len(column.levels)).double() / len(self.rows)
            if column.levels
            else self.rows[:, index]
            for index, column in enumerate(self.columns)
        )


def read_records(
    data_dir: Path | None, folder: str, file: str, names: Sequence[str] | None = None, skip: int = 0
) -> Records:
    """The lines of a CSV file after the first `skip`, by column; `names` where the file has none.

    Raises:
        DataMissing: there is no such file.
        DataError: it cannot be read, or a line has too many or too few values.
    """
    path = data_directory(data_dir) / folder / file
    if not path.is_file():
        raise DataMissing(f"{path} is missing; put it there or give another --data-dir")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()[skip:]
        records = list(csv.DictReader(lines, names, skipinitialspace=True, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not the expected file ({error}); fetch it again") from error
    if not records or any(None in record or None in record.values() for record in records):
        raise DataError(f"{path}: expected the same number of values in every line; fetch it again")
    return records


def encode(records: Records, columns: Sequence[Column], fields: Sequence[str]) -> Tensor:
    """Rows (N, columns) float32, each column from the field of its name in `fields`.

    Raises:
        DataError: a text that is no level of its column, or no number.
    """
    encoded = torch.empty(len(records), len(columns))
    for position, (column, field) in enumerate(zip(columns, fields, strict=True)):
        codes = {level: code for code, level in enumerate(column.levels)}
        try:
            values = [float(codes[record[field]]) if codes else float(record[field]) for record in records]
        except (KeyError, ValueError) as error:
            raise DataError(f"column {column.name!r}: {error} is nothing that belongs there; fetch the file") from error
        encoded[:, position] = torch.tensor(values)
    return encoded


def levels_of(records: Records, field: str) -> tuple[str, ...]:
    """Every text that a field takes, in alphabetical order.

    Raises:
        DataError: there is no such field.
    """
    if not records or field not in records[0]:
        raise DataError(f"expected complete rows with a column {field!r}, got none; fetch the file again")
    return tuple(sorted({record[field] for record in records}))


def as_series(table: Table, attributes: Sequence[str], whole: bool = False) -> RawData:
    """A table of classes for networks that are cut: rows as series (N, 1, numbers), float32 in [0, 1].

    Levels are one-hot, numbers from the least to the greatest of the table. `attributes` are columns with levels; they
    are taken out of the inputs, unless these are to be `whole`. Rows are of people, so they are not to be shown.
    """
    places = {column.name: place for place, column in enumerate(table.columns)}
    held = [place for name, place in places.items() if whole or name not in attributes]
    columns, rows = [table.columns[place] for place in held], table.rows[:, held]
    numbers = [place for place, column in enumerate(columns) if not column.levels]
    least, greatest = rows[:, numbers].amin(0), rows[:, numbers].amax(0)
    rows[:, numbers] = (rows[:, numbers] - least) / (greatest - least).clamp_min(1e-6)
    return RawData(
        table.name,
        ColumnEncoding(columns)(rows)[:, None].numpy(),
        table.targets.numpy(),
        table.classes,
        shareable=False,
        attributes={name: table.rows[:, places[name]].numpy().astype(np.int64) for name in attributes},
        among_inputs=tuple(attributes) if whole else (),
    )
