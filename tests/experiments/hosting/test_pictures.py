"""A network over pictures behind a prediction API: whole runs over real processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.hosting import picture_stage
from experiments.hosting.record import HostRecord, read_host_records
from experiments.hosting.report import write_hosting_report
from experiments.hosting.runner import run_hosting, stage_of
from experiments.hosting.scenario import PictureScenario, is_host_scenario, read_host_scenario
from experiments.record import pictures_path
from experiments.scenario import ScenarioError
from parties.datasets import load
from parties.datasets.dataset import DataError
from split_models.checkpoints import load_tensors

SMALL = """
name = "small-pictures"

[data]
first_private = 5
train = 150
auxiliary = 80
validation = 20
victims = 10
test = 30

[model]
name = "softmax_regression"
epochs = 8

[host]
max_batch = 32

[[defenses]]
name = "none"

[[defenses]]
name = "label_only"

[[attacks]]
name = "training_based"
epochs = 2

[[attacks]]
name = "mi_face"
iterations = 40

[[attacks]]
name = "mi_face_queries"
iterations = 2
block = 7

[[attacks]]
name = "gmi"
prior_steps = 2
iterations = 2
restarts = 1

[threat_model]
query_budget = 2000
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "small.toml").write_text(SMALL)
    return str(tmp_path / "small.toml")


def records_of(scenario: str, out: Path, *overrides: str) -> list[HostRecord]:
    list(run_hosting(read_host_scenario(scenario, overrides), out, None, lambda step, fraction: None))
    return read_host_records(out)


def test_processes_and_one_process_give_the_same_records_and_pictures(scenario: str, tmp_path: Path) -> None:
    far = records_of(scenario, tmp_path / "far")
    near = records_of(scenario, tmp_path / "near", "transport=in-process")
    for one, other in zip(far, near, strict=True):
        left, right = (record.model_dump(exclude={"provenance", "timing", "scenario"}) for record in (one, other))
        assert left == right
        pictures = [load_tensors(pictures_path(tmp_path / run, one.key))[0] for run in ("far", "near")]
        assert pictures[0].keys() == pictures[1].keys()
        assert all(torch.equal(images, pictures[1][name]) for name, images in pictures[0].items())
    none, labels = far
    assert [attack.status for attack in none.attacks] == ["done"] * 4
    assert {attack.name: list(attack.inferred) for attack in none.attacks} == {
        "training_based": ["held-out pictures"],
        "mi_face": ["classes"],
        "mi_face_queries": ["classes"],
        "gmi": ["classes"],
    }
    white = none.attacks[1]
    assert white.queries == 0
    assert min(white.notes["scores"]) > 0.4  # a class of five is found at all
    assert none.ledger["attacker-0"] == none.attacks[0].queries == 80  # every auxiliary picture once
    assert none.ledger["honest"] == 40  # test pictures, and those whose answers somebody has seen
    assert none.utility.served == pytest.approx(none.utility.plain, abs=1e-6)  # asked in other batches
    assert none.utility.distortion == pytest.approx(0, abs=1e-6)
    assert labels.utility.distortion is not None
    assert labels.utility.distortion > 0.01
    assert labels.utility.served["calibration_error"] != labels.utility.plain["calibration_error"]
    assert labels.attacks[1].inferred == white.inferred  # weights are not behind the defense
    assert labels.attacks[0].inferred != none.attacks[0].inferred


def test_a_host_process_explains_as_its_scenario_says(scenario: str, tmp_path: Path) -> None:
    fast = ("attacks=[{name='training_based', epochs=1}]", "data.train=60", "model.epochs=1")
    for explanation, network, transport in (
        ("gradient", "softmax_regression", "in-process"),
        ("grad_cam", "lenet", "grpc"),
    ):
        out, chosen = tmp_path / explanation, (f"host.explanation={explanation}", f"model.name={network}")
        none, labels = records_of(scenario, out, *fast, *chosen, f"transport={transport}")
        assert none.explained == (1, 28, 28)
        assert none.ledger["honest"] == 80  # explanations count as well
        assert f"label_only: {explanation} explanations are of the bare model" in " ".join(labels.warnings)
        assert not any("bare model" in warning for warning in none.warnings)
        page = write_hosting_report(out, [none, labels]).read_text()
        assert f"a customer gets: scores, and on asking why, a {explanation} explanation of 1×28×28" in page
        assert "granted to the attacker: queries, explanations, weights" in page
    silent = records_of(scenario, tmp_path / "silent", *fast, "transport=in-process", "defenses=[{name='none'}]")
    assert silent[0].explained == ()
    assert silent[0].key != read_host_records(tmp_path / "gradient")[0].key
    page = write_hosting_report(tmp_path / "silent", silent).read_text()
    assert "a customer gets: scores ·" in page
    assert "granted to the attacker: queries, weights" in page


def test_what_the_attacker_sees_and_what_trained_the_model_share_nothing(scenario: str, tmp_path: Path) -> None:
    stage = stage_of(read_host_scenario(scenario, ["data.per_class=3", "data.known=masked"]), tmp_path, None)
    stage.hand_out()
    stage.fit(None)
    held = {name: load_tensors(tmp_path / name)[0] for name in ("own", "asked", "auxiliary", "victims classes")}
    raw = load("digits")
    labels = {bytes(image.tobytes()): label for image, label in zip(raw.images, raw.labels, strict=True)}

    def digits_of(images: torch.Tensor) -> set[int]:
        return {int(labels[(image.numpy() * 255).round().astype(np.uint8).tobytes()]) for image in images}

    assert digits_of(held["auxiliary"]["images"]) == digits_of(held["auxiliary"]["validation_images"]) == set(range(5))
    assert digits_of(held["own"]["inputs"]) == digits_of(held["asked"]["inputs"]) == set(range(5, 10))
    own, asked = held["own"]["inputs"].flatten(1), held["asked"]["inputs"].flatten(1)
    assert torch.cdist(own, asked).min() > 0
    victims = held["victims classes"]
    assert victims["labels"].tolist() == [label for label in range(5) for _ in range(3)]
    assert (victims["known"][:, :, 7:21, 7:21] == 0).all()
    given = victims["known"].flatten(1)
    outside = (torch.ones(1, 28, 28).index_fill_(1, torch.arange(7, 21), 0).flatten()).bool()
    exactly = "donot_use_mm_for_euclid_dist"
    nearest = torch.cdist(given[:, outside], own[:, outside], compute_mode=exactly).min(1).values
    assert nearest.max() == 0  # of its own training pictures


def test_pictures_enter_the_report_where_they_may(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = ("transport=in-process", "defenses=[{name='none'}]", "data.name=digits")
    shown = write_hosting_report(tmp_path / "a", records_of(scenario, tmp_path / "a", *fast)).read_text()
    assert shown.count("data:image/png;base64,") == 2 * 5 + 10 + 10 + 2 * 5  # private and found, a part each
    assert "http" not in shown.split("</style>")[1]
    secret = dataclasses.replace(load("digits"), shareable=False)
    monkeypatch.setattr(picture_stage, "load", lambda name, folder: secret)
    records = records_of(scenario, tmp_path / "b", *fast)
    page = write_hosting_report(tmp_path / "b", records).read_text()
    assert "data:image" not in page
    assert "Pictures are left out" in page
    assert write_hosting_report(tmp_path / "b", records, pictures=True).read_text().count("data:image/png") == 40


MISTAKES = {
    "data.name=digts": "unknown data set 'digts'",
    "data.auxiliary_from=mnist": "first_private or auxiliary_from, got both",
    "attacks=[{name='map_scores'}]": "infers a column of a table",
    "defenses=[{name='functional_mechanism', epsilon=1.0}]": "suits linear, got a network over pictures",
    "host.answers=value": "expected answers of label or scores",
    "model.name=lente": "lente",
    "model.name='os:system'": "a customer can load",
    "data.known=dark": "known",
    "host.explanation=gradcam": "host.explanation: Input should be 'none', 'gradient' or 'grad_cam'",
    "host.explanation=grad_cam": "expected a network with a convolution for Grad-CAM, got softmax_regression",
    "attacks=[{name='gmi', known='blurred'}]": "gmi takes pictures for blurred, and they are masked",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes_are_named(override: str, scenario: str) -> None:
    with pytest.raises(ScenarioError, match=MISTAKES[override]):
        read_host_scenario(scenario, ["data.known=masked", override])


def test_data_that_do_not_suffice_are_named(scenario: str, tmp_path: Path) -> None:
    assert is_host_scenario(scenario)
    for override, message in {
        "data.first_private=9": "leave two",
        "data.per_class=60": "per_class=60 of each class",
        "data.train=5000": "too few",
    }.items():
        chosen = read_host_scenario(scenario, [override])
        assert isinstance(chosen, PictureScenario)
        with pytest.raises(DataError, match=message):
            stage_of(chosen, tmp_path, None)
