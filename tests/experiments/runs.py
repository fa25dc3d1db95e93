"""A tiny scenario for tests of whole runs, and ways to watch the processes of one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

TINY = """
name = "tiny"
cuts = ["relu1"]
threads = 1

[data]
train = 60
auxiliary = 40
validation = 10
victims = 6
test = 20

[model]
epochs = 1

[owners]
count = 2
batch_size = 2

[[defenses]]
name = "none"

[[defenses]]
name = "gaussian_noise"
sigma = 0.5

[[attacks]]
name = "regularized_inversion"
iterations = 8
tuning_images = 2

[[attacks]]
name = "inverse_network"
epochs = 2
width = 8

[[attacks]]
name = "shadow_model"
epochs = 1
iterations = 5
"""


def scenario_file(folder: Path, text: str = TINY) -> str:
    """Write a scenario below `folder`; returns its path."""
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


def start_unsmash(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the command line as a user does, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from experiments.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def parties_of(logs: Path, count: int, within_s: float = 40.0) -> dict[str, int]:
    """Wait until a run has started `count` parties; their process ids by name, found by the log each writes to."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = writers(logs)
        if len(found) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"expected {count} parties with logs in {logs}, found {writers(logs)}")


def none_left(logs: Path, within_s: float = 8.0) -> bool:
    """Is no process left that writes to one of these logs?"""
    deadline = time.monotonic() + within_s
    while writers(logs) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not writers(logs)


def writers(logs: Path) -> dict[str, int]:
    """Who writes to these logs now: process ids by the name of the log."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            target = (process / "fd" / "2").readlink()
        except OSError:
            continue
        if target.parent == logs.resolve():
            found[target.stem] = int(process.name)
    return found
