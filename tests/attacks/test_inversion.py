"""The white box solves what can be solved, searches elsewhere, and each victim stops when it has converged."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from attacks import make_attack
from attacks.attack import granted
from attacks.inversion.affine import is_affine
from attacks.inversion.inverter import Inverter, SearchSettings
from attacks.inversion.priors import PRIORS
from attacks.inversion.priors.smoothness import TotalVariation
from attacks.on_activations.adversarial_shadow import Critic, Rival
from attacks.on_activations.aligned_shadow import misfit, statistics
from attacks.on_activations.model_reconstruction import ModelReconstruction
from attacks.on_activations.regularized_inversion import RegularizedInversion
from defenses import make_defense
from split_models.randomness import layers_from
from split_models.split_model import split
from split_models.tensor_spec import TensorSpec
from tests.attacks.conftest import Trained, psnr_db
from tests.support import image_spec, network, run_attack

SPEC = TensorSpec((1, 8, 8), low=0.0, high=1.0)


class Counting(nn.Module):
    """A head that counts how many images it is asked about in one go."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, self.asked = head, []  # type: ignore[var-annotated]

    def forward(self, images: Tensor) -> Tensor:
        self.asked.append(len(images))
        return self.head(images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["lenet", "sixconv"])
def test_a_head_is_affine_up_to_its_first_activation_function(name: str, channels: int) -> None:
    model, generator = network(name, channels), torch.Generator().manual_seed(0)
    first = "conv1" if name == "lenet" else "conv11"
    for cut, affine in {"normalize": True, first: True, first.replace("conv", "relu"): False}.items():
        assert is_affine(split(model, cut).head, image_spec(name, channels), generator) == affine


def test_a_bend_that_images_hardly_reach_is_found() -> None:
    def bent(images: Tensor) -> Tensor:
        return (images + 20).relu() - 20

    assert not is_affine(bent, SPEC, torch.Generator().manual_seed(0))


def test_ten_victims_at_a_linear_cut_are_solved(trained: Trained) -> None:
    stage, victims = trained.stage("conv1"), trained.victims[:10]
    for knowledge in (stage.knowledge(), granted(stage.knowledge(), RegularizedInversion)):
        attack = make_attack("regularized_inversion")
        found = run_attack(attack, knowledge, stage.observed(victims))
        assert psnr_db(victims, found) > 100
        assert attack.notes["method"] == "linear solve"
        assert attack.notes["affine"]
        assert attack.notes["steps"] < 200


def test_behind_a_bend_it_searches(trained: Trained) -> None:
    stage = trained.stage("relu1")
    attack = make_attack("regularized_inversion", {"weights": [0.001]})
    found = run_attack(attack, stage.knowledge(), stage.observed(trained.victims[:4]))
    assert attack.notes["method"] == "search"
    assert psnr_db(trained.victims[:4], found) > 35


@pytest.mark.parametrize("prior", ["total_variation", "squared_variation", "l2"])
def test_noise_that_is_known_is_smoothed_and_noise_that_is_not_is_noticed(prior: str, trained: Trained) -> None:
    noise, generator = make_defense("gaussian_noise", {"sigma": 0.5}), torch.Generator().manual_seed(3)
    stage = trained.stage("conv1", protect=lambda activations: noise.protect(activations, generator))
    victims = trained.victims[:8]
    seen = stage.observed(victims)
    plain = Inverter(stage.parts.head, stage.spec, SearchSettings(), affine=True)
    naive = plain(seen, TotalVariation(), torch.zeros(len(seen))).images.clamp(0, 1)
    aware = make_attack("regularized_inversion", {"priors": [prior], "iterations": 200})
    found = run_attack(aware, granted(stage.knowledge(), RegularizedInversion), seen)
    assert aware.notes["weight"] > 0
    assert aware.notes["method"] == ("search" if prior == "total_variation" else "linear solve")
    assert psnr_db(victims, found) > psnr_db(victims, naive) + 1
    unaware = make_attack("regularized_inversion", {"priors": [prior], "iterations": 200})
    head_alone = trained.stage("conv1").knowledge()
    run_attack(unaware, granted(head_alone, RegularizedInversion), seen)
    assert unaware.notes["unexplained"] > 0.001


def test_the_best_prior_on_validation_images_is_taken(trained: Trained) -> None:
    stage = trained.stage("relu1")
    settings = {"iterations": 60, "weights": [0.01], "tuning_images": 3}
    reached = {}
    for priors in (*([name] for name in ("total_variation", "l2")), ["total_variation", "l2"]):
        attack = make_attack("regularized_inversion", {**settings, "priors": priors, "weights": [0.0, 0.01]})
        run_attack(attack, stage.knowledge(), stage.observed(trained.victims[:1]))
        reached["+".join(priors)] = attack.notes["validation_mse"]
    best = min(reached["total_variation"], reached["l2"])
    assert reached["total_variation+l2"] == pytest.approx(best, rel=1e-3)


def test_an_unknown_prior_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ValueError, match=rf"priors.*use one of: {', '.join(PRIORS)}"):
        make_attack("regularized_inversion", {"priors": ["wishful"]})


def test_who_has_converged_is_not_searched_any_further() -> None:
    head = Counting(nn.Identity())
    easy, hard = torch.full((1, *SPEC.shape), 0.5), torch.rand(1, *SPEC.shape, generator=torch.Generator())
    inverter = Inverter(head, SPEC, SearchSettings(iterations=5000))
    inverter(torch.cat([easy, hard]), TotalVariation(), torch.zeros(2))
    assert head.asked[0] == 2
    assert head.asked[-1] == 1
    assert len(head.asked) < 2500, "the attacker's own loss says when to stop"


def test_memory_is_bounded_by_the_batch() -> None:
    head = Counting(nn.Identity())
    victims = torch.rand(23, *SPEC.shape, generator=torch.Generator())
    for affine in (True, False):
        inverter = Inverter(head, SPEC, SearchSettings(iterations=20, batch=5), affine)
        found = inverter(victims, TotalVariation(), torch.zeros(23))
        assert found.images.shape == victims.shape
    assert max(head.asked) == 5


def test_a_search_from_a_decoders_image_corrects_it_and_needs_auxiliary_images(trained: Trained) -> None:
    stage, victims = trained.stage("relu1"), trained.victims[:8]
    seen = stage.observed(victims)
    attack = make_attack("regularized_inversion", {"priors": ["learned"], "weights": [0.001], "iterations": 80})
    found = run_attack(attack, granted(stage.knowledge(), RegularizedInversion), seen)
    assert attack.notes["prior"] == "learned"
    decoded = attack._prior.begin(seen, stage.spec)
    assert psnr_db(victims, decoded) > psnr_db(victims, trained.mean_image[:8]) + 3
    assert psnr_db(victims, found) > psnr_db(victims, decoded) + 5
    without = dataclasses.replace(stage.knowledge(), auxiliary=None)
    attack = make_attack("regularized_inversion", {"priors": ["learned"], "iterations": 5})
    run_attack(attack, without, seen[:1])
    assert attack.notes["prior"] == "total_variation"


def test_alignment_makes_a_shadow_more_like_the_head(trained: Trained) -> None:
    stage, misfits = trained.stage("relu1"), {}
    seen = stage.observed(trained.victims)
    short = {"epochs": 4, "iterations": 2}
    for name, settings in {
        "shadow_model": short,
        "aligned_shadow": {**short, "alignment_epochs": 6, "restarts": 1},
        "adversarial_shadow": {**short, "alignment_epochs": 6, "restarts": 1, "decoder_epochs": 1, "width": 4},
    }.items():
        attack = make_attack(name, settings)
        run_attack(attack, stage.knowledge(), seen)
        with torch.no_grad():
            made = attack._shadow(stage.auxiliary.images)
        misfits[name] = float(misfit(made, statistics(seen)))
    assert misfits["aligned_shadow"] < misfits["shadow_model"] / 2
    assert misfits["adversarial_shadow"] < misfits["shadow_model"] / 2


def test_a_critic_learns_to_tell_what_was_observed_and_a_shadow_to_fool_it(trained: Trained) -> None:
    stage = trained.stage("relu1")
    seen, generator = stage.observed(trained.victims), torch.Generator().manual_seed(0)
    with layers_from(generator):
        critic = Critic(stage.knowledge().activation_spec, seen)
    rival = Rival(critic, seen, 1e-3, generator)
    made = seen.flip(1).requires_grad_()  # the same values in other channels
    first, *_, last = [float(rival(made).detach()) for _ in range(60)]
    assert last > first, "it sees through what is made ever better"
    with torch.no_grad():
        assert float((critic(seen) > critic(made)).float().mean()) > 0.7
    (gradient,) = torch.autograd.grad(rival(made), made)
    assert float(rival(made - 0.3 * gradient.sign()).detach()) < last


def test_the_best_of_several_shadows_by_the_attackers_own_loss_is_inverted(trained: Trained) -> None:
    stage, losses = trained.stage("relu1"), []
    attack = make_attack("adversarial_shadow", {"epochs": 1, "alignment_epochs": 1, "restarts": 3, "decoder_epochs": 1})
    align = attack._align  # type: ignore[attr-defined]
    attack._align = lambda *given: losses.append(align(*given)) or losses[-1]  # type: ignore[attr-defined,func-returns-value]
    run_attack(attack, stage.knowledge(), stage.observed(trained.victims[:4]))
    assert len(set(losses)) == 3
    assert attack.notes["alignment_loss"] == min(losses)


def test_a_copy_whose_units_died_is_begun_anew(trained: Trained) -> None:
    stage = trained.stage("relu2")
    settings = {"epochs": 8, "learning_rate": 0.3, "iterations": 5, "weights": [0.1]}  # far too bold at first
    attack = make_attack("model_reconstruction", settings)
    attack.prepare(granted(stage.knowledge(), ModelReconstruction), torch.Generator().manual_seed(0))
    assert attack.notes["copy_misfit"] < 0.05  # of the activations' energy; 1 where all units are dead


def test_a_flat_start_without_gradients_is_left() -> None:
    def edges_alone(images: Tensor) -> Tensor:
        return (images[..., 1:] - images[..., :-1] - 0.05).relu()

    victims = torch.rand(3, *SPEC.shape, generator=torch.Generator().manual_seed(1))
    inverter = Inverter(edges_alone, SPEC, SearchSettings(iterations=200))
    assert float(inverter(edges_alone(victims), TotalVariation(), torch.zeros(3)).losses.max()) < 0.2
