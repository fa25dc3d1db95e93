"""However many victims there are, so many at a time are searched or solved; and where that is computed."""

from __future__ import annotations

import pytest
import torch

from attacks.inversion import inverter
from attacks.inversion.inverter import Inverter, SearchSettings
from attacks.inversion.objective import Objective
from attacks.inversion.priors.smoothness import TotalVariation
from tests.support import small_stage, smooth_images


@pytest.mark.parametrize("cut, affine", [("conv1", True), ("relu1", False)])
def test_no_more_victims_than_a_batch_are_held_at_once(cut: str, affine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, sizes = small_stage("lenet", 1, cut), []
    for name in ("descend", "solve"):
        real = getattr(inverter, name)

        def counted(objective: Objective, *args: object, real=real, **more: object):
            sizes.append(len(objective.activations))
            return real(objective, *args, **more)

        monkeypatch.setattr(inverter, name, counted)
    seen, weight = stage.observed(smooth_images(23, stage.spec, seed=9)), torch.zeros(23)
    for batch in (5, 23):
        sizes.clear()
        settings = SearchSettings(iterations=5, batch=batch)
        found = Inverter(stage.parts.head, stage.spec, settings, affine)(seen, TotalVariation(), weight)
        assert max(sizes) == batch
        assert len(found.images) == 23
        if batch == 5:
            apart = found.images
    torch.testing.assert_close(apart, found.images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cut, affine", [("conv1", True), ("relu1", False)])
def test_a_copy_of_the_head_computes_on_another_device(cut: str, affine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, settings = small_stage("lenet", 1, cut), SearchSettings(iterations=5)
    seen, weight = stage.observed(smooth_images(3, stage.spec, seed=9)), torch.zeros(3)
    here = Inverter(stage.parts.head, stage.spec, settings, affine)(seen, TotalVariation(), weight)
    heads = []
    real = inverter.Objective.on

    def noted(objective: Objective, device: torch.device) -> Objective:
        heads.append(real(objective, device).head)
        return real(objective, device)

    monkeypatch.setattr(inverter.Objective, "on", noted)
    # The processor by another name: torch takes it for another device.
    monkeypatch.setattr(inverter, "accelerator", lambda: torch.device("cpu", 0))
    there = Inverter(stage.parts.head, stage.spec, settings, affine)(seen, TotalVariation(), weight)
    assert heads[0] is not stage.parts.head
    assert torch.equal(here.images, there.images)
