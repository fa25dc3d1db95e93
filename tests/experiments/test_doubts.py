"""Every doubt of the evaluation is provoked by a whole run, and a clean run raises none."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.record import Record
from experiments.runner import run
from experiments.scenario import scenario_of
from parties.data_owner import DataOwner
from split_models.tensor_spec import TensorSpec

TABLE: dict[str, Any] = {
    "name": "doubts",
    "transport": "in-process",
    "cuts": ["relu1"],
    "data": {"train": 700, "auxiliary": 200, "validation": 30, "victims": 13, "test": 60},
    "model": {"epochs": 5},
    "owners": {"count": 2, "batch_size": 4, "repeats": 2},
    "threat_model": {"query_budget": 600},
}
WHITE_BOX = {"name": "regularized_inversion", "iterations": 60, "weights": [0.001, 0.1], "tuning_images": 3}
DECODER = {"name": "inverse_network", "epochs": 8, "batch_size": 16, "width": 8}
NOISE = {"name": "gaussian_noise", "sigma": 0.1}
MASKS = {"name": "shredder", "inverse_snr": 0.01, "masks": 1, "epochs": 1}


class Step(nn.Module):
    """Which pixels are light: has no gradient anywhere."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.sign(images - 0.5)


def stepped(input_spec: TensorSpec, classes: int) -> nn.Module:
    """A network whose first layer cannot be searched back through."""
    layers = OrderedDict(step=Step(), flat=nn.Flatten(), fc=nn.Linear(input_spec.elements, classes))
    return nn.Sequential(layers)


Play = Callable[..., Record]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Runs one trial; all share a folder, so the target and the classifier are trained once."""
    folder = tmp_path_factory.mktemp("doubts")

    def one(defense: dict[str, Any], *attacks: dict[str, Any], **changes: Any) -> Record:
        table = {**TABLE, "defenses": [defense], "attacks": list(attacks) or [WHITE_BOX], **changes}
        ((_, record, _),) = run(scenario_of(table, "a test"), folder, fresh=True)
        return record

    return one


@pytest.mark.parametrize("defense", [{"name": "none"}, NOISE, MASKS], ids=lambda entry: entry["name"])
def test_a_clean_run_is_not_doubted(defense: dict[str, Any], play: Play) -> None:
    assert play(defense, WHITE_BOX, DECODER).warnings == []


@pytest.mark.parametrize(
    ("defense", "attacks", "said"),
    [
        ({**NOISE, "sigma": 1e4}, [WHITE_BOX], "regularized_inversion is no better than the mean image"),
        ({**NOISE, "sigma": 1e4}, [WHITE_BOX], "the defense costs"),
        ({"name": "none"}, [{**WHITE_BOX, "iterations": 1}, DECODER], "the white box is not exhausted"),
        ({**NOISE, "sigma": 1e-9}, [WHITE_BOX], "changed nothing on the wire"),
        ({**MASKS, "learning_rate": 1e-9}, [WHITE_BOX], "its masks never moved"),
    ],
)
def test_each_doubt_is_raised_by_what_it_is_about(
    defense: dict[str, Any], attacks: list[dict[str, Any]], said: str, play: Play
) -> None:
    assert any(said in text for text in play(defense, *attacks).warnings)


@pytest.mark.parametrize(
    ("repeats", "grants", "doubted"),
    [
        (1, ["head", "auxiliary", "defense", "repeats"], True),
        (2, ["head", "auxiliary", "defense"], True),
        (2, ["head", "auxiliary", "defense", "repeats"], False),
    ],
)
def test_random_defenses_are_doubted_unless_they_were_averaged(
    repeats: int, grants: list[str], doubted: bool, play: Play
) -> None:
    owners = {**TABLE["owners"], "repeats": repeats}
    record = play(NOISE, WHITE_BOX, owners=owners, threat_model={"grants": grants})
    assert any("no attack averaged" in text for text in record.warnings) == doubted


def test_a_wire_that_changes_what_no_defense_did(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DataOwner.protected
    monkeypatch.setattr(DataOwner, "protected", lambda owner, inputs: honest(owner, inputs) + 0.1)
    # Another seed than other tests have: what was sent once is kept, and would not be sent again.
    assert any("is not what the head computes" in text for text in play({"name": "none"}, seed=1).warnings)


def test_a_head_without_gradients(play: Play) -> None:
    record = play({"name": "none"}, model={"name": f"{__name__}:stepped", "epochs": 1}, cuts=["step"])
    assert any("met no gradient for 13 of its victims" in text for text in record.warnings)


def test_a_classifier_that_cannot_read_the_victims(play: Play) -> None:
    record = play({"name": "none"}, data={**TABLE["data"], "train": 20})
    assert any("the independent classifier is right on only" in text for text in record.warnings)


def test_repeats_are_linked_to_their_victims(play: Play) -> None:
    attacks = [WHITE_BOX, DECODER]
    once = play({"name": "none"}, *attacks, owners={**TABLE["owners"], "repeats": 1})
    often = play({"name": "none"}, *attacks, owners={**TABLE["owners"], "repeats": 3})
    assert [victim.index for victim in often.victims] == [victim.index for victim in once.victims]
    assert len({victim.index for victim in often.victims}) == 13
    assert often.utility.accuracy_over_wire == once.utility.accuracy_over_wire
    assert often.cost.bytes_up == pytest.approx(3 * once.cost.bytes_up, rel=0.05)
    for one, other in zip(once.attacks, often.attacks, strict=True):
        assert one.leakage and other.leakage
        assert other.leakage.psnr_db.mean == pytest.approx(one.leakage.psnr_db.mean, abs=0.5)


def test_whoever_uses_knowledge_of_a_defense_also_runs_without_it(play: Play) -> None:
    mask = {"name": "dropout_mask", "rate": 0.6}
    aware, unaware, decoder = play(mask, WHITE_BOX, DECODER).attacks
    assert (aware.label, unaware.label) == ("regularized_inversion", "regularized_inversion unaware")
    assert "defense" in aware.uses and "defense" not in unaware.uses
    assert (aware.withheld, unaware.withheld, decoder.withheld) == ([], ["defense"], [])
    assert aware.leakage and unaware.leakage
    assert aware.leakage.psnr_db.mean > unaware.leakage.psnr_db.mean + 3
    silent: dict[str, Any] = {"threat_model": {**TABLE["threat_model"], "unaware_too": False}}
    assert len(play(mask, WHITE_BOX, **silent).attacks) == len(play({"name": "none"}).attacks) == 1


def test_repeats_are_drawn_anew(play: Play) -> None:
    seen: list[Tensor] = []
    honest = DataOwner.protected

    def spied(owner: DataOwner, inputs: Tensor) -> Tensor:
        seen.append(honest(owner, inputs))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataOwner, "protected", spied)
        play(NOISE, owners={**TABLE["owners"], "count": 1, "batch_size": 13})
    first, again = seen
    assert first.shape == again.shape
    assert not torch.equal(first, again)
    assert float((first - again).std()) == pytest.approx(0.1 * 2**0.5, rel=0.1)
