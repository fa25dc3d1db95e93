"""Tables: the real ones where they are at hand, and files that are not what they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from parties.datasets import TABLES, load, load_table
from parties.datasets.dataset import DATA_VARIABLE, DataError, DataMissing, partition
from split_models.tabular.columns import check_rows
from tests.experiments.hosting.made_up import write_census, write_survey

needs_data = pytest.mark.skipif(not os.environ.get(DATA_VARIABLE), reason=f"set {DATA_VARIABLE} to read real tables")


@pytest.mark.needs_data
@needs_data
@pytest.mark.parametrize(
    "name, rows, columns, positive",
    [
        ("steak", 331, 12, 0.172),
        ("gss_happiness", 16_127, 9, 0.199),
        ("adult", 45_222, 11, 0.479),
        ("iwpc_warfarin", 3_512, 8, 0.357),
    ],
)
def test_a_real_table(name: str, rows: int, columns: int, positive: float) -> None:
    try:
        table = load_table(name)
    except DataMissing as missing:
        pytest.skip(str(missing))
    assert table.rows.shape == (rows, columns)
    assert len(table.columns) == columns
    check_rows(table.columns, table.rows)
    secret = table.rows[:, table.sensitive] == table.positive
    assert abs(float(secret.float().mean()) - positive) < 0.001
    assert torch.isfinite(table.targets.float()).all()
    if table.classes:
        assert set(table.targets.tolist()) == set(range(len(table.classes)))
    for column, marginal in zip(table.columns, table.marginals(), strict=True):
        assert not column.levels or abs(float(marginal.sum()) - 1) < 1e-9


def test_rows_with_gaps_are_left_out(tmp_path: Path) -> None:
    table = load_table("steak", write_survey(tmp_path, people=50))
    assert len(table.rows) == 50
    assert table.columns[table.sensitive].levels == ("No", "Yes")


def test_attributes_of_a_table_are_out_of_the_inputs_unless_these_are_whole(tmp_path: Path) -> None:
    folder = write_census(tmp_path)
    table, without, whole = load_table("adult", folder), load("adult", folder), load("adult_whole", folder)
    places = {column.name: place for place, column in enumerate(table.columns)}
    for raw in (without, whole):
        assert set(raw.attributes) == {"sex", "race", "marital"}
        for name, values in raw.attributes.items():
            assert values.tolist() == table.rows[:, places[name]].tolist()
        assert raw.images.min() == 0 and raw.images.max() == 1
        assert not raw.shareable
    # Five numbers, one work class, two occupations and one country; three attributes of two levels each.
    assert (without.images.shape, whole.images.shape) == ((400, 1, 9), (400, 1, 15))
    assert (without.among_inputs, whole.among_inputs) == ((), ("sex", "race", "marital"))
    age, sexes = table.rows[:, places["age"]], torch.from_numpy(whole.attributes["sex"])
    assert torch.allclose(without.inputs(slice(None))[:, 0, 0], (age - age.min()) / (age.max() - age.min()))
    inputs = whole.inputs(slice(None))[:, 0]
    assert any(torch.equal(inputs[:, place].long(), sexes) for place in range(15)), "one-hot, as it is"
    assert without.labels.tolist() == table.targets.tolist()


@pytest.mark.needs_data
@needs_data
def test_the_real_census_without_its_attributes() -> None:
    try:
        raw = load("adult")
    except DataMissing as missing:
        pytest.skip(str(missing))
    assert raw.images.shape == (45_222, 1, 5 + 7 + 14 + 41)
    sizes = {"train": 4000, "auxiliary": 1500, "validation": 500, "victims": 400, "test": 1000}
    parts, dropped = partition(raw, sizes, seed=0)
    assert dropped == 45_222 - 29_574, "rows that differ in their attributes alone are the same input"
    assert 0.6 < float(parts["victims"].attributes["sex"].double().mean()) < 0.75


@pytest.mark.parametrize("name", TABLES)
def test_missing_and_broken_files_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="is missing; put it there"):
        load_table(name, tmp_path)
    (tmp_path / name).mkdir()
    for file in ("steak-risk-survey.csv", "GSShappiness.csv", "adult.data", "adult.test", "iwpc_warfarin.csv"):
        (tmp_path / name / file).write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match="expected the same number of values"):
        load_table(name, tmp_path)
    for file in (tmp_path / name).iterdir():
        file.write_text("a,b\n1,2\n3,4\n5,6\n")
    with pytest.raises(DataError, match="fetch"):
        load_table(name, tmp_path)


def test_an_unknown_table_names_those_there_are() -> None:
    with pytest.raises(DataError, match="unknown table 'stake'; use one of: steak"):
        load_table("stake")
