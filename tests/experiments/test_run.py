"""Whole runs with real processes: the same over either transport, resumable, and leaving nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.record import Record, pictures_path, read_records
from experiments.runner import run
from experiments.scenario import read_scenario
from split_models.checkpoints import load_tensors
from tests.experiments.runs import TINY, none_left, parties_of, scenario_file, start_unsmash


def _timeless(record: Record) -> dict[str, object]:
    scenario = {key: value for key, value in record.scenario.items() if key != "transport"}
    return {**record.model_dump(exclude={"provenance", "timing"}), "scenario": scenario}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny scenario over both transports."""
    folders = {}
    for transport in ("grpc", "in-process"):
        folder = tmp_path_factory.mktemp(transport)
        scenario = read_scenario(scenario_file(folder), [f"transport={transport}"])
        list(run(scenario, folder / "run"))
        folders[transport] = folder / "run"
    return folders


def test_the_same_seed_gives_the_same_record_over_either_transport(finished: dict[str, Path]) -> None:
    remote, local = (read_records(finished[transport]) for transport in ("grpc", "in-process"))
    assert len(remote) == 2
    for one, other in zip(remote, local, strict=True):
        assert _timeless(one) == _timeless(other)
        seen, expected = (
            load_tensors(pictures_path(finished[transport], record.key))[0]
            for transport, record in (("grpc", one), ("in-process", other))
        )
        assert seen.keys() == expected.keys()
        assert all(torch.equal(seen[name], expected[name]) for name in seen)


def test_a_run_leaves_no_process_and_no_private_scratch(finished: dict[str, Path]) -> None:
    assert none_left(finished["grpc"] / "logs" / "lane-0", within_s=0.0)
    assert {path.name for path in finished["grpc"].iterdir()} == {"learnt", "logs", "records", "targets", "run.json"}


def test_victims_are_joined_with_their_reconstructions(finished: dict[str, Path]) -> None:
    undefended, _ = read_records(finished["grpc"])
    assert sorted(victim.index for victim in undefended.victims) == list(range(6))
    assert {victim.owner for victim in undefended.victims} == {"owner-1", "owner-2"}
    pictures, _ = load_tensors(pictures_path(finished["grpc"], undefended.key))
    private, found = pictures["private"], pictures["attack regularized_inversion"]
    distances = torch.cdist(found.flatten(1), private.flatten(1))
    assert distances.argmin(1).tolist() == list(range(6)), "each reconstruction is closest to its own victim"


def test_several_workers_give_the_same_records(finished: dict[str, Path], tmp_path: Path) -> None:
    list(run(read_scenario(scenario_file(tmp_path)), tmp_path / "run", workers=2))
    expected, found = (read_records(folder) for folder in (finished["grpc"], tmp_path / "run"))
    assert [_timeless(record) for record in found] == [_timeless(record) for record in expected]
    assert none_left(tmp_path / "run" / "logs" / "lane-1", within_s=0.0)


def test_a_users_file_that_changed_is_not_taken_for_the_earlier_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mine = tmp_path / "mine.npz"
    keys = []
    for _ in range(2):
        np.savez(mine, images=rng.integers(0, 255, (130, 20, 20), dtype=np.uint8), labels=np.arange(130) % 3)
        scenario = read_scenario(scenario_file(tmp_path), [f"data.name={mine}"])
        keys.append([trial.key for trial in scenario.trials()])
    assert set(keys[0]).isdisjoint(keys[1])


def test_another_seed_gives_another_record(finished: dict[str, Path], tmp_path: Path) -> None:
    scenario = read_scenario(scenario_file(tmp_path), ["transport=in-process", "seed=1", "defenses=[{name='none'}]"])
    ((_, record, _),) = run(scenario, tmp_path / "run")
    first = read_records(finished["in-process"])[0]
    assert record.key != first.key
    assert record.model_digest != first.model_digest


def test_finished_trials_are_not_run_again(tmp_path: Path) -> None:
    scenario = read_scenario(scenario_file(tmp_path), ["transport=in-process"])
    trials = run(scenario, tmp_path / "run")
    _, first, _ = next(trials)
    trials.close()  # type: ignore[attr-defined]
    again = list(run(scenario, tmp_path / "run"))
    assert [reused for _, _, reused in again] == [True, False]
    assert again[0][1] == first
    assert [reused for _, _, reused in run(scenario, tmp_path / "run", fresh=True)] == [False, False]


def test_what_is_not_granted_is_refused_and_the_refusal_is_recorded(tmp_path: Path) -> None:
    grants = "threat_model.grants=['queries', 'auxiliary']"
    scenario = read_scenario(scenario_file(tmp_path), ["transport=in-process", grants, "defenses=[{name='none'}]"])
    list(run(scenario, tmp_path / "run"))
    (record,) = read_records(tmp_path / "run")
    outcomes = {outcome.name: outcome for outcome in record.attacks}
    assert outcomes["inverse_network"].status == "done"
    assert outcomes["regularized_inversion"].status == "refused"
    assert "head" in outcomes["regularized_inversion"].reason
    assert outcomes["shadow_model"].leakage is None


def test_queries_stay_within_the_budget(tmp_path: Path) -> None:
    changes = ["transport=in-process", "threat_model.query_budget=13", "defenses=[{name='none'}]"]
    list(run(read_scenario(scenario_file(tmp_path), changes), tmp_path / "run"))
    (record,) = read_records(tmp_path / "run")
    assert {outcome.name: outcome.queries for outcome in record.attacks}["inverse_network"] == 13


LONG = TINY.replace("iterations = 8", "iterations = 100000")


@pytest.mark.parametrize("victim", ["server", "owner-1"])
def test_a_killed_party_is_named_and_ends_the_run(tmp_path: Path, victim: str) -> None:
    running = start_unsmash("run", scenario_file(tmp_path, LONG), "--out", str(tmp_path / "run"), "--workers", "1")
    logs = tmp_path / "run" / "logs" / "lane-0"
    os.kill(parties_of(logs, 3)[victim], signal.SIGKILL)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert f"{victim} was killed by SIGKILL" in errors
    assert "Traceback" not in errors
    assert none_left(logs)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_stops_its_parties(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    running = start_unsmash("run", scenario_file(tmp_path, LONG), "--out", str(tmp_path / "run"), "--workers", "1")
    logs = tmp_path / "run" / "logs" / "lane-0"
    parties_of(logs, 3)
    running.send_signal(sent)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == status
    assert "Traceback" not in errors
    assert none_left(logs)
    assert not list((tmp_path / "run").glob(".scratch-*"))


def test_parties_end_when_their_runner_is_killed(tmp_path: Path) -> None:
    running = start_unsmash("run", scenario_file(tmp_path, LONG), "--out", str(tmp_path / "run"), "--workers", "1")
    logs = tmp_path / "run" / "logs" / "lane-0"
    parties_of(logs, 3)
    running.kill()
    running.communicate()
    assert none_left(logs)
