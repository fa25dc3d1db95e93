"""The benchmark runs from end to end; its figures are not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.wire import measurements
from benchmarks.wire.contender import Setting
from benchmarks.wire.figures import filled


def test_the_benchmark_measures_and_records(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.wire",
            "--sizes",
            "4 KB",
            "--connections",
            "2",
            "--turn-s",
            "0.01",
            "--only",
            "compare",
            "--rows",
            "ours, fp16, TLS",
            "--record",
            str(record),
        ],
        check=True,
        timeout=120,
    )
    results = json.loads(record.read_text())["compare"]
    assert {(result["row"], result["in_flight"]) for result in results} == {
        ("raw TCP", 1),
        ("raw TCP", 4),
        ("ours, fp16, TLS", 1),
        ("ours, fp16, TLS", 4),
    }
    assert all(result["median_s"] > 0 for result in results)
    assert all(low <= high for result in results for low, high in [result["middle_half"]])
    assert all(result["ratio_to_raw_tcp"] == 1 for result in results if result["row"] == "raw TCP")


def test_a_whole_step_is_measured_over_several_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "STEPS", 96)
    monkeypatch.setattr(measurements, "SETTLE_S", 0.0)
    for name in ("inference step", "training step"):
        found = measurements.measure_step(name, Setting(1), 2)
        assert found["steps"] == 6
        low, high = found["middle_half"]
        assert 0 < low <= high < 1
        assert 0 < found["transport_share"] < 1


def test_the_page_shows_the_committed_records() -> None:
    page = Path("docs/wire.md").read_text()
    assert "| 1 in flight |" in page
    assert page == filled(page)


def test_fuzzing_finds_nothing_in_a_few_seconds() -> None:
    pytest.importorskip("atheris", reason="fuzzing comes with the extra 'fuzz'")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz_frames", "--seconds", "3"],
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
