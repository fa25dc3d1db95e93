"""The training benchmark runs and writes a record; it says nothing about speed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_it_compares_and_records(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    sizes = ["--networks", "lenet", "--batches", "4", "--rounds", "1", "--samples", "8"]
    rows = ["--rows", "one owner, 2 micro-batches", "--record", str(path)]
    subprocess.run([sys.executable, "-m", "benchmarks.training", *sizes, *rows], check=True, capture_output=True)
    results = json.loads(path.read_text())["results"]
    alone = [result for result in results if result["row"].startswith("alone")]
    assert [result["row"] for result in results[len(alone) :]] == ["one owner, 2 micro-batches"]
    assert len(alone) == 3
    assert max(result["ratio_to_monolithic"] for result in alone) == 1
    assert all(result["samples_per_s"] > 0 for result in results)
