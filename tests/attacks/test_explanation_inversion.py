"""What explanations give away, and only to whom they are granted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from attacks.knowledge import Auxiliary
from attacks.on_outputs.explanation_inversion import ExplanationDecoder, ExplanationInversion
from attacks.on_outputs.explanation_inversion import ExplanationInversionSettings as Settings
from attacks.oracle import PredictionOracle
from attacks.output_attack import OutputKnowledge, Victims
from experiments.hosting.roles import _victims
from parties.explanations import Explanation
from split_models.answers import Answers
from split_models.checkpoints import save_tensors
from split_models.tensor_spec import SpecError, TensorSpec
from tests.output_support import invert, stage_for
from tests.support import smooth_images

SPEC = TensorSpec((1, 12, 12), low=0.0, high=1.0)


class Mirror:
    """A host whose explanation is the picture in another scale, and whose scores are noise."""

    answers, max_batch, explains = Answers.SCORES, 64, True

    def predict(self, inputs: Tensor) -> Tensor:
        return torch.rand(len(inputs), 3, generator=torch.Generator().manual_seed(0)).softmax(1)

    def explain(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return 1e-3 * (inputs - 0.5)


def of_mirror() -> OutputKnowledge:
    oracle, images = PredictionOracle(Mirror(), SPEC, 1000), smooth_images(200, SPEC, 1)
    auxiliary = Auxiliary(images, torch.zeros(200).long(), images[:4], torch.zeros(4).long())
    return OutputKnowledge(SPEC, 3, oracle=oracle, explained=oracle, auxiliary=auxiliary)


@pytest.mark.parametrize("reads", ["both", "explanation"])
def test_an_explanation_that_shows_the_picture_is_inverted_and_that_of_another_is_not(reads: str) -> None:
    images = smooth_images(20, SPEC, 2)
    told = Mirror().explain(images, torch.zeros(20).long())
    attack = ExplanationInversion(Settings(reads=reads, epochs=40))
    found = invert(attack, of_mirror(), Victims(outputs=Mirror().predict(images), explanations=told))
    floor = float(mse_loss(smooth_images(200, SPEC, 1).mean(0).expand_as(images), images))
    assert mse_loss(found, images) < floor / 10
    other = attack.invert(Victims(outputs=Mirror().predict(images), explanations=told.roll(1, 0)))
    assert mse_loss(other, images) > floor


def test_read_by_themselves_explanations_are_all_that_counts() -> None:
    images = smooth_images(5, SPEC, 2)
    told, one, other = Mirror().explain(images, torch.zeros(5).long()), torch.eye(3)[[0] * 5], torch.eye(3)[[1] * 5]
    for reads, same in (("explanation", True), ("both", False)):
        attack = ExplanationInversion(Settings(reads=reads, epochs=2))
        found = invert(attack, of_mirror(), Victims(outputs=one, explanations=told))
        assert torch.equal(found, attack.invert(Victims(outputs=other, explanations=told))) is same


def test_labels_are_read_where_a_host_tells_no_more() -> None:
    offer = {"answers": Answers.LABEL, "explanation": Explanation.GRAD_CAM}
    stage = stage_for(ExplanationInversion, offer=offer)
    assert stage.victims.outputs is not None
    labels = stage.victims.outputs.argmax(1)
    told = dataclasses.replace(stage.victims, outputs=labels)
    attack = ExplanationInversion(Settings(epochs=1))
    assert invert(attack, stage.knowledge(), told).shape == (5, *stage.hosted.input_spec.shape)
    assert stage.oracle.queries == attack.notes["queries"] == 16


def test_victims_without_explanations_are_an_error_that_says_so() -> None:
    stage = stage_for(ExplanationInversion)
    with pytest.raises(SpecError, match="expected the victims' explanations, got none"):
        invert(ExplanationInversion(Settings(epochs=1)), stage.knowledge(), Victims(outputs=stage.victims.outputs))


def test_victims_explanations_reach_only_whom_they_are_granted(tmp_path: Path) -> None:
    seen = {"outputs": torch.zeros(2, 3), "explanations": torch.ones(2, 1, 12, 12)}
    save_tensors(tmp_path / "victims", seen)
    granted = of_mirror()
    assert torch.equal(_victims(tmp_path / "victims", None, granted).explanations, seen["explanations"])
    withheld = dataclasses.replace(granted, explained=None)
    assert _victims(tmp_path / "victims", None, withheld).explanations is None


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 9, 7), (1, 31, 18)])
@pytest.mark.parametrize("answers", [0, 5])
def test_the_decoder_suits_any_size(shape: tuple[int, int, int], answers: int) -> None:
    decoder = ExplanationDecoder(TensorSpec((1, *shape[1:])), TensorSpec(shape), answers, 4)
    assert decoder(torch.randn(2, 1, *shape[1:]), torch.rand(2, 5)).shape == (2, *shape)
