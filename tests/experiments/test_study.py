"""Studies: how they expand, and whole ones with real workers, killed ones and a full disk among them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from experiments.conductor import Failed, Finished, LocalWorkers, conduct
from experiments.record import read_records
from experiments.runner import run
from experiments.scenario import ScenarioError, bundled, read_scenario
from experiments.study import read_study
from parties.processes import PartyError
from tests.experiments.runs import TINY, start_unsmash

STUDY = (
    TINY.replace("sigma = 0.5", "sigma = [0.5, 1.0]").replace(
        'name = "tiny"', 'name = "tiny"\ntransport = "in-process"'
    )
    + "\n[study]\nseeds = [0, 1]\n"
)


def _file(folder: Path, text: str = STUDY) -> str:
    path = folder / "study.toml"
    path.write_text(text)
    return str(path)


def test_every_combination_is_a_trial_once(tmp_path: Path) -> None:
    text = STUDY + 'grid = { "model.epochs" = [1, 2], "data.victims" = [4, 4] }\n'
    planned, skipped = read_study(_file(tmp_path, text)).trials(None)
    assert len(planned) == 2 * 2 * 3
    assert not skipped
    assert len({one.trial.key for one in planned}) == len({one.label for one in planned}) == len(planned)
    assert "seed 1" in planned[-1].label
    assert "model.epochs=2" in planned[-1].label


def test_trials_of_different_trainings_take_turns(tmp_path: Path) -> None:
    planned, _ = read_study(_file(tmp_path)).trials(None)
    assert [one.trial.scenario.seed for one in planned] == [0, 1] * 3


def test_cases_set_values_together(tmp_path: Path) -> None:
    text = STUDY + "[[study.cases]]\n'data.train' = 50\n'model.epochs' = 3\n[[study.cases]]\n'data.train' = 70\n"
    scenarios = [scenario for scenario, _ in read_study(_file(tmp_path, text)).scenarios]
    assert [(s.seed, s.data.train, s.model.epochs) for s in scenarios] == [
        (0, 50, 3),
        (0, 70, 1),
        (1, 50, 3),
        (1, 70, 1),
    ]


def test_a_scenario_is_a_study_of_one_seed_with_the_same_keys(tmp_path: Path) -> None:
    asked = ["seed=7", "transport=in-process"]
    study = read_study(_file(tmp_path, TINY), asked)
    planned, _ = study.trials(None)
    assert [one.trial.key for one in planned] == [t.key for t in read_scenario(_file(tmp_path, TINY), asked).trials()]


def test_what_makes_no_sense_is_skipped_with_its_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "tiny.npz", images=rng.integers(0, 255, (200, 5, 5), dtype=np.uint8), labels=np.arange(200) % 3)
    names = f'"digits", "{tmp_path}/tiny.npz", "{tmp_path}/missing.npz"'
    text = STUDY.replace('cuts = ["relu1"]', 'cuts = ["relu1", "relu9"]') + f'grid = {{ "data.name" = [{names}] }}\n'
    planned, skipped = read_study(_file(tmp_path, text)).trials(None)
    assert {one.trial.cut for one in planned} == {"relu1"}
    assert {one.trial.scenario.data.name for one in planned} == {"digits"}
    reasons = {one.reason for one in skipped}
    assert any("unknown cut 'relu9'" in reason for reason in reasons)
    assert any("missing.npz" in reason for reason in reasons)
    assert any("16" in reason or "small" in reason for reason in reasons), reasons


def test_a_cut_that_several_tensors_cross_is_skipped_with_their_names(tmp_path: Path) -> None:
    asked = ['cuts=["block11.conv1", "block11.add"]', "model.name=resnet18"]
    planned, skipped = read_study(_file(tmp_path), asked).trials(None)
    assert {one.trial.cut for one in planned} == {"block11.add"}
    assert {one.reason for one in skipped} == {skipped[0].reason}
    assert "one tensor alone can cross, and later layers need relu1, block11.conv1" in skipped[0].reason


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seedz = [1]", "unknown key 'seedz'; valid here: seeds, grid, cases, quick"),
        ("seeds = []", "seeds"),
        ('grid = { "data.nam" = [1] }', "unknown key 'data.nam'; valid here: name"),
        ('grid = { "defense.weight" = [1] }', "none of none, gaussian_noise sets 'weight'"),
    ],
)
def test_a_misspelt_study_says_what_is_valid(tmp_path: Path, line: str, message: str) -> None:
    text = STUDY.replace("seeds = [0, 1]", line)
    with pytest.raises(ScenarioError, match=message.replace("[", r"\[")):
        read_study(_file(tmp_path, text))


@pytest.mark.parametrize("name", bundled("studies"))
@pytest.mark.parametrize("quick", [False, True])
def test_bundled_studies_plan_without_a_gap(name: str, quick: bool) -> None:
    data = os.environ.get("UNSMASH_DATA")
    planned, skipped = read_study(name, quick=quick).trials(Path(data) if data else None)
    if not quick and name in ("where-to-cut", "compare-defenses") and not data:
        assert not planned
        pytest.skip(f"{name} needs MNIST in UNSMASH_DATA")
    assert not skipped
    assert len({one.trial.scenario.seed for one in planned}) >= 2


def test_a_study_gives_the_records_of_its_scenarios_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    study = read_study(_file(tmp_path))
    plan = study.trials(None)
    with LocalWorkers(tmp_path / "logs") as workers:
        first = conduct(study, plan, tmp_path / "run", workers, 1)
        done = [next(first), next(first)]
        first.close()  # type: ignore[attr-defined]
    assert all(isinstance(one, Finished) and one.seconds for one in done)
    with LocalWorkers(tmp_path / "logs") as workers:
        again = list(conduct(study, plan, tmp_path / "run", workers, 2))
    assert len(again) == 6
    assert sum(isinstance(one, Finished) and one.seconds is None for one in again) >= 2
    targets = list((tmp_path / "run" / "targets").glob("*[0-9a-f].safetensors"))
    assert len(targets) == 2, "one network a seed, whoever needed it"
    assert not list((tmp_path / "run").glob(".scratch-*"))
    found = {record.key: record for record in read_records(tmp_path / "run")}
    for trial, expected, _ in run(read_scenario(_file(tmp_path, TINY), ["transport=in-process"]), tmp_path / "alone"):
        assert found[trial.key].attacks == expected.attacks
        assert found[trial.key].utility == expected.utility


def _worker_of(logs: Path) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "fd" / "2").readlink() == (logs / "worker-0.log").resolve():
                    return int(process.name)
            except OSError:
                continue
        time.sleep(0.05)
    raise AssertionError("no worker")


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    study = read_study(_file(tmp_path), ["study.seeds=[0]", "defenses=[{name='none'}]"])
    killed = []

    def say(lane: int, step: str, fraction: float) -> None:
        if fraction > 0 and not killed:
            killed.append(_worker_of(tmp_path / "logs"))
            os.kill(killed[0], signal.SIGKILL)

    with LocalWorkers(tmp_path / "logs") as workers:
        (outcome,) = conduct(study, study.trials(None), tmp_path / "run", workers, 1, say=say)
    assert killed
    assert isinstance(outcome, Finished)
    assert len(read_records(tmp_path / "run")) == 1


def test_a_trial_whose_workers_all_die_fails_alone(tmp_path: Path) -> None:
    class Deadly:
        asked: ClassVar[list[str]] = []

        def ask(self, lane: int, arguments: dict[str, Any], report: object) -> dict[str, Any]:
            self.asked.append(arguments["trial"]["defense"]["name"])
            if self.asked[-1] == "none":
                raise PartyError("worker-0 was killed by SIGKILL")
            return {"seconds": 1.0}

    study = read_study(_file(tmp_path), ["study.seeds=[0]"])
    outcomes = list(conduct(study, study.trials(None), tmp_path / "run", Deadly(), 1))
    assert [type(one) for one in outcomes] == [Failed, Finished, Finished]
    assert Deadly.asked.count("none") == 2, "a trial gets a second worker, not a third"


def test_a_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(run(read_scenario(_file(tmp_path, TINY), ["transport=in-process"]), folder))  # trials of the study below
    before = {path: path.read_bytes() for path in (folder / "records").iterdir()}
    command = [sys.executable, "-c", "from experiments.cli import main; main()", "study", _file(tmp_path)]
    full = subprocess.run(
        [*command, "--out", str(folder), "--workers", "1"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert full.returncode == 2, full.stderr
    assert "finished trials are kept" in full.stderr
    assert "Traceback" not in full.stderr
    assert before == {path: path.read_bytes() for path in (folder / "records").iterdir()}, (
        "nothing lost or half-written"
    )
    assert len(read_records(folder)) == 2


@pytest.mark.parametrize("name", ["where-to-cut", "defenses"])
def test_the_quick_size_of_a_bundled_study_runs_and_reports(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # One training here, to keep the tests short; the second one would be another round of the same.
    running = start_unsmash("study", name, "--quick", "--set", "study.seeds=[0]", "--out", str(folder))
    output, errors = running.communicate(timeout=200)
    assert running.returncode == 0, errors
    assert "failed" not in output and "skipped" not in output
    records = read_records(folder)
    assert len(records) == len(read_study(name, quick=True).trials(None)[0]) // 2
    assert all(sum(not a.withheld for a in record.attacks) == 3 for record in records)
    assert all(attack.leakage for record in records for attack in record.attacks)
    page = (folder / "report.html").read_text()
    assert ("Leakage by cut" in page) == (name == "where-to-cut")
    assert ("Accuracy against leakage" in page) == (name == "defenses")


def test_a_local_ray_gives_the_same_records(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install 'unsmash[ray]'")
    running = start_unsmash(
        "study", _file(tmp_path), "--set", "study.seeds=[0]", "--ray-address", "local", "--out", str(tmp_path / "ray")
    )
    _, errors = running.communicate(timeout=200)
    assert running.returncode == 0, errors
    found = {record.key: record for record in read_records(tmp_path / "ray")}
    for trial, expected, _ in run(read_scenario(_file(tmp_path, TINY), ["transport=in-process"]), tmp_path / "alone"):
        assert found[trial.key].attacks == expected.attacks
