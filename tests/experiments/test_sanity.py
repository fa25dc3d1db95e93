"""Each doubt that an evaluation raises about itself, provoked and not provoked."""

from __future__ import annotations

import pytest
import torch

from attacks import ATTACKS
from attacks.knowledge import Capability
from defenses import make_defense
from experiments.record import AttackOutcome, Leakage, Utility
from experiments.sanity import defense_doubts, doubts, wire_doubts
from experiments.statistics import Summary


def leakage(psnr_db: float) -> Leakage:
    def at(value: float) -> Summary:
        return Summary(mean=value, low=value, high=value, percentiles={})

    return Leakage(psnr_db=at(psnr_db), ssim=at(0.5), mse=at(0.1), identification=at(0.5), per_victim={})


def outcome(name: str, psnr_db: float | None) -> AttackOutcome:
    return AttackOutcome(
        name=name,
        label=f"my {name}",
        settings={},
        requires=sorted(ATTACKS[name].requires),
        uses=[],
        status="refused" if psnr_db is None else "done",
        leakage=None if psnr_db is None else leakage(psnr_db),
    )


FLOORS = {"mean_image": leakage(12.0), "nearest_auxiliary": leakage(14.0)}
GOOD = Utility(
    train_accuracy=1.0, accuracy=0.98, accuracy_defended=0.97, accuracy_over_wire=0.97, evaluator_accuracy=0.99
)


def raised(*attacks: AttackOutcome, utility: Utility = GOOD, random: bool = False, repeats: int = 1) -> list[str]:
    return doubts(attacks, FLOORS, utility, random=random, repeats=repeats)


def test_nothing_is_doubted_without_a_reason() -> None:
    assert raised(outcome("regularized_inversion", 30), outcome("shadow_model", 20)) == []
    assert raised() == []


@pytest.mark.parametrize("psnr_db, doubted", [(11.0, True), (12.0, True), (12.1, False)])
def test_an_attack_no_better_than_the_mean_image(psnr_db: float, doubted: bool) -> None:
    found = raised(outcome("shadow_model", psnr_db), outcome("regularized_inversion", 30))
    assert found == [f"my shadow_model is no better than the mean image ({psnr_db:.1f} against 12.0 dB)"] * doubted


@pytest.mark.parametrize("other", ["inverse_network", "shadow_model"])
@pytest.mark.parametrize("psnr_db, doubted", [(22.5, True), (20.9, False), (20.0, False)])
def test_a_white_box_weaker_than_who_knows_less(other: str, psnr_db: float, doubted: bool) -> None:
    assert Capability.HEAD in ATTACKS["regularized_inversion"].requires
    found = raised(outcome("regularized_inversion", 20), outcome(other, psnr_db))
    assert len(found) == doubted
    if doubted:
        assert "my regularized_inversion, which knows the head, is weaker than my " + other in found[0]
        assert "(20.0 against 22.5 dB)" in found[0]


def test_who_knows_less_may_be_weaker() -> None:
    assert raised(outcome("shadow_model", 15), outcome("inverse_network", 25)) == []


def test_refused_attacks_are_not_compared() -> None:
    assert raised(outcome("regularized_inversion", None), outcome("shadow_model", 25)) == []
    assert raised(outcome("regularized_inversion", None), random=True) == []


def test_a_random_defense_is_a_doubt_until_somebody_averages() -> None:
    said = ["the defense is random and no attack averaged; who sees an input repeatedly does (owners.repeats)"]
    once = outcome("regularized_inversion", 25)
    averaging = once.model_copy(update={"uses": ["repeats"]})
    assert raised(once, random=True) == raised(averaging, random=True, repeats=1) == said
    assert raised(once, random=True, repeats=5) == said, "sent repeatedly, but nobody was granted to know it"
    assert raised(averaging, random=True, repeats=5) == []
    assert raised(once, random=False) == []


def test_who_had_to_do_without_knowledge_raises_no_doubt() -> None:
    unaware = outcome("regularized_inversion", 8).model_copy(update={"withheld": ["defense"]})
    assert raised(unaware, outcome("inverse_network", 25)) == []


def test_a_search_without_gradients() -> None:
    still = outcome("regularized_inversion", 25).model_copy(update={"notes": {"without_gradient": 3}})
    assert raised(still) == [
        "my regularized_inversion met no gradient for 3 of its victims: its search stood still, which is no sign of "
        "privacy"
    ]


@pytest.mark.parametrize("accuracy, doubted", [(0.5, True), (0.89, True), (0.9, False)])
def test_a_classifier_that_cannot_read_the_victims(accuracy: float, doubted: bool) -> None:
    found = raised(utility=GOOD.model_copy(update={"evaluator_accuracy": accuracy}))
    assert len(found) == doubted
    assert all(f"right on only {accuracy:.0%} of the victims themselves" in text for text in found)


@pytest.mark.parametrize("defended, doubted", [(0.5, True), (0.87, True), (0.89, False), (1.0, False)])
def test_a_defense_that_costs_the_task(defended: float, doubted: bool) -> None:
    utility = GOOD.model_copy(update={"accuracy_defended": defended})
    assert utility.drop == pytest.approx(0.98 - defended)
    found = raised(utility=utility)
    assert len(found) == doubted
    assert all(f"costs {utility.drop:.1%} of accuracy" in text for text in found)


def activations() -> torch.Tensor:
    return torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(0)).relu()


@pytest.mark.parametrize("sigma, doubted", [(0.0, True), (1e-6, True), (0.01, False), (1.0, False)])
def test_a_defense_that_changes_nothing_on_the_wire(sigma: float, doubted: bool) -> None:
    defense = make_defense("gaussian_noise", {"sigma": sigma})
    on_wire = defense.protect(activations(), torch.Generator().manual_seed(1))
    found = wire_doubts(activations(), on_wire, f"gaussian_noise sigma={sigma}")
    assert (
        found
        == [f"gaussian_noise sigma={sigma} changed nothing on the wire; at this strength it is no defense"] * doubted
    )


def test_a_wire_that_changes_what_no_defense_did() -> None:
    assert wire_doubts(activations(), activations(), "none") == []
    rounded = activations() * (1 + 1e-6)
    assert wire_doubts(activations(), rounded, "none") == [], "the last bits may differ with the batch"
    shuffled = activations().flip(0)
    assert "not what the head computes" in wire_doubts(activations(), shuffled, "none")[0]
    one_wrong = activations()
    one_wrong[3, 0, 0, 0] += 1
    assert len(wire_doubts(activations(), one_wrong, "none")) == 1


def test_masks_that_nothing_trained_are_a_doubt() -> None:
    assert defense_doubts("shredder", {"movement": 0.8}) == defense_doubts("gaussian_noise", {}) == []
    assert "masks never moved" in defense_doubts("shredder", {"movement": 0.0})[0]
