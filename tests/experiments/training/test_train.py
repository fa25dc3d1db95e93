"""Whole trainings with real processes: killed at any moment, they end with the weights of one that was not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from experiments.training.page import write_training_report
from experiments.training.record import read_training_record
from experiments.training.runner import train
from experiments.training.scenario import read_training_scenario
from parties.processes import PartyError
from split_models.checkpoints import load_tensors
from tests.experiments.runs import none_left, start_unsmash
from tests.experiments.training.trainings import Saboteur, kill, run, same_models, settings


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_owner_and_server_killed_in_mid_epoch_are_started_again(whole: Path, tmp_path: Path) -> None:
    saboteur = Saboteur(tmp_path / "logs", {("owner-1", 0.45): (kill, "owner-1"), ("owner-1", 0.7): (kill, "server")})
    record = run(tmp_path, report=saboteur)
    assert [event.answer for event in record.events] == ["started again", "started again"]
    assert "SIGKILL" in record.events[0].what
    assert same_models(whole, tmp_path)
    uninterrupted = read_training_record(whole)
    assert [played.loss for played in record.rounds] == [played.loss for played in uninterrupted.rounds]
    assert record.accuracy == uninterrupted.accuracy


def test_a_run_killed_with_all_its_parties_goes_on_when_given_again(whole: Path, tmp_path: Path) -> None:
    started = start_unsmash(
        "train", "train-vanilla", "--out", str(tmp_path), *(f"--set={value}" for value in settings())
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("state/owner-1/000000-*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    started.kill()
    started.communicate()
    assert none_left(tmp_path / "logs")
    assert list(tmp_path.glob("state/owner-1/0*.safetensors"))
    run(tmp_path)
    assert same_models(whole, tmp_path)
    assert not (tmp_path / "state").exists()


def test_abort_stops_at_once_and_the_same_command_goes_on(whole: Path, tmp_path: Path) -> None:
    saboteur = Saboteur(tmp_path / "logs", {("owner-1", 0.5): (kill, "owner-1")})
    with pytest.raises(PartyError, match="SIGKILL"):
        run(tmp_path, "owners.policy=abort", report=saboteur)
    assert none_left(tmp_path / "logs")
    record = run(tmp_path, "owners.policy=abort")
    assert [event.answer for event in record.events] == ["training stopped"]
    assert same_models(whole, tmp_path)


def test_an_owner_that_fails_is_left_out_and_harms_nobody(tmp_path: Path) -> None:
    skip = ("owners.policy=skip", "owners.count=2", "rounds=1")

    saboteur = Saboteur(tmp_path / "broken" / "logs", {("owner-2", 0.4): (kill, "owner-2")}, parties=3)
    record = run(tmp_path / "broken", *skip, name="train-sequential", report=saboteur)
    (played,) = record.rounds
    assert played.left_out == ["owner-2"]
    assert list(played.owners) == ["owner-1"]
    alone = tmp_path / "alone"
    found = run(alone, *skip, name="train-sequential")
    assert found.rounds[0].owners["owner-1"].loss == played.owners["owner-1"].loss
    first_of_both = load_tensors(tmp_path / "broken" / "models" / "owner.safetensors")[0]
    assert not torch.equal(
        first_of_both["weights/head.conv1.weight"],
        load_tensors(alone / "models" / "owner.safetensors")[0]["weights/head.conv1.weight"],
    )


def test_a_training_that_is_done_is_not_done_again(whole: Path) -> None:
    _, reused = train(read_training_scenario("train-vanilla", settings()), whole)
    assert reused


def test_bytes_are_as_the_specs_predict(whole: Path) -> None:
    """8 channels of 24 × 24 float32; labels, counts and losses; a header for each tensor; handshakes besides."""
    owner = read_training_record(whole).rounds[0].owners["owner-1"]
    batches, header = 20, 64
    up = batches * (8 * 8 * 24 * 24 * 4 + 8 * 8 + 8 + 3 * header)
    down = batches * (8 * 8 * 24 * 24 * 4 + 8 + 2 * header)  # the loss is padded to eight bytes
    checkpoints = 4 * 2 * (header + 8) + (header + 8)
    assert up < owner.bytes_up <= up + checkpoints
    assert down < owner.bytes_down <= down + 5 * (header + 8)


def test_the_page_shows_curves_shares_costs_and_failures(whole: Path) -> None:
    page = write_training_report(whole).read_text()
    record = read_training_record(whole)
    assert f"{record.rounds[-1].loss:.2f}" in page
    assert page.count("<circle class=") >= 4
    assert "Nothing. The policy" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (whole / "transcript" / "owner-1").is_dir()
    assert 0 < record.transcript_bytes <= 1_000_000
