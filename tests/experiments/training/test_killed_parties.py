"""Owners and servers that are killed in the middle: whatever the protocol, the training ends as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.training.trainings import Saboteur, kill, same_models, small


@pytest.mark.parametrize("name", ["train-vertical", "train-splitfed-v1", "train-splitfed-v2", "train-sequential"])
def test_owner_and_server_killed_under_every_protocol(name: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert small(whole, name) == []
    plan = {("owner-2", 0.5): (kill, "owner-2"), ("owner-1", 0.75): (kill, "server")}
    saboteur = Saboteur(broken / "logs", plan, parties=3)
    events = small(broken, name, "owners.restarts=6", report=saboteur)
    assert not saboteur.plan
    assert events, "what was killed at the end of a turn may be missed by nobody, but not both"
    assert all(event.endswith(": started again") for event in events)
    assert same_models(whole, broken)
