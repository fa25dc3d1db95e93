"""What holds for every registered prior of the white box, whatever it says of images."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from attacks import make_attack
from attacks.attack import granted
from attacks.inversion.priors import PRIORS
from attacks.inversion.priors.prior import Prior
from attacks.knowledge import Observation
from attacks.on_activations.regularized_inversion import RegularizedInversion
from tests.attacks.conftest import Trained, psnr_db
from tests.support import Stage, run_attack, small_stage, smooth_images

pytestmark = pytest.mark.parametrize("name", PRIORS)
PLACES = [("lenet", 1, "relu1"), ("sixconv", 3, "relu22"), ("ecg", 1, "relu1"), ("vit", 1, "block1")]


def prepared(name: str, stage: Stage, seed: int = 0) -> Prior:
    prior = PRIORS[name]()
    prior.prepare(stage.knowledge(), torch.Generator().manual_seed(seed))
    return prior


def victims(stage: Stage, count: int) -> Tensor:
    return smooth_images(count, stage.spec, seed=9)


@pytest.mark.parametrize("network, channels, cut", PLACES)
def test_the_white_box_works_with_it(name: str, network: str, channels: int, cut: str) -> None:
    stage = small_stage(network, channels, cut)
    attack = make_attack("regularized_inversion", {"priors": [name], "iterations": 10, "weights": [0.01]})
    attack.prepare(granted(stage.knowledge(), RegularizedInversion), torch.Generator().manual_seed(0))
    assert attack.notes["prior"] == name
    for count in (1, 17):
        found = attack.reconstruct(Observation(stage.observed(victims(stage, count))))
        assert found.shape == (count, *stage.spec.shape)
        assert torch.isfinite(found).all()


def test_where_a_victim_begins_and_what_it_costs_is_its_own_affair(name: str) -> None:
    stage = small_stage("lenet", 1, "relu1")
    prior, seen = prepared(name, stage), stage.observed(victims(stage, 4))
    begun = prior.begin(seen, stage.spec)
    alone = torch.cat([prior.begin(row, stage.spec) for row in seen.split(1)])
    torch.testing.assert_close(begun, alone)
    variables = (begun + 0.1 * torch.randn(begun.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    images = prior.images(variables)
    assert images.shape == (4, *stage.spec.shape)
    costs = prior.penalty(images, begun)
    assert costs.shape == (4,)
    (gradient,) = torch.autograd.grad((images[0].sum() + costs[0]), variables)
    assert gradient[0].abs().sum() > 0
    assert not gradient[1:].any()


def test_the_same_seed_gives_the_same_prior(name: str) -> None:
    stage = small_stage("lenet", 1, "relu1")
    seen, before = stage.observed(victims(stage, 3)), torch.get_rng_state()
    one, other = (prepared(name, stage, seed=2).begin(seen, stage.spec) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_it_needs_is_written_down(name: str) -> None:
    knowledge = small_stage("lenet", 1, "relu1").knowledge()
    fields = {"head": None, "auxiliary": None, "fresh_head": None, "query": None, "tail": None, "defense": None}
    kept = {need.value for need in PRIORS[name].needs}
    least = dataclasses.replace(knowledge, **{field: None for field in fields if field not in kept})
    PRIORS[name]().prepare(least, torch.Generator().manual_seed(0))


def test_it_finds_the_image_where_enough_is_seen(name: str, trained: Trained) -> None:
    stage, few = trained.stage("relu1"), trained.victims[:6]
    attack = make_attack("regularized_inversion", {"priors": [name], "iterations": 200, "weights": [0.001]})
    found = run_attack(attack, granted(stage.knowledge(), RegularizedInversion), stage.observed(few))
    assert psnr_db(few, found) > psnr_db(few, trained.mean_image[:6]) + 6
