"""Results for other tools, read back through those tools' own libraries; skipped aloud where one is missing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.export.extras import ExportError, wanted
from experiments.export.figures import write_figures
from experiments.export.table import reading_rows, rows, write_csv, write_parquet
from experiments.export.trackers import figures, to_mlflow, to_tensorboard
from experiments.record import Read, ReadingOutcome, Record
from experiments.statistics import Summary, summarise
from tests.experiments.synthetic import record, scenario, write_run


@pytest.fixture
def records() -> list[Record]:
    asked = scenario()
    attacks: dict[str, Any] = {"regularized_inversion": [0.2] * 20, "shadow_model": "needs auxiliary"}
    return [
        record(asked, cut, defense, attacks)
        for cut in ("relu1", "relu2")
        for defense in ("none", "gaussian_noise sigma=0.5", "gaussian_noise sigma=2.0")
    ]


def test_the_table_has_a_row_for_each_victim_and_attack(records: list[Record], tmp_path: Path) -> None:
    write_csv(list(rows(records)), tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 6 * (1 + 2) * 20, "an attack that ran and two floors; the refused one has no figures"
    one = next(row for row in table if row["name"] == "regularized_inversion")
    assert (one["cut"], one["defense"], one["seed"], one["kind"]) == ("relu1", "none", "0", "attack")
    assert float(one["ssim"]) == 0.2


def test_a_summary_holds_what_the_report_says_in_little_space(tmp_path: Path) -> None:
    attacks: dict[str, Any] = {"regularized_inversion": [0.2] * 10 + [0.4] * 10, "shadow_model": [0.1] * 20}
    made = [
        record(scenario(seed=seed), cut, "none", attacks, key=f"{cut}-{seed}")
        for cut in ("relu1", "relu2")
        for seed in (0, 1)
    ]
    folder = write_run(tmp_path / "run", made)
    asked = CliRunner().invoke(app, ["export", str(folder), "--summary", str(tmp_path / "out" / "summary.json")])
    assert asked.exit_code == 0, asked.output
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["command"] == "unsmash run by-hand.toml"
    assert (found["trials"], found["unfinished"], found["commits"]) == (4, 0, ["c0ffee"])
    assert [(row["cut"], row["seeds"], row["victims"]) for row in found["rows"]] == [
        ("relu1", [0, 1], 20),
        ("relu2", [0, 1], 20),
    ]
    row = found["rows"][0]
    assert row["attacks"]["regularized_inversion"]["ssim"]["mean"] == pytest.approx(0.3)
    assert row["strongest"]["chosen"] == ["regularized_inversion"] * 2
    assert row["strongest"]["ssim"] == row["attacks"]["regularized_inversion"]["ssim"]
    assert found["comparisons"][0]["answer"] == "undecided"
    assert "per_victim" not in json.dumps(found)


def test_parquet_holds_the_same_table(records: list[Record], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(list(rows(records)), tmp_path / "table.parquet")
    assert parquet.read_table(tmp_path / "table.parquet").to_pylist() == list(rows(records))


@pytest.fixture
def read() -> list[Record]:
    """Three seeds in which two owners' secrets were read, one right in 3 of 4 and the other in 1 of 4."""
    asked: dict[str, Any] = {
        "label": "head_probe secret=digit",
        "secret": "digit",
        "name": "head_probe",
        "settings": {},
    }
    asked |= {"requires": ["head"], "uses": []}
    right = [True, False] * 2 + [True, True, True, False] * 4
    owners = {
        "owner-1": Read(victims=10, majority=0.2, accuracy=summarise(np.array([0.0, 1.0, 1.0, 1.0])), auc=None),
        "owner-2": Read(victims=10, majority=0.4, accuracy=summarise(np.array([0.0, 0.0, 0.0, 1.0])), auc=None),
    }
    area = Summary(mean=0.8, low=0.7, high=0.9, percentiles={})
    done = {"status": "done", "values": 10, "majority": 0.3, "right": right, "owners": owners, "queries": 5}
    done |= {"accuracy": summarise(np.array(right, dtype=float)), "auc": area}
    refused = {"status": "refused", "reason": "head_probe needs head", "label": "refused"}
    return [
        record(
            scenario(seed=seed),
            "relu1",
            "none",
            {"shadow_model": [0.1] * 20},
            key=str(seed),
            readings=[ReadingOutcome(**asked, **done), ReadingOutcome(**{**asked, **refused})],
        )
        for seed in range(3)
    ]


def test_readings_have_a_table_beside_with_a_row_for_each_owner(read: list[Record], tmp_path: Path) -> None:
    folder, out = write_run(tmp_path / "run", read), tmp_path / "out"
    kinds = ["--csv", str(out / "t.csv"), "--summary", str(out / "s.json")]
    done = CliRunner().invoke(app, ["export", str(folder), *kinds])
    assert done.exit_code == 0, done.output
    with (out / "t-readings.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["seed"], row["owner"]) for row in table] == [
        (seed, owner) for seed in "012" for owner in ("", "owner-1", "owner-2")
    ], "the refused one has no figures"
    whole, first, second = table[:3]
    assert (whole["cut"], whole["reading"], whole["secret"]) == ("relu1", "head_probe secret=digit", "digit")
    assert [float(whole[key]) for key in ("right", "floor", "auc", "auc_low", "auc_high")] == [0.7, 0.3, 0.8, 0.7, 0.9]
    assert float(whole["right_low"]) < 0.7 < float(whole["right_high"])
    assert [(float(row["right"]), float(row["floor"]), row["auc"]) for row in (first, second)] == [
        (0.75, 0.2, ""),
        (0.25, 0.4, ""),
    ]
    (row,) = json.loads((out / "s.json").read_text())["rows"]
    found = row["readings"]["head_probe secret=digit"]
    assert (found["secret"], found["floor"], found["right"]["mean"]) == ("digit", 0.3, pytest.approx(0.7))
    assert (found["auc"]["mean"], found["auc"]["low"]) == (0.8, 0.8), "over seeds, which agree"
    assert row["readings"]["refused"] == "head_probe needs head"
    assert figures(read[0])["auc/head_probe secret-digit"] == 0.8


def test_parquet_holds_the_same_readings(read: list[Record], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    done = CliRunner().invoke(app, ["export", str(write_run(tmp_path / "run", read)), "--parquet", str(path)])
    assert done.exit_code == 0, done.output
    assert parquet.read_table(tmp_path / "t-readings.parquet").to_pylist() == list(reading_rows(read))


def test_figures_are_the_same_each_time(records: list[Record], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first, second = (write_figures(records, tmp_path / name) for name in ("first", "second"))
    names = {path.name for path in first}
    assert {"tradeoff-relu1.svg", "tradeoff-relu2.pdf", "leakage-none.svg"} <= names
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    text = (tmp_path / "first" / "tradeoff-relu1.svg").read_text()
    assert "gaussian noise" in text and "accuracy with the defense" in text
    assert (tmp_path / "first" / "tradeoff-relu1.pdf").read_bytes().startswith(b"%PDF")


def test_mlflow_gets_each_trial_once(records: list[Record], tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra: pip install 'unsmash[mlflow]'")
    pytest.importorskip("alembic", reason="needs the extra: pip install 'unsmash[mlflow]'")
    uri = f"sqlite:///{tmp_path}/store.db"
    assert to_mlflow(records[:2], "mine", uri) == 2
    assert to_mlflow(records[:3], "mine", uri) == 1
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    found = {run.data.params["defense"]: run.data.metrics for run in runs}
    assert len(runs) == 3
    assert found["none"]["ssim/regularized_inversion"] == pytest.approx(0.2)
    assert found["none"]["accuracy"] == pytest.approx(0.97)


def test_tensorboard_gets_each_figure(records: list[Record], tmp_path: Path) -> None:
    module = "tensorboard.backend.event_processing.event_accumulator"
    reader = pytest.importorskip(module, reason="needs the extra: pip install 'unsmash[tensorboard]'")
    for _ in range(2):
        to_tensorboard(records, tmp_path)
    events = reader.EventAccumulator(str(tmp_path / records[0].key))
    events.Reload()
    (figure,) = events.Scalars("ssim/regularized_inversion")
    assert figure.value == pytest.approx(0.2)


def test_a_missing_library_says_what_to_install() -> None:
    with pytest.raises(ExportError, match=r"pip install 'unsmash\[figures\]'"):
        wanted("no_such_library", "figures")


def test_the_command_writes_what_it_was_asked_for(records: list[Record], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", records)
    done = CliRunner().invoke(app, ["export", str(folder), "--csv", str(tmp_path / "out" / "table.csv")])
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["table.csv"], "nothing was read"
    nothing = CliRunner().invoke(app, ["export", str(folder)])
    assert isinstance(nothing.exception, ExportError)
