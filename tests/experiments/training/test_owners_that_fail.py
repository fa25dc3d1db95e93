"""Owners that are late, or send what cannot be used: by policy, recorded, and never to the others' harm."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from parties.processes import PartyError
from split_models.checkpoints import load_tensors, save_tensors
from tests.experiments.runs import none_left
from tests.experiments.training.trainings import SMALL, Saboteur, kill, run, same_models, small, stop

PATIENCE = "owners.patience_s=6"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two owners in turn that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    small(folder, "train-sequential")
    return folder


def late(folder: Path) -> Saboteur:
    """The second owner falls silent in the middle of its first turn."""
    return Saboteur(folder / "logs", {("owner-2", 0.5): (stop, "owner-2")}, parties=3)


def test_a_late_owner_is_started_again_under_wait(whole: Path, tmp_path: Path) -> None:
    assert small(tmp_path, "train-sequential", PATIENCE, report=late(tmp_path)) == ["owner-2: started again"]
    assert same_models(whole, tmp_path)
    assert none_left(tmp_path / "logs")


def test_a_late_owner_is_left_out_of_the_round_under_skip(tmp_path: Path) -> None:
    record = run(tmp_path, *SMALL, PATIENCE, "owners.policy=skip", name="train-splitfed-v2", report=late(tmp_path))
    assert [played.left_out for played in record.rounds] == [["owner-2"], []]
    (event,) = record.events
    assert (event.owner, event.answer) == ("owner-2", "left out of this round")
    assert event.what.startswith("owner-2 said nothing for 6 s")
    assert none_left(tmp_path / "logs")


def test_a_late_owner_stops_the_training_under_abort_and_it_goes_on_when_given_again(
    whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(PartyError, match="owner-2 said nothing for 6 s"):
        small(tmp_path, "train-sequential", PATIENCE, "owners.policy=abort", report=late(tmp_path))
    assert none_left(tmp_path / "logs")
    assert small(tmp_path, "train-sequential", "owners.policy=abort") == ["owner-2: training stopped"]
    assert same_models(whole, tmp_path)


def test_an_owner_that_sends_nan_is_left_out_and_the_others_train_as_if_it_were_not_there(tmp_path: Path) -> None:
    skip = ("owners.policy=skip", "rounds=1")

    def broken_by(folder: Path, spoil: bool) -> Saboteur:
        def start_again(process: int) -> None:
            path = folder / "state" / "owner-2" / "data.safetensors"
            content, _ = load_tensors(path)
            if spoil:
                save_tensors(path, {**content, "images": torch.full_like(content["images"], math.nan)})
            kill(process)

        during = "owner-1" if spoil else "owner-2"  # before its turn, or in it and before its first checkpoint
        return Saboteur(folder / "logs", {(during, 0.25): (start_again, "owner-2")}, parties=3)

    poisoned, dropped = tmp_path / "poisoned", tmp_path / "dropped"
    found = run(poisoned, *SMALL, *skip, name="train-sequential", report=broken_by(poisoned, spoil=True))
    assert [played.left_out for played in found.rounds] == [["owner-2"]]
    assert "NaN or infinity" in found.events[0].what
    run(dropped, *SMALL, *skip, name="train-sequential", report=broken_by(dropped, spoil=False))
    assert same_models(poisoned, dropped)


def test_vertical_owners_of_other_samples_are_refused_before_training_starts(tmp_path: Path) -> None:
    def spoil(process: int) -> None:
        path = tmp_path / "state" / "owner-2" / "data.safetensors"
        content, _ = load_tensors(path)
        save_tensors(path, {**content, "ids": content["ids"] + 1})
        kill(process)

    saboteur = Saboteur(tmp_path / "logs", {("owner-1", 0.25): (spoil, "owner-2")}, parties=3)
    with pytest.raises(PartyError):
        small(tmp_path, "train-vertical", "owners.policy=abort", report=saboteur)
    with pytest.raises(PartyError, match="expected the same sample ids from all owners, got others from owner-2"):
        small(tmp_path, "train-vertical", "owners.policy=abort")
    assert none_left(tmp_path / "logs")
