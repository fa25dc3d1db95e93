"""Split training led by Flower: the split server and Flower's side as processes of their own."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.provenance import provenance
from experiments.record import Part
from experiments.report.reproduce import to_toml
from experiments.scenario import ScenarioError
from experiments.training.building import split_point, write_initial
from experiments.training.crew import MODULE, SERVER
from experiments.training.scenario import TrainingScenario, boundary_of
from parties.datasets import load
from parties.datasets.dataset import LabelledImages, RawData, partition
from parties.datasets.shares import divide
from parties.flower_app.job import Job, owner_name
from parties.processes import Parties
from parties.protocols.protocol import Boundary
from split_models.checkpoints import load_tensors, save_tensors, write_atomically
from split_models.randomness import seed_for

PROTOCOL = "splitfed_v2"
FLOWER = "flower"
SIMULATION = "parties.flower_app.simulation"
RECORD = "federation.json"
LONGEST_S = 24 * 3600.0  # between two rounds


class FederationRecord(Part):
    """What a training on Flower came to."""

    schema_version: Literal[1] = 1
    scenario: dict[str, Any]
    owners: int
    fraction: float
    workers: int
    rounds: list[dict[str, float]]
    seconds: float  # all of it, with the start of the processes
    peak_memory_mb: float  # of the process that leads
    server_memory_mb: float  # peak of the split server's process
    provenance: dict[str, Any]


def check_scenario(scenario: TrainingScenario) -> None:
    """Refuse what Flower cannot lead.

    Raises:
        ScenarioError: another protocol, or flwr is not installed.
    """
    if scenario.protocol != PROTOCOL or len(scenario.cuts) != 1:
        raise ScenarioError(
            f"expected protocol {PROTOCOL} with one cut, got {scenario.protocol}: Flower averages heads, and owners "
            "share the server's layers in whatever order they come"
        )
    if importlib.util.find_spec("flwr") is None:
        raise ScenarioError("Flower is not installed; install it with `pip install -c constraints.txt -e '.[flower]'`")


def simulate(
    scenario: TrainingScenario,
    folder: Path,
    data_dir: Path | None,
    fraction: float,
    workers: int,
    report: Callable[[float], None],
) -> FederationRecord:
    """Simulate the owners of a scenario with Flower's engine, at most `workers` at once.

    With more than one worker owners reach the server's layers in an order that is not repeated.

    Raises:
        ScenarioError, DataError: before anything starts.
        PartyError: the split server or Flower failed.
    """
    check_scenario(scenario)
    start = time.perf_counter()
    raw = load(scenario.data.name, data_dir)
    boundary = boundary_of(scenario, raw.input_spec, len(raw.classes))
    state = folder / "state"
    shutil.rmtree(state, ignore_errors=True)
    _hand_out(scenario, raw, boundary, state)
    found, server_memory_mb = _play(scenario, folder, raw, fraction, workers, report)
    record = FederationRecord(
        scenario=scenario.model_dump(mode="json"),
        owners=scenario.owners.count,
        fraction=fraction,
        workers=workers,
        rounds=found["rounds"],
        seconds=time.perf_counter() - start,
        peak_memory_mb=found["peak_memory_mb"],
        server_memory_mb=server_memory_mb,
        provenance=provenance(),
    )
    save_tensors(folder / "models" / "owner.safetensors", load_tensors(state / "head.safetensors")[0])
    write_atomically(folder / RECORD, (record.model_dump_json(indent=1) + "\n").encode())
    shutil.rmtree(state)
    return record


def _play(
    scenario: TrainingScenario,
    folder: Path,
    raw: RawData,
    fraction: float,
    workers: int,
    report: Callable[[float], None],
) -> tuple[dict[str, Any], float]:
    """What Flower's side says at the end, and the split server's peak of memory in MB."""
    state, count = folder / "state", scenario.owners.count
    begin = {
        "scenario": scenario.model_dump(mode="json"),
        "input_shape": list(raw.input_spec.shape),
        "classes": len(raw.classes),
        "folder": str(state / SERVER),
        "transcript": str(folder / "transcript") if scenario.server.transcript_mb > 0 else None,
        "names": [owner_name(partition) for partition in range(count)],
    }
    with (
        # Processes that were killed may still write there for a moment.
        tempfile.TemporaryDirectory(prefix="unsmash-", ignore_cleanup_errors=True) as scratch,
        Parties(MODULE, folder / "logs") as servers,
        Parties(SIMULATION, folder / "logs") as leaders,
    ):
        servers.start("server", SERVER)
        leaders.start(FLOWER, FLOWER)
        address = servers.ask({SERVER: ("begin", begin)})[SERVER]["address"]
        arguments = {
            "folder": str(state),
            "scratch": scratch,
            "job": job_of(scenario, raw, address).to_json(),
            "owners": count,
            "rounds": scenario.rounds,
            "fraction": fraction,
            "workers": workers,
        }
        asked = {FLOWER: ("simulate", arguments)}
        found = leaders.ask(asked, timeout_s=LONGEST_S, report=lambda name, done: report(done))[FLOWER]
        ended = servers.ask({SERVER: ("end", {})})[SERVER]
    return found, ended["peak_memory_mb"]


def job_of(scenario: TrainingScenario, raw: RawData, address: str) -> Job:
    """The training as owners are told of it."""
    return Job(
        server=address,
        point=asdict(split_point(scenario)),
        cut=scenario.cuts[0],
        protocol=scenario.protocol,
        input_shape=raw.input_spec.shape,
        classes=len(raw.classes),
        optimiser=asdict(scenario.model.optimiser_settings),
        batch_size=scenario.model.batch_size,
        defense=scenario.defense.name,
        settings=scenario.defense.settings,
        wire_dtype=scenario.owners.wire_dtype,
        seed=scenario.seed,
        rounds=scenario.rounds,
    )


def _hand_out(scenario: TrainingScenario, raw: RawData, boundary: Boundary, state: Path) -> None:
    """One file of private data an owner, the head that all begin with, and the server's layers."""
    data, count = scenario.data, scenario.owners.count
    parts, _ = partition(raw, {"train": data.train, "test": data.test}, seed_for(scenario.seed, "partition"))
    rows = divide(parts["train"], count, data.shares, data.alpha, seed_for(scenario.seed, "shares"))
    for number, held in enumerate(rows):
        # Few test images for many owners: then several measure on the same ones.
        tested = torch.arange(number % len(parts["test"]), len(parts["test"]), count)
        train, test = parts["train"][torch.from_numpy(held)], parts["test"][tested]
        _write_owner(state / "owners" / f"{owner_name(number)}.safetensors", train, test, torch.from_numpy(held))
    one = scenario.model_copy(update={"owners": scenario.owners.model_copy(update={"count": 1})})
    write_initial(one, raw.input_spec, boundary, state)
    only = state / one.owner_names[0]
    (only / "initial.safetensors").replace(state / "initial.safetensors")
    only.rmdir()


def _write_owner(path: Path, train: LabelledImages, test: LabelledImages, ids: torch.Tensor) -> None:
    content = {
        "images": train.images,
        "labels": train.labels,
        "ids": ids,
        "test_images": test.images,
        "test_labels": test.labels,
    }
    save_tensors(path, content)


APP = """# Written by `unsmash flower prepare`: what Flower's nodes load is installed with unsmash.
from parties.flower_app.deployed import client_app, server_app

__all__ = ["client_app", "server_app"]
"""


def prepare(scenario: TrainingScenario, folder: Path, data_dir: Path | None, address: str) -> None:
    """Write what a deployment needs: a Flower app, the head, one file of data an owner, and the server's layers.

    Raises:
        ScenarioError, DataError: before anything is written.
    """
    check_scenario(scenario)
    raw = load(scenario.data.name, data_dir)
    boundary = boundary_of(scenario, raw.input_spec, len(raw.classes))
    place = folder.resolve()
    _hand_out(scenario, raw, boundary, place)
    begin = {
        "scenario": scenario.model_dump(mode="json"),
        "input_shape": list(raw.input_spec.shape),
        "classes": len(raw.classes),
    }
    write_atomically(place / SERVER / "begin.json", json.dumps(begin).encode())
    config = {
        "job": job_of(scenario, raw, address).to_json(),
        "folder": str(place),
        "rounds": scenario.rounds,
        "owners": scenario.owners.count,
    }
    project = {
        "project": {
            "name": "unsmash-federation",
            "version": "1.0.0",
            "description": "Split training led by Flower",
            "license": {"file": "LICENSE"},
            "dependencies": [f"flwr>={version('flwr')}"],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "unsmash",
                    "fab-format-version": 1,
                    "flwr-version-target": version("flwr"),
                    "components": {"serverapp": "app:server_app", "clientapp": "app:client_app"},
                    "config": config,
                }
            }
        },
    }
    write_atomically(place / "app" / "app.py", APP.encode())
    write_atomically(place / "app" / "pyproject.toml", to_toml(project).encode())
    write_atomically(place / "app" / "LICENSE", b"MIT, as unsmash itself.\n")
    write_atomically(place / "app" / "README.md", b"# Split training led by Flower\n")
