"""The process tuning acts where it should, and can be turned off."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from parties.tuning import share_of_cores

SCRIPT = """
import json, os, sys
from dataclasses import asdict
from parties.tuning import tune_process
early = sorted({"torch", "grpc"} & set(sys.modules))
tuning = asdict(tune_process(processes=1000))
import torch
print(json.dumps({"early": early, "tuning": tuning, "threads": torch.get_num_threads(),
                  "cores": sorted(os.sched_getaffinity(0)), "grpc": os.environ.get("GRPC_EXPERIMENTS")}))
"""


def tuned(**environment: str) -> dict[str, object]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", "GRPC_EXPERIMENTS", "UNSMASH_TUNING")
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_tuning_acts_before_torch_and_grpc_are_loaded() -> None:
    found = tuned()
    assert found["early"] == []
    assert found["threads"] == 1
    assert found["cores"] == sorted(os.sched_getaffinity(0))
    assert found["grpc"]
    assert found["tuning"] == {"malloc": True, "threads": 1, "grpc": True}


def test_tuning_can_be_turned_off() -> None:
    found = tuned(UNSMASH_TUNING="off")
    assert found["tuning"] == {"malloc": False, "threads": None, "grpc": False}
    assert found["grpc"] is None


def test_what_the_user_has_set_is_kept() -> None:
    assert tuned(OMP_NUM_THREADS="3", GRPC_EXPERIMENTS="x")["grpc"] == "x"


def test_every_process_has_its_share_of_the_cores_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5, 7, 11})
    assert [share_of_cores(place, 2) for place in range(2)] == [{2, 3}, {5, 7}]
    assert [share_of_cores(place, 5) for place in range(5)] == [{2}, {3}, {5}, {7}, {11}]
    assert share_of_cores(0, 6) is None
    monkeypatch.setenv("UNSMASH_TUNING", "off")
    assert share_of_cores(0, 2) is None
