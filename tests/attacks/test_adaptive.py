"""Who knows the defense, or sees an input repeatedly, has to be worth more where the defense hides anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks import ATTACKS, make_attack
from attacks.attack import granted
from attacks.inversion.forward_model import ExpectedHead, freed, learnt
from attacks.knowledge import Knowledge, KnownDefense, Observation
from attacks.on_activations.regularized_inversion import RegularizedInversion
from attacks.sightings import average, middle
from defenses import FrozenSplit, make_defense
from tests.attacks.conftest import Trained, psnr_db

WHITE_BOX = {"iterations": 80, "weights": (0.003, 0.1), "tuning_images": 3}
DECODER = {"epochs": 6, "batch_size": 16, "width": 16}


class Guarded:
    """The trained network under a defense, as it is attacked at its first activation function."""

    def __init__(self, trained: Trained, name: str, settings: dict[str, Any], repeats: int) -> None:
        self.stage, self.victims = trained.stage("relu1", repeats=repeats, query_budget=5000), trained.victims[:12]
        known = self.stage.knowledge()
        assert known.auxiliary is not None
        self._defense = make_defense(name, settings)
        self._defense.attach(known.input_spec, known.activation_spec)
        frozen = FrozenSplit(
            self.stage.parts.head, self.stage.parts.tail, known.auxiliary.images, known.auxiliary.labels
        )
        self._defense.fit(frozen, torch.Generator().manual_seed(1), lambda fraction: None)
        self._generator = torch.Generator().manual_seed(3)

    def knowledge(self) -> Knowledge:
        """Every capability; the owner's answers pass the defense."""
        defense = KnownDefense(self._defense.protect_inputs, self._defense.protect)
        known = replace(self.stage.knowledge(), defense=defense)
        return replace(known, query=lambda images: known.sightings(images, self._generator)[:, 0])

    def attacked(self, name: str, settings: dict[str, Any], **withheld: None) -> tuple[float, dict[str, Any]]:
        """PSNR of what an attack makes of repeated sightings, and its notes."""
        repeated = self.knowledge().sightings(self.victims, self._generator)
        attack = make_attack(name, settings)
        attack.prepare(replace(granted(self.knowledge(), ATTACKS[name]), **withheld), torch.Generator().manual_seed(0))
        return psnr_db(self.victims, attack.reconstruct(Observation(repeated[:, 0], repeated))), attack.notes


@pytest.mark.parametrize(("defense", "gain_db"), [("dropout_mask", 5.0), ("none", 0.0)])
def test_knowing_of_a_mask_is_worth_knowing(defense: str, gain_db: float, trained: Trained) -> None:
    guarded = Guarded(trained, defense, {"rate": 0.6} if defense == "dropout_mask" else {}, repeats=1)
    aware, notes = guarded.attacked("regularized_inversion", WHITE_BOX)
    unaware, without = guarded.attacked("regularized_inversion", WHITE_BOX, defense=None)
    assert (notes["zero_trust"] < 0.01) == (defense == "dropout_mask")
    assert without["zero_trust"] == 1.0
    assert aware >= unaware + gain_db - 1e-6


@pytest.mark.parametrize(
    ("attack", "settings"), [("regularized_inversion", WHITE_BOX), ("inverse_network", DECODER)], ids=lambda value: ""
)
@pytest.mark.parametrize(
    ("defense", "strength", "gain_db"),
    [
        ("gaussian_noise", {"sigma": 1.0}, 2.0),
        ("laplace_noise", {"scale": 1.0}, 2.0),
        ("dropout_mask", {"rate": 0.8}, 2.0),
        ("shredder", {"inverse_snr": 2.0, "masks": 4, "epochs": 1, "draw": "collection"}, 0.5),
    ],
)
def test_random_defenses_are_averaged_away(
    attack: str, settings: dict[str, Any], defense: str, strength: dict[str, Any], gain_db: float, trained: Trained
) -> None:
    once, _ = Guarded(trained, defense, strength, repeats=1).attacked(attack, settings)
    often, _ = Guarded(trained, defense, strength, repeats=8).attacked(attack, settings)
    assert often > once + gain_db


@pytest.mark.parametrize(
    ("attack", "settings", "loss_db"),
    [("regularized_inversion", WHITE_BOX, 0.5), ("inverse_network", DECODER, 1.5)],
    ids=["white box", "decoder"],
)
@pytest.mark.parametrize("inverse_snr", [20.0, 300.0])
def test_one_mask_for_all_is_taken_off_however_large_it_is(
    attack: str, settings: dict[str, Any], loss_db: float, inverse_snr: float, trained: Trained
) -> None:
    bare, _ = Guarded(trained, "none", {}, repeats=1).attacked(attack, settings)
    fixed = {"inverse_snr": inverse_snr, "masks": 1, "epochs": 1, "draw": "fixed"}
    reached, _ = Guarded(trained, "shredder", fixed, repeats=1).attacked(attack, settings)
    assert reached > bare - loss_db


def test_a_draw_that_is_fixed_is_not_averaged_but_taken_off(trained: Trained) -> None:
    fixed = {"inverse_snr": 2.0, "masks": 1, "epochs": 1, "draw": "fixed"}
    reached = {}
    for repeats in (1, 8):
        guarded = Guarded(trained, "shredder", fixed, repeats)
        reached[repeats], notes = guarded.attacked("regularized_inversion", WHITE_BOX)
        assert not notes["expectation"], "without the mask it is what the head computes"
    assert reached[8] == pytest.approx(reached[1], abs=0.3)
    unaware, _ = guarded.attacked("regularized_inversion", WHITE_BOX, defense=None)
    assert reached[8] > unaware + 3


def test_only_a_large_constant_is_taken_off(trained: Trained) -> None:
    for defense, settings in (
        ("none", {}),
        ("gaussian_noise", {"sigma": 10.0}),
        ("shredder", {"inverse_snr": 20.0, "masks": 3, "epochs": 1, "draw": "collection"}),
        ("shredder", {"inverse_snr": 0.3, "masks": 1, "epochs": 1, "draw": "fixed"}),
    ):
        known = Guarded(trained, defense, settings, repeats=1).knowledge()
        same, added = freed(known, trained.victims)
        assert same is known
        assert not added.any()


def test_the_expectation_of_what_is_sent_is_compared_where_it_is_shifted(trained: Trained) -> None:
    guarded = Guarded(trained, "dropout_mask", {"rate": 0.5, "where": "input"}, repeats=8)
    aware, notes = guarded.attacked("regularized_inversion", WHITE_BOX)
    unaware, _ = guarded.attacked("regularized_inversion", WHITE_BOX, defense=None)
    assert notes["expectation"]
    assert aware > unaware + 1


@pytest.mark.parametrize(
    ("defense", "settings", "candidates"),
    [
        ("none", {}, 1),
        ("gaussian_noise", {"sigma": 1.0}, 1),
        ("gaussian_noise", {"sigma": 1e4}, 1),
        ("dropout_mask", {"rate": 0.6}, 1),  # what is not 0 is true
        ("dropout_mask", {"rate": 0.5, "where": "input"}, 2),
        ("quantization", {"bits": 1}, 2),
    ],
)
def test_what_a_defense_does_is_found_out_by_trying(
    defense: str, settings: dict[str, Any], candidates: int, trained: Trained
) -> None:
    known = Guarded(trained, defense, settings, repeats=1).knowledge()
    assert known.auxiliary is not None
    found = learnt(known, known.auxiliary.validation_images, 4, torch.Generator().manual_seed(0))
    assert len(found.heads) == candidates


def test_the_expected_head_draws_the_same_each_time_and_is_an_expectation(trained: Trained) -> None:
    known = Guarded(trained, "gaussian_noise", {"sigma": 0.3, "where": "input"}, repeats=1).knowledge()
    images = trained.victims[:3]
    head = ExpectedHead(known, draws=64, seed=5)
    assert torch.equal(head(images), head(images))
    generator = torch.Generator().manual_seed(9)
    many = torch.stack([known.as_sent(images, generator) for _ in range(400)]).mean(0)
    assert known.head is not None
    assert (head(images) - many).square().mean() < (known.head(images) - many).square().mean() / 2


def test_awareness_needs_images_of_ones_own(trained: Trained) -> None:
    knowledge = replace(Guarded(trained, "dropout_mask", {"rate": 0.6}, repeats=1).knowledge(), auxiliary=None)
    attack = make_attack("regularized_inversion", {"iterations": 2})
    attack.prepare(granted(knowledge, RegularizedInversion), torch.Generator().manual_seed(0))
    assert attack.notes["zero_trust"] == 1.0


def test_what_masks_hid_is_left_out_of_averages() -> None:
    sightings = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 0.0, 2.0], [5.0, 0.0, 4.0], [7.0, 0.0, 0.0]]])
    assert torch.equal(average(sightings), torch.tensor([[5.0, 0.0, 3.0]]))
    assert torch.equal(middle(sightings), torch.tensor([[5.0, 0.0, 3.0]]))
    even = torch.tensor([[[1.0], [9.0], [2.0], [4.0]]])
    assert torch.equal(middle(even), torch.tensor([[3.0]]))
    for merge in (average, middle):
        lone: Tensor = sightings[:, :1]
        assert torch.equal(merge(lone), lone[:, 0])
