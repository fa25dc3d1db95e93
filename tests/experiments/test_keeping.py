"""What attacks learn is shared between trials that would learn the same, and changes no record."""

from __future__ import annotations

from pathlib import Path

import pytest

from attacks.on_activations.inverse_network import InverseNetwork
from attacks.on_activations.shadow_model import ShadowModel
from experiments.record import Record
from experiments.roles import OwnerRole
from experiments.runner import run
from experiments.scenario import read_scenario

SCENARIO = """
name = "kept"
cuts = ["relu1"]
transport = "in-process"
[data]
train = 60
auxiliary = 40
validation = 10
victims = 6
test = 10
[model]
epochs = 1
[[defenses]]
name = "none"
[[defenses]]
name = "gaussian_noise"
sigma = 0.5
[[attacks]]
name = "inverse_network"
epochs = 1
width = 4
[[attacks]]
name = "shadow_model"
epochs = 1
iterations = 2
[threat_model]
grants = ["architecture", "queries", "tail", "auxiliary"]
"""


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every attack that learns, each time it does."""
    counted: list[str] = []
    for attack in (InverseNetwork, ShadowModel):

        def learn(self, *arguments, attack=attack, learn=attack._prepare) -> None:  # type: ignore[no-untyped-def]
            counted.append(attack.name)
            learn(self, *arguments)

        monkeypatch.setattr(attack, "_prepare", learn)
    return counted


def _records(folder: Path, *overrides: str) -> list[Record]:
    path = folder.parent / "kept.toml"
    path.write_text(SCENARIO)
    return [record for _, record, _ in run(read_scenario(str(path), overrides), folder)]


def test_what_is_learnt_once_gives_the_records_of_learning_each_time(tmp_path: Path, learning: list[str]) -> None:
    shared = _records(tmp_path / "shared")
    assert learning == ["inverse_network", "shadow_model", "inverse_network"], "noise changes answers, not the shadow"
    alone = [
        record
        for number, defense in enumerate(("{name='none'}", "{name='gaussian_noise',sigma=0.5}"))
        for record in _records(tmp_path / f"alone-{number}", f"defenses=[{defense}]")
    ]
    assert len(learning) == 3 + 4
    for ours, theirs in zip(shared, alone, strict=True):
        assert ours.attacks == theirs.attacks


@pytest.mark.parametrize(
    ("change", "learnt"),
    [
        ("attack.shadow_model.iterations=3", ["shadow_model"]),
        ("attack.inverse_network.width=5", ["inverse_network"]),
        ("threat_model.query_budget=30", ["inverse_network"]),
        ("owners.count=2", []),
        ("model.epochs=2", ["inverse_network", "shadow_model"]),
        ("data.auxiliary=41", ["inverse_network", "shadow_model"]),
        ("seed=1", ["inverse_network", "shadow_model"]),
        ("threads=2", ["inverse_network", "shadow_model"]),
        ("cuts=['conv2']", ["inverse_network", "shadow_model"]),
    ],
)
def test_whatever_could_change_it_is_learnt_anew(
    tmp_path: Path, learning: list[str], change: str, learnt: list[str]
) -> None:
    one = ["defenses=[{name='none'}]"]
    _records(tmp_path / "run", *one)
    learning.clear()
    _records(tmp_path / "run", *one, change)
    assert learning == sorted(set(learnt))


def test_two_attackers_who_ask_the_same_owner_share_nothing_they_asked(tmp_path: Path, learning: list[str]) -> None:
    both = "attacks=[{name='random_queries',images=4,epochs=1,width=4},{name='inverse_network',epochs=1,width=4}]"
    first = _records(tmp_path / "run", both)
    again = [
        record for _, record, _ in run(read_scenario(str(tmp_path / "kept.toml"), [both]), tmp_path / "run", fresh=True)
    ]
    assert learning.count("inverse_network") == 2 * 4, "two attacks that learn alike, two defenses, two runs"
    assert [record.attacks for record in first] == [record.attacks for record in again]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("attack.shadow_model.iterations=3", 0),
        ("threat_model.grants=['tail','architecture','auxiliary']", 0),
        ("owners.batch_size=3", 1),
        ("owners.count=2", 2),
        ("defenses=[{name='gaussian_noise',sigma=0.1}]", 1),
        ("data.victims=5", 1),
        ("model.epochs=2", 1),
        ("seed=1", 1),
    ],
)
def test_owners_who_would_send_the_same_send_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, again: int
) -> None:
    sent: list[str] = []
    infer = OwnerRole.infer

    def counted(self: OwnerRole, **told: object) -> object:
        sent.append(self.name)
        return infer(self, **told)  # type: ignore[arg-type]

    monkeypatch.setattr(OwnerRole, "infer", counted)
    one = ["defenses=[{name='none'}]"]
    _records(tmp_path / "run", *one)
    assert len(sent) == 1
    (shared,) = _records(tmp_path / "run", *one, change)
    assert len(sent) == 1 + again
    (alone,) = _records(tmp_path / "alone", *one, change)
    unlike = {"timing", "provenance"}
    assert shared.model_dump(exclude=unlike) == alone.model_dump(exclude=unlike)


def test_a_broken_file_is_said(tmp_path: Path) -> None:
    _records(tmp_path / "run", "defenses=[{name='none'}]")
    for path in (tmp_path / "run" / "learnt").glob("*.safetensors"):
        path.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"learnt.*give a file that unsmash wrote"):
        _records(tmp_path / "run", "defenses=[{name='none'}]", "owners.count=2")
