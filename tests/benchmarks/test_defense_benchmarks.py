"""The benchmarks of defenses run from end to end; their figures are not judged here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("module", "options", "said"),
    [
        (
            "nopeek",
            ["--batch", "4", "--rounds", "1", "--seconds", "0"],
            r"lenet at relu2, batch 4: .* biased x\d.*(within|beyond)",
        ),
        ("ckks", ["--features", "8", "--outputs", "2", "--rounds", "1"], r"bytes_up an image: .* encrypted, x\d"),
    ],
)
def test_a_benchmark_measures_and_records(module: str, options: list[str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    command = [sys.executable, "-m", f"benchmarks.{module}", *options, "--record", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.search(said, done.stdout)
    record = json.loads(path.read_bytes())
    assert record["results"]
    assert record["provenance"]["commit"]
