"""Do attacks reach what they must reach, and nothing where there is nothing to reach?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attacks import ATTACKS, make_attack
from attacks.attack import granted
from attacks.inversion.descent import descend
from attacks.inversion.objective import Objective
from attacks.inversion.priors.smoothness import TotalVariation, total_variation
from attacks.knowledge import Auxiliary, Observation
from attacks.on_activations.foreign_shadow import ForeignShadow
from defenses import make_defense
from split_models.tensor_spec import TensorSpec
from tests.attacks.conftest import Trained, psnr_db
from tests.support import Stage, fast, run_attack, small_stage, smooth_images

CUT = "relu1"
QUICK = {  # weaker than by default, strong enough to be told from the floors
    "regularized_inversion": {"iterations": 150},
    "inverse_network": {"epochs": 15, "batch_size": 16, "width": 16},
    "random_queries": {"epochs": 8, "images": 800, "width": 16},
    "model_reconstruction": {"epochs": 10, "weights": (0.01, 0.1), "iterations": 100},
    "shadow_model": {"epochs": 15, "iterations": 150},
    "aligned_shadow": {"epochs": 6, "alignment_epochs": 8, "restarts": 1, "iterations": 100},
    "adversarial_shadow": {"epochs": 6, "alignment_epochs": 8, "restarts": 1, "decoder_epochs": 8, "width": 16},
    "foreign_shadow": {"epochs": 6, "alignment_epochs": 8, "restarts": 1, "iterations": 100},
}
every_attack = pytest.mark.parametrize("name", ATTACKS)


@pytest.fixture(scope="module")
def fairly_attacked(trained: Trained) -> dict[str, Tensor]:
    """What each attack makes of the undefended activations."""
    return {name: attacked(trained, name) for name in ATTACKS}


def attacked(trained: Trained, name: str, order: Tensor | None = None, sigma: float = 0.0) -> Tensor:
    """Reconstructions of the victims, whose activations arrive in `order` and with noise."""
    noise, generator = make_defense("gaussian_noise", {"sigma": sigma}), torch.Generator().manual_seed(5)
    stage = trained.stage(CUT, protect=lambda activations: noise.protect(activations, generator))
    seen = stage.observed(trained.victims)
    attack = make_attack(name, QUICK.get(name))
    return run_attack(attack, granted(stage.knowledge(), ATTACKS[name]), seen if order is None else seen[order])


def single(head: nn.Module, spec: TensorSpec) -> Stage:
    """A stage around one layer."""
    labels = torch.arange(8) % 4
    known = Auxiliary(smooth_images(8, spec, 1), labels, smooth_images(4, spec, 2), labels[:4])
    return Stage(nn.Sequential(head, nn.Flatten()).eval(), "0", spec, known)


@pytest.mark.parametrize("aware", [True, False], ids=["tuned", "fixed"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["identity", "convolution"])
def test_white_box_inverts_what_can_be_inverted(kind: str, channels: int, aware: bool) -> None:
    spec = TensorSpec((channels, 14, 14), low=0.0, high=1.0)
    layer = nn.Conv2d(channels, 8 * channels, 3, padding=1).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.3)
    stage = single(nn.Identity() if kind == "identity" else layer, spec)
    victims = smooth_images(4, spec, seed=8)
    # With auxiliary images it has to find out by itself that no regularisation is best.
    attack = make_attack("regularized_inversion", {} if aware else {"weights": [0.0]})
    found = run_attack(attack, stage.knowledge(), stage.observed(victims))
    assert attack.notes["weight"] == 0
    assert psnr_db(victims, found) > 40


def test_white_box_inverts_a_trained_convolution(trained: Trained) -> None:
    stage = trained.stage("conv1")
    found = run_attack(make_attack("regularized_inversion"), stage.knowledge(), stage.observed(trained.victims[:8]))
    assert psnr_db(trained.victims[:8], found) > 40


@every_attack
def test_better_than_the_mean_image(name: str, trained: Trained, fairly_attacked: dict[str, Tensor]) -> None:
    floor = psnr_db(trained.victims, trained.mean_image)
    assert psnr_db(trained.victims, fairly_attacked[name]) > floor + 0.5


@every_attack
def test_activations_of_others_say_nothing(name: str, trained: Trained) -> None:
    count = len(trained.victims)
    order = (torch.arange(count) + count // 2) % count
    floor = psnr_db(trained.victims, trained.mean_image)
    assert psnr_db(trained.victims, attacked(trained, name, order)) < floor + 0.5


@every_attack
def test_overwhelming_noise_leaves_the_floor(name: str, trained: Trained) -> None:
    floor = psnr_db(trained.victims, trained.mean_image)
    reached = psnr_db(trained.victims, attacked(trained, name, sigma=1e4))
    assert reached < floor + 0.5
    if name == "inverse_network":  # it learns from defended answers that there is nothing to see
        assert reached > floor - 2.0


def test_noise_lowers_what_is_reached(trained: Trained, fairly_attacked: dict[str, Tensor]) -> None:
    for name in ("regularized_inversion", "inverse_network"):
        noisy = psnr_db(trained.victims, attacked(trained, name, sigma=1.0))
        assert noisy < psnr_db(trained.victims, fairly_attacked[name]) - 1.0


def test_knowing_the_head_is_worth_at_least_as_much_as_not(
    trained: Trained, fairly_attacked: dict[str, Tensor]
) -> None:
    reached = {name: psnr_db(trained.victims, images) for name, images in fairly_attacked.items()}
    assert reached["regularized_inversion"] >= max(reached["shadow_model"], reached["inverse_network"])


@pytest.mark.parametrize("budget", [2, 5, 50, 459, 460, 10_000])
def test_the_inverse_network_uses_what_its_budget_allows(trained: Trained, budget: int) -> None:
    stage = trained.stage(CUT, query_budget=budget)
    attack = make_attack("inverse_network", {"epochs": 1, "width": 4, "batch_size": 512})
    run_attack(attack, stage.knowledge(), stage.observed(trained.victims[:1]))
    one_more = budget == 10_000  # to find out that answers are not random
    assert stage.query.asked == attack.notes["queries"] == min(budget, 400 + 60) + one_more


@pytest.mark.parametrize("budget", [0, 1])
def test_the_inverse_network_refuses_a_budget_that_teaches_nothing(trained: Trained, budget: int) -> None:
    stage = trained.stage(CUT, query_budget=budget)
    with pytest.raises(Exception, match=f"query budget of at least 2, got {budget}"):
        make_attack("inverse_network").prepare(stage.knowledge(), torch.Generator())
    assert stage.query.asked == 0


def test_total_variation_is_that_of_the_definition() -> None:
    images = torch.zeros(2, 1, 3, 3)
    images[1, 0, 1, 1] = 1.0
    # Differences down and right at each of the four inner corners: (0,0) 0, (0,1) 1 down, (1,0) 1 right, (1,1) √2.
    assert float(total_variation(images)[0]) == pytest.approx(0, abs=1e-3)
    assert float(total_variation(images)[1]) == pytest.approx((0 + 1 + 1 + 2**0.5) / 4, abs=1e-3)


def test_the_kept_iterate_has_the_lowest_of_the_attackers_own_loss() -> None:
    spec = TensorSpec((1, 6, 6), low=0.0, high=1.0)
    victims = 0.5 + 0.01 * smooth_images(3, spec, seed=8)  # close to the start, so a step far too large leads away
    tv_weight, energy = torch.full((3,), 0.1), victims.flatten(1).square().mean(1)
    seen: list[Tensor] = []

    def own_loss(images: Tensor) -> Tensor:
        return (images - victims).flatten(1).square().mean(1) / energy + tv_weight * total_variation(images)

    def head(images: Tensor) -> Tensor:
        seen.append(own_loss(images.detach()))
        return images

    prior = TotalVariation()
    objective = Objective(head, victims, prior, tv_weight, prior.begin(victims, spec))
    found, loss, _ = descend(objective, spec, iterations=3, step=5.0)
    losses = torch.stack(seen)
    assert (losses[-1] > losses.amin(0)).all(), "otherwise this would prove nothing"
    torch.testing.assert_close(loss, losses.amin(0))
    torch.testing.assert_close(own_loss(found), loss)


def test_negative_regularisation_is_refused() -> None:
    with pytest.raises(ValueError, match="weights"):
        make_attack("regularized_inversion", {"weights": [0.1, -0.1]})


def test_a_foreign_shadow_of_series_is_made_of_convolutions() -> None:
    stage = small_stage("ecg", 3, "pool2")
    attack = fast(ForeignShadow)
    attack.prepare(stage.knowledge(), torch.Generator().manual_seed(0))
    seen = stage.observed(smooth_images(4, stage.spec, seed=9))
    attack.reconstruct(Observation(seen))
    kinds = [type(layer) for layer in attack._shadow]
    assert kinds.count(torch.nn.Conv1d) == 6 and kinds.count(torch.nn.MaxPool1d) == 2
    assert torch.nn.Linear not in kinds
