"""What is special to each defense that learns or limits: the figure it promises, against one known otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from defenses import Defense, DefenseError, FrozenSplit, TrainingPlan, make_defense, put_up
from defenses.distance_correlation import (
    distance_correlation,
    squared_distance_correlation,
    unbiased_distance_correlation,
)
from defenses.during_training.disco import Disco
from defenses.during_training.proxy_adversary import reversed_gradient
from split_models.randomness import layers_from
from split_models.tensor_spec import TensorSpec

IMAGE = TensorSpec((1, 6, 6), low=0.0, high=1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def attached(name: str, settings: dict[str, object], *shape: int) -> Defense:
    defense = make_defense(name, settings)
    with layers_from(generator(3)):
        defense.attach(IMAGE, TensorSpec(shape))
    return defense


def test_top_k_keeps_the_largest_and_as_many_as_it_says() -> None:
    given = normal(5, 4, 5)
    kept = make_defense("top_k_mask", {"rate": 0.75}).protect(given, generator())
    assert ((kept != 0).flatten(1).sum(1) == 5).all()
    for before, after in zip(given.flatten(1), kept.flatten(1), strict=True):
        assert before[after != 0].abs().min() > before[after == 0].abs().max()
    ties = make_defense("top_k_mask", {"rate": 0.5}).protect(torch.ones(2, 8), generator())
    assert (ties.sum(1) == 4).all(), "of equal magnitudes no more than asked for are dropped"


@pytest.mark.parametrize("bits", [1, 4])
def test_quantization_leaves_so_many_levels_and_is_close(bits: int) -> None:
    given = normal(3, 500)
    rounded = make_defense("quantization", {"bits": bits}).protect(given, generator())
    span = given.amax(1) - given.amin(1)
    for row, wide, before in zip(rounded, span, given, strict=True):
        levels = (((row - row.min()) / wide) * (2**bits - 1)).round().unique()
        assert 2 ** (bits - 1) < len(levels) <= 2**bits
        assert float((row - before).abs().max()) <= float(wide) / (2**bits - 1) / 2 + 1e-6


def test_quantization_refuses_more_bits_than_it_can_keep_apart() -> None:
    with pytest.raises(DefenseError, match="quantization: expected bits from 1 to 16, got 17"):
        make_defense("quantization", {"bits": 17})


def test_a_bottleneck_has_the_rank_it_says_and_fits_the_cut() -> None:
    given = normal(50, 4, 5)
    sent = attached("bottleneck", {"rank": 3}, 4, 5).protect(given, generator()).flatten(1)
    assert torch.linalg.matrix_rank(sent, rtol=1e-4) == 3
    with pytest.raises(DefenseError, match="bottleneck: expected a rank below the 20 elements at this cut, got 20"):
        attached("bottleneck", {"rank": 20}, 4, 5)


def test_the_variational_bottleneck_closes_under_its_divergence() -> None:
    labels = torch.arange(600) % 2
    given = normal(600, 6) * 0.5 + labels[:, None] * 2.0 - 1.0
    mid = attached("mid", {"beta": 1.0}, 6)
    images = torch.zeros(600, 1, 6, 6)
    open_at_first = float(
        torch.corrcoef(torch.stack([given[:, 0], mid.protect(given, generator())[:, 0].detach()]))[0, 1]
    )
    before = float(mid.training_loss(images, given, labels, generator()).detach())
    optimizer = torch.optim.Adam(mid.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        divergence = mid.training_loss(images, given, labels, generator())
        divergence.backward()
        optimizer.step()
    with torch.no_grad():
        sent = mid.protect(given, generator())
    assert open_at_first > 0.95
    assert before > 1 > 0.01 > float(divergence.detach()) > 0
    assert abs(torch.corrcoef(torch.stack([given[:, 0], sent[:, 0]]))[0, 1]) < 0.1
    assert float(sent.std()) == pytest.approx(1, abs=0.05)


def test_the_divergence_is_that_of_the_gaussians_it_draws_from() -> None:
    mid, given = attached("mid", {"beta": 1.0}, 4), normal(7, 4)
    code = torch.distributions.Normal(given, torch.full_like(given, float(torch.tensor(-2.0).exp())))
    expected = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    got = mid.training_loss(torch.zeros(7, 1, 6, 6), given, torch.zeros(7), generator())
    assert float(got.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_a_reversed_gradient_trains_two_ways_at_once() -> None:
    given = torch.tensor([2.0], requires_grad=True)
    behind = torch.tensor([3.0], requires_grad=True)
    (reversed_gradient(given, 0.5) * behind).sum().backward()
    assert behind.grad == 2.0
    assert given.grad == -1.5


@pytest.mark.parametrize(("learner", "error_rises"), [("head", True), ("decoder", False)])
def test_adversarial_training_sets_head_and_decoder_against_each_other(learner: str, error_rises: bool) -> None:
    images, labels = torch.rand(32, 1, 6, 6, generator=generator(2)), torch.zeros(32)
    defense = attached("adversarial_training", {"weight": 5.0, "width": 8}, 8)
    with layers_from(generator(4)):
        head = nn.Sequential(nn.Flatten(), nn.Linear(36, 8))
    parameters = head.parameters() if learner == "head" else defense.parameters()
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    errors = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = defense.training_loss(images, head(images), labels, generator())
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert (errors[-1] > errors[0]) == error_rises
    assert errors == sorted(errors, reverse=not error_rises)


def test_disco_prunes_whole_channels_and_teaches_only_the_pruner_with_its_adversary() -> None:
    disco, given = attached("disco", {"rate": 0.4}, 5, 3, 3), normal(9, 5, 3, 3).requires_grad_()
    assert isinstance(disco, Disco)
    images, labels = torch.rand(9, 1, 6, 6, generator=generator()), torch.arange(9) % 3
    with torch.no_grad():
        sent = disco.protect(given, generator())
    gone = (sent == 0).all(dim=(2, 3))
    assert (gone.sum(1) == 2).all()
    assert torch.equal(sent[~gone], given.detach()[~gone])
    disco.training_loss(images, given, labels, generator()).backward()
    assert given.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in disco.parameters())


def test_cem_is_the_logarithm_of_signal_to_noise_within_classes() -> None:
    labels = torch.arange(4000) % 2
    spread = torch.tensor([0.5, 2.0])[labels][:, None]
    given = normal(4000, 3) * spread + labels[:, None] * 100.0  # how far the classes are apart tells nothing
    cem = make_defense("cem", {"sigma": 0.5, "weight": 2.0})
    expected = 2.0 * (0.5 * torch.log1p(torch.tensor([1.0, 16.0])) / 2).sum()
    got = cem.training_loss(torch.zeros(4000, 1), given, labels, generator())
    assert float(got) == pytest.approx(float(expected), rel=0.03)
    with pytest.raises(DefenseError, match="cem: expected sigma above 0"):
        make_defense("cem", {"sigma": 0, "weight": 1.0})


def test_fisher_noise_meets_its_bound_on_a_linear_head() -> None:
    matrix = normal(50, 36) / 3
    images = torch.rand(90, 1, 6, 6, generator=generator(2))
    frozen = FrozenSplit(lambda x: x.flatten(1) @ matrix.T, lambda a: a, images, torch.zeros(90))
    defense = make_defense("fisher_noise", {"mse": 0.05, "probes": 40})
    defense.fit(frozen, generator(), lambda fraction: None)
    exact = (0.05 * float(matrix.square().sum()) / 36) ** 0.5
    assert float(defense.state()["sigma"]) == pytest.approx(exact, rel=0.05)
    # The best unbiased attacker, least squares, cannot beat the bound.
    seen = defense.protect(frozen.head(images), generator(5))
    found = torch.linalg.lstsq(matrix, seen.T).solution.T
    assert float(mse_loss(found, images.flatten(1))) > 0.05
    again = put_up("fisher_noise", defense.settings, IMAGE, TensorSpec((50,)), defense.state())
    assert torch.equal(again.protect(frozen.head(images), generator(5)), seen)


def test_nopeek_rises_to_its_weight_over_the_warm_up() -> None:
    nopeek, images, given = make_defense("nopeek", {"weight": 2.0, "warmup": 0.5}), normal(8, 6), normal(8, 3, seed=2)
    full = 2.0 * float(distance_correlation(images, given))
    shares = []
    with nopeek.around_training(nn.Identity(), TrainingPlan(16, 2, 1), generator()) as before_step:
        for _ in range(8):
            shares.append(float(nopeek.training_loss(images, given, torch.zeros(8), generator())) / full)
            before_step()
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1], abs=1e-5)
    assert float(nopeek.training_loss(images, given, torch.zeros(8), generator())) == pytest.approx(full)


def test_nopeek_falls_back_over_the_cool_down() -> None:
    nopeek = make_defense("nopeek", {"weight": 2.0, "warmup": 0.25, "cooldown": 0.5})
    images, given = normal(8, 6), normal(8, 3, seed=2)
    full, shares = 2.0 * float(distance_correlation(images, given)), []
    with nopeek.around_training(nn.Identity(), TrainingPlan(16, 2, 1), generator()) as before_step:
        for _ in range(8):
            shares.append(float(nopeek.training_loss(images, given, torch.zeros(8), generator())) / full)
            before_step()
    assert shares == pytest.approx([0, 0.5, 1, 1, 1, 0.75, 0.5, 0.25], abs=1e-5)


def test_nopeek_takes_the_unbiased_form() -> None:
    nopeek, images = make_defense("nopeek", {"weight": 3.0, "form": "unbiased"}), normal(40, 6)
    given = images[:, :3] + 0.3 * normal(40, 3, seed=2)
    loss = float(nopeek.training_loss(images, given, torch.zeros(40), generator()))
    assert loss == pytest.approx(3 * float(unbiased_distance_correlation(images, given)))
    assert nopeek.training_loss(images[:3], given[:3], torch.zeros(3), generator()) == 0


def test_nopeek_takes_squared_distances() -> None:
    nopeek = make_defense("nopeek", {"weight": 3.0, "form": "squared"})
    images, given = normal(8, 6), normal(8, 3, seed=2)
    loss = float(nopeek.training_loss(images, given, torch.zeros(8), generator()))
    assert loss == pytest.approx(3 * float(squared_distance_correlation(images, given)))
    assert loss != pytest.approx(3 * float(distance_correlation(images, given)), rel=0.01)
    with pytest.raises(DefenseError, match="nopeek: expected form as one of biased, unbiased, squared, got 'euclid'"):
        make_defense("nopeek", {"weight": 3.0, "form": "euclid"})


def test_distance_correlation_never_holds_a_cube() -> None:
    samples, features = 48, 2000
    x, z = normal(samples, features), normal(samples, features, seed=2).requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        distance_correlation(x, z).backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert samples * features * 4 <= largest < 4 * samples * features * 4, "a gradient, and no N×N×D tensor"
