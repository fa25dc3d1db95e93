"""DP-SGD's gradients against a slow reference, and what its accountant says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from defenses import DefenseError, TrainingPlan, make_defense
from experiments.scenario import ScenarioError, check_against_data, read_scenario
from split_models.randomness import layers_from
from split_models.tensor_spec import TensorSpec


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def halves() -> tuple[nn.Sequential, nn.Sequential]:
    with layers_from(generator()):
        head = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten())
        return head, nn.Sequential(nn.Linear(32, 3))


IMAGES, LABELS = torch.rand(8, 1, 6, 6, generator=generator(1)), torch.arange(8) % 3
PLAN = TrainingPlan(samples=64, batch_size=8, epochs=3)


def private_gradients(noise: float, clip: float) -> list[Tensor]:
    """The head's gradients of one batch as the optimiser would get them."""
    head, tail = halves()
    with make_defense("dp_sgd", {"noise": noise, "clip": clip}).around_training(head, PLAN, generator(2)) as before:
        for _ in range(2):  # a second batch must not see the first one's gradients
            head.zero_grad()
            cross_entropy(tail(head(IMAGES)), LABELS).backward()
            before()
    assert not any(hasattr(p, "grad_sample") for p in head.parameters()), "nothing of Opacus stays on the network"
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in head)
    return [p.grad for p in head.parameters() if p.grad is not None]


@pytest.mark.parametrize("clip", [0.01, 100.0])
def test_each_sample_is_clipped_by_itself(clip: float) -> None:
    head, tail = halves()
    total = [torch.zeros_like(p) for p in head.parameters()]
    for image, label in zip(IMAGES, LABELS, strict=True):
        head.zero_grad()
        cross_entropy(tail(head(image[None])), label[None]).backward()
        own = [p.grad for p in head.parameters() if p.grad is not None]
        factor = min(1.0, clip / float(torch.cat([g.flatten() for g in own]).norm()))
        total = [t + factor * g for t, g in zip(total, own, strict=True)]
    for expected, got in zip(total, private_gradients(0.0, clip), strict=True):
        assert torch.allclose(expected / len(IMAGES), got, atol=1e-6)


def test_noise_is_as_large_as_promised() -> None:
    clean, noisy = (torch.cat([g.flatten() for g in private_gradients(n, 3.0)]) for n in (0.0, 50.0))
    assert float((noisy - clean).std()) == pytest.approx(50 * 3.0 / len(IMAGES), rel=0.4)


def test_the_price_in_epsilon_is_reported_and_falls_with_noise() -> None:
    spent = {}
    for noise in (0.0, 1.0, 4.0):
        defense, (head, tail) = make_defense("dp_sgd", {"noise": noise}), halves()
        with defense.around_training(head, PLAN, generator()) as before_step:
            for _ in range(PLAN.steps):
                cross_entropy(tail(head(IMAGES)), LABELS).backward()
                before_step()
        spent[noise] = defense.notes["epsilon"]
    assert spent[0.0] is None, "clipping alone promises nothing"
    # One step without subsampling and noise 4 costs about 1.2 at δ = 1e-5, so 24 of an eighth cost between that and 3.
    assert 0.5 < spent[4.0] < 3 < spent[1.0] < 30


def test_a_head_that_mixes_samples_is_refused() -> None:
    head = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with (
        pytest.raises(DefenseError, match="dp_sgd: the head does not keep samples apart"),
        make_defense("dp_sgd", {"noise": 1.0}).around_training(head, PLAN, generator()),
    ):
        pass


def test_it_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ncuts = ["block11.relu2"]\n[model]\nname = "resnet18"\n[[attacks]]\nname = "shadow_model"\n'
        '[[defenses]]\nname = "chain"\nparts = [{name = "dp_sgd", noise = 1.0}]\n'
    )
    with pytest.raises(
        ScenarioError, match=r"at block11\.relu2: chain, part 1: dp_sgd: the head does not keep samples"
    ):
        check_against_data(read_scenario(str(path)), TensorSpec((3, 32, 32), low=0.0, high=1.0), 10)


def test_a_chain_with_losses_over_whole_batches_is_refused() -> None:
    with pytest.raises(DefenseError, match=r"chain: dp_sgd .*nopeek"):
        make_defense("chain", {"parts": [{"name": "dp_sgd", "noise": 1.0}, {"name": "nopeek", "weight": 1.0}]})
