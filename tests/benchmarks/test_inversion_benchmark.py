"""The benchmark runs from end to end; its figures are not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parties.datasets.dataset import DATA_VARIABLE


@pytest.mark.needs_data
@pytest.mark.skipif(not os.environ.get(DATA_VARIABLE), reason=f"needs MNIST: set {DATA_VARIABLE}")
def test_the_benchmark_measures_and_records(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    small = ["--steps", "20", "--victims", "1", "--batch", "2", "--train", "200", "--epochs", "1"]
    command = [sys.executable, "-m", "benchmarks.inversion", "--cuts", "conv1", *small, "--record", str(record)]
    record.write_text(json.dumps({"results": [{"cut": "conv1", "method": "old"}, {"cut": "relu32", "method": "kept"}]}))
    subprocess.run(command, check=True, timeout=120)
    kept, result, memory = json.loads(record.read_text())["results"]
    assert kept == {"cut": "relu32", "method": "kept"}
    assert max(memory["peak_memory_mb"].values()) < 2 * min(memory["peak_memory_mb"].values())
    assert result["method"] == "linear solve"
    assert result["our_psnr_db"] > 100 > result["published_psnr_db"]
    assert result["ratio_per_victim"] > 0
