"""The census income table of UCI."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from parties.datasets.dataset import RawData
from parties.datasets.table import Table, as_series, encode, levels_of, read_records
from split_models.tabular.columns import Column

FIELDS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship"),
    *("race", "sex", "gain", "loss", "hours", "country", "income"),
)
NUMBERS = ("age", "education_num", "gain", "loss", "hours")
LEVELS = ("workclass", "occupation", "race", "sex", "country", "marital")
INCOME = ("<=50K", ">50K")
ATTRIBUTES = ("sex", "race", "marital")
"""What may be read off activations of a network that is asked for the income."""


def adult(data_dir: Path | None) -> Table:
    """45,222 complete rows of the 1994 census (Becker and Kohavi, 1996): 5 numbers, 6 columns with levels, income.

    The sensitive column is the marital status, in two levels, married or not, as the attribute-inference papers have
    it. Left out: the sampling weight, the education's name, which repeats its number, and the relationship, which
    says "Husband" and so would give the answer away.

    Raises:
        DataMissing: `adult/adult.data` or `adult/adult.test` is not in the data directory.
        DataError: the files are others.
    """
    records = read_records(data_dir, "adult", "adult.data", FIELDS)
    # The first line of the second file is a remark; labels there end with a full stop.
    records += read_records(data_dir, "adult", "adult.test", FIELDS, skip=1)
    complete = [record for record in records if "?" not in record.values()]
    for record in complete:
        record["income"] = record["income"].rstrip(".")
        record["marital"] = "married" if record["marital"].startswith("Married") else "not married"
    columns = (*(Column(name) for name in NUMBERS), *(Column(name, levels_of(complete, name)) for name in LEVELS))
    rows = encode(complete, columns, [column.name for column in columns])
    income = encode(complete, [Column("income", INCOME)], ["income"])
    sensitive = len(columns) - 1
    return Table(
        "adult",
        columns,
        rows,
        income[:, 0].to(torch.int64),
        INCOME,
        sensitive,
        columns[sensitive].levels.index("married"),
    )


def adult_inputs(data_dir: Path | None) -> RawData:
    """The census income table as inputs without the attributes `sex`, `race` and `marital`, which stay to be read.

    Rows that differ in these alone are the same input, and of the same inputs one is used. The two files are one pool.

    Raises:
        DataMissing: as `adult`.
    """
    return as_series(adult(data_dir), ATTRIBUTES)


def adult_whole(data_dir: Path | None) -> RawData:
    """The same with `sex`, `race` and `marital` among the inputs: what a reading of them says is how well a cut hides.

    Raises:
        DataMissing: as `adult`.
    """
    return replace(as_series(adult(data_dir), ATTRIBUTES, whole=True), name="adult_whole")
