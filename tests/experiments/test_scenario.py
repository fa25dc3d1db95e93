"""Scenarios: strict, typed, and overridden from the command line; every error says what is valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attacks.knowledge import Capability
from experiments.overrides import OverrideError, apply_overrides
from experiments.scenario import Scenario, ScenarioError, bundled, check_against_data, read_scenario
from split_models.tensor_spec import TensorSpec

TEXT = """
name = "mine"
cuts = ["conv1", "relu2"]

[data]
victims = 8

[[defenses]]
name = "none"

[[defenses]]
name = "gaussian_noise"
sigma = 1.0

[[defenses]]
name = "laplace_noise"
scale = 0.5

[[attacks]]
name = "inverse_network"
epochs = 3

[[attacks]]
name = "shadow_model"
epochs = 4
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(TEXT)
    return file


def read(path: Path, *overrides: str) -> Scenario:
    return read_scenario(str(path), overrides)


def settings(scenario: Scenario) -> dict[str, dict[str, Any]]:
    return {entry.name: entry.settings for entry in (*scenario.defenses, *scenario.attacks)}


def test_a_file_becomes_a_scenario(path: Path) -> None:
    scenario = read(path)
    assert scenario.cuts == ("conv1", "relu2")
    assert scenario.data.victims == 8
    assert scenario.data.train == 1000
    assert settings(scenario)["gaussian_noise"] == {"sigma": 1.0}
    assert set(scenario.threat_model.grants) == set(Capability)
    trials = list(scenario.trials())
    assert [trial.label for trial in trials[:3]] == [
        "conv1 · none",
        "conv1 · gaussian_noise sigma=1.0",
        "conv1 · laplace_noise scale=0.5",
    ]
    assert len({trial.key for trial in trials}) == len(trials) == 6


@pytest.mark.parametrize("name", bundled())
def test_bundled_scenarios_are_valid(name: str) -> None:
    scenario = read_scenario(name)
    assert scenario.name == name
    assert scenario.description == bundled()[name]
    assert list(scenario.trials())


@pytest.mark.parametrize(
    "addition, text",
    [
        ("speed = 1", "unknown key 'speed'; valid here: name, description, seed, .*threat_model"),
        ("[dat]\nvictims = 1", "unknown key 'dat'; valid here: .*data"),
        ("[model]\nlr = 1", "unknown key 'model.lr'; valid here: name, epochs, batch_size, learning_rate"),
        ("[owners]\nnumber = 1", "unknown key 'owners.number'; valid here: count, batch_size"),
        ("[threat_model]\nqueries = 1", "unknown key 'threat_model.queries'; valid here: grants, query_budget"),
        ("[threat_model]\ngrants = ['heads']", "threat_model.grants.0: .*'head'.* got 'heads'"),
        ("[model]\nepochs = 0", "model.epochs: .*greater than or equal to 1, got 0"),
        ("[model]\nepochs = 'ten'", "model.epochs: .*valid integer"),
        ("[model]\nlearning_rate = nan", "model.learning_rate"),
        ("[model]\nname = 'resnet'", "unknown model 'resnet'; use one of: lenet, sixconv"),
        ("[owners]\ncount = 65", "owners.count"),
        ("transport = 'tcp'", "transport: .*'grpc' or 'in-process', got 'tcp'"),
        ("seed = -1", "seed: .*got -1"),
        ("seed = 1.5", "seed: .*integer"),
        ("[data", "is not valid TOML"),
        ("name = 'again'", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_valid(path: Path, addition: str, text: str) -> None:
    at_the_end = addition.startswith("[")
    path.write_text(f"{TEXT}\n{addition}" if at_the_end else f"{addition}\n{TEXT}")
    with pytest.raises(ScenarioError, match=text) as caught:
        read(path)
    assert "mine.toml" in str(caught.value) or "unknown model" in str(caught.value)


@pytest.mark.parametrize(
    "old, new, text",
    [
        ('name = "mine"', "", "'name' is missing"),
        ('name = "mine"', 'name = "../mine"', "name: .*pattern.* got '../mine'"),
        ('cuts = ["conv1", "relu2"]', "", "'cuts' is missing"),
        ('cuts = ["conv1", "relu2"]', "cuts = []", "cuts: .*at least 1"),
        ('cuts = ["conv1", "relu2"]', 'cuts = ["conv1", "conv1"]', "cuts: expected each cut once"),
        ('name = "none"', "", "'defenses.0.name' is missing"),
        ('name = "none"', 'name = "nothing"', "unknown defense 'nothing'; use one of: none, gaussian_noise"),
        ("sigma = 1.0", "", "gaussian_noise: expected sigma, got no such setting"),
        ("sigma = 1.0", "sigma = -1", "gaussian_noise: expected sigma of at least 0, got -1"),
        ("sigma = 1.0", "sigma = 'much'", "gaussian_noise: expected sigma as a number"),
        ("sigma = 1.0", "sigma = 1\nscale = 2", "gaussian_noise: .*'scale'"),
        ("epochs = 3", "epoch = 3", "inverse_network: unknown setting 'epoch'; use one of: epochs, batch_size"),
        ("epochs = 3", "epochs = 0", "inverse_network: epochs: .*got 0"),
        ('name = "shadow_model"', 'name = "shadow"', "unknown attack 'shadow'; use one of: regularized_inversion"),
        (
            'name = "shadow_model"\nepochs = 4',
            'name = "inverse_network"\nepochs = 3',
            "attacks: expected each entry once",
        ),
    ],
)
def test_a_wrong_entry_is_said_with_what_is_valid(path: Path, old: str, new: str, text: str) -> None:
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ScenarioError, match=text):
        read(path)


def test_an_unknown_scenario_names_the_bundled_ones(tmp_path: Path) -> None:
    for name in ("quick", str(tmp_path), ""):
        with pytest.raises(ScenarioError, match=r"expected a TOML file or one of the bundled .*quickstart"):
            read_scenario(name)


def test_a_file_that_is_no_text_is_an_error(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ScenarioError, match="not valid TOML"):
        read(path)


@pytest.mark.parametrize(
    "override, where, value",
    [
        ("seed=7", ("seed",), 7),
        (" seed = 7 ", ("seed",), 7),
        ("data.victims=3", ("data", "victims"), 3),
        ("data.name=mnist", ("data", "name"), "mnist"),
        ('data.name="mnist"', ("data", "name"), "mnist"),
        ("data.name=a=b.npz", ("data", "name"), "a=b.npz"),
        ("model.learning_rate=1e-3", ("model", "learning_rate"), 1e-3),
        ('cuts=["fc1"]', ("cuts",), ["fc1"]),
        ("transport=in-process", ("transport",), "in-process"),
        ("description=", ("description",), ""),
    ],
)
def test_an_override_sets_a_value(path: Path, override: str, where: tuple[str, ...], value: Any) -> None:
    found: Any = read(path, override).model_dump(mode="json")
    for step in where:
        found = found[step]
    assert found == value


@pytest.mark.parametrize(
    "override, expected",
    [
        ("defenses.1.sigma=0.5", {"gaussian_noise": {"sigma": 0.5}}),
        ("defenses.gaussian_noise.sigma=0.5", {"gaussian_noise": {"sigma": 0.5}}),
        ("defense.gaussian_noise.sigma=0.5", {"gaussian_noise": {"sigma": 0.5}}),
        ("defense.sigma=0.5", {"gaussian_noise": {"sigma": 0.5}}),
        ("attack.epochs=9", {"inverse_network": {"epochs": 9}, "shadow_model": {"epochs": 9}}),
        ("attack.shadow_model.epochs=9", {"shadow_model": {"epochs": 9}}),
        ("attacks.0.width=5", {"inverse_network": {"epochs": 3, "width": 5}}),
    ],
)
def test_an_override_reaches_the_entries_it_names_and_no_others(
    path: Path, override: str, expected: dict[str, dict[str, Any]]
) -> None:
    assert settings(read(path, override)) == {**settings(read(path)), **expected}


def test_later_overrides_win(path: Path) -> None:
    assert read(path, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    "override, text",
    [
        ("seed", "expected --set key=value, got 'seed'"),
        ("=3", "expected --set key=value, got '=3'"),
        ("seed.deep=3", "seed"),
        ("name.deep=3", "'name' is a value, not a table"),
        ("defense.sigmoid=3", "none of none, gaussian_noise, laplace_noise sets 'sigmoid'; name the entry"),
        ("defense.dropout.rate=3", "no entry 'dropout'; there are: none, gaussian_noise, laplace_noise"),
        ("defenses.7.sigma=3", "no entry '7'"),
        ("defenses.1.sigma.deep=3", "'sigma' is a value, not a table"),
        ("data.victim=3", "unknown key 'data.victim'; valid here: name, train"),
        ("data.=3", "unknown key 'data.'"),
        ("sede=3", "unknown key 'sede'"),
        ("attack.shadow_model.sigma=3", "shadow_model: unknown setting 'sigma'"),
        ("data.victims=many", "data.victims: .*integer.* got 'many'"),
        ("defenses=3", "defenses"),
    ],
)
def test_an_override_that_leads_nowhere_is_an_error(path: Path, override: str, text: str) -> None:
    with pytest.raises(ScenarioError, match=text):
        read(path, override)


def test_overrides_of_a_missing_table_make_it() -> None:
    table: dict[str, Any] = {"name": "x"}
    apply_overrides(table, ["data.victims=3", "owners.count=2"])
    assert table == {"name": "x", "data": {"victims": 3}, "owners": {"count": 2}}
    with pytest.raises(OverrideError, match="'name' is a value"):
        apply_overrides(table, ["name.victims=3"])


def test_a_key_changes_with_what_could_change_the_result(path: Path) -> None:
    key = next(read(path).trials()).key
    same = ["transport=in-process", "description=other", "name=other", "defense.sigma=3", "defense.scale=3"]
    other = [
        *("seed=1", "threads=2", "data.victims=9", "model.epochs=1", "owners.count=2", "attack.epochs=9"),
        *("threat_model.query_budget=1", "cuts=['relu2']"),
    ]
    for override in same:
        assert next(read(path, override).trials()).key == key, override
    for override in other:
        assert next(read(path, override).trials()).key != key, override
    assert json.loads(read(path).model_dump_json())["cuts"] == ["conv1", "relu2"]


def test_the_target_is_shared_by_all_that_do_not_touch_it(path: Path) -> None:
    key = read(path).key("data", "model")
    assert read(path, "cuts=['fc1']", "attack.epochs=9", "owners.count=3").key("data", "model") == key
    for override in ("seed=1", "threads=2", "model.epochs=9", "data.train=900"):
        assert read(path, override).key("data", "model") != key


def test_attacks_of_one_name_are_told_apart(path: Path) -> None:
    path.write_text(TEXT + '\n[[attacks]]\nname = "inverse_network"\nepochs = 5\n')
    scenario = read(path)
    labels = [scenario.attack_label(entry) for entry in scenario.attacks]
    assert labels == ["inverse_network epochs=3", "shadow_model", "inverse_network epochs=5"]


def test_cuts_and_sizes_are_checked_against_the_data(path: Path) -> None:
    check_against_data(read(path), TensorSpec((1, 28, 28)), 10)
    with pytest.raises(ScenarioError, match=r"unknown cut 'conv9': lenet has normalize, conv1"):
        check_against_data(read(path, "cuts=['conv1', 'conv9']"), TensorSpec((1, 28, 28)), 10)
    with pytest.raises(ScenarioError, match="at least 16x16"):
        check_against_data(read(path), TensorSpec((1, 8, 8)), 10)
