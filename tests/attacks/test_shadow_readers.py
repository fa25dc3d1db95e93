"""A committee of decoders reads a head it has never seen, and believes itself no more than it should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attacks import AttackError, make_attack
from attacks.decoders import Training
from attacks.on_activations.shadow_readers import Committee, committee
from tests.attacks.conftest import Trained, psnr_db
from tests.support import run_attack, small_stage, smooth_images

TRAINING = Training(epochs=8, batch_size=32, learning_rate=2e-3, width=16)


class Changed(nn.Module):
    """A head whose channels come in another order, and on another scale."""

    def __init__(self, head: nn.Module, order: list[int], scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.head, self.order, self.scale, self.shift = head, order, scale, shift

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self.scale * self.head(images)[:, self.order] + self.shift
        return changed


def seated(trained: Trained, *changes: Any) -> Committee:
    stage = trained.stage("relu1")
    head = stage.knowledge().head
    assert isinstance(head, nn.Module)
    shadows = [Changed(head, *change) for change in changes]
    return committee(stage.knowledge(), shadows, TRAINING, torch.Generator().manual_seed(0))


def test_shadows_that_agree_are_trusted_whatever_scale_they_are_on(trained: Trained) -> None:
    order = list(range(trained.stage("relu1").observed(trained.victims[:1]).shape[1]))
    seen = trained.stage("relu1").observed(trained.victims)
    read = seated(trained, (order,), (order, 3.0, 1.0))
    assert read.trust > 0.8
    assert psnr_db(trained.victims, read(seen)) > psnr_db(trained.victims, trained.mean_image) + 4
    for reader in read.readers:
        assert torch.allclose(reader(seen), reader(5 * seen - 2), atol=1e-3)


def test_shadows_that_contradict_each_other_are_not(trained: Trained) -> None:
    order = list(range(trained.stage("relu1").observed(trained.victims[:1]).shape[1]))
    agreed, mixed = seated(trained, (order,), (order,)), seated(trained, (order,), (order[::-1],))
    assert mixed.trust < agreed.trust - 0.2


def test_a_committee_reads_no_worse_than_the_mean_image(trained: Trained) -> None:
    settings = {"committee": True, "epochs": 4, "alignment_epochs": 4, "decoder_epochs": 4, "width": 8, "restarts": 2}
    for name in ("aligned_shadow", "foreign_shadow"):
        stage = trained.stage("relu2")
        attack = make_attack(name, settings)
        found = run_attack(attack, stage.knowledge(), stage.observed(trained.victims))
        assert 0 <= attack.notes["trust"] <= 1
        assert psnr_db(trained.victims, found.clamp(0, 1)) > psnr_db(trained.victims, trained.mean_image) - 0.5


@pytest.mark.parametrize(
    ("network", "channels", "cut"), [("lenet", 1, "fc1"), ("sixconv", 3, "conv11"), ("ecg", 1, "relu1")]
)
def test_a_committee_answers_behind_maps_series_and_flat_features(network: str, channels: int, cut: str) -> None:
    stage = small_stage(network, channels, cut)
    settings = {"committee": True, "epochs": 1, "alignment_epochs": 1, "decoder_epochs": 1, "width": 4}
    for count in (1, 17):
        victims = smooth_images(count, stage.spec, seed=9)
        found = run_attack(make_attack("foreign_shadow", settings), stage.knowledge(), stage.observed(victims))
        assert found.shape == victims.shape
        assert found.std() > 0


def test_a_committee_of_one_is_refused() -> None:
    with pytest.raises(AttackError, match="at least 2 restarts"):
        make_attack("aligned_shadow", {"committee": True, "restarts": 1})
