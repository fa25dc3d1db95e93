"""Privacy that is promised is kept: the calibration against the definition, the sensitivity enforced."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from defenses import DefenseError, make_defense
from defenses.on_activations.mechanisms import analytic_gaussian_sigma


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("delta", [1e-7, 1e-5, 0.1])
def test_the_gaussian_is_just_private_enough(epsilon: float, delta: float) -> None:
    def reached(sigma: float) -> float:
        """The δ of N(0, σ²) against N(1, σ²): the mass by which one exceeds e^ε of the other, by integration."""
        point = epsilon * sigma**2 + 0.5  # where the likelihood ratio is e^ε
        return float(norm.sf((point - 1) / sigma) - math.exp(epsilon) * norm.sf(point / sigma))

    sigma = analytic_gaussian_sigma(epsilon, delta)
    assert reached(sigma) == pytest.approx(delta, rel=1e-3)
    assert reached(sigma * 0.99) > delta


def test_it_needs_less_noise_than_the_classical_calibration() -> None:
    assert analytic_gaussian_sigma(0.9, 1e-5) < math.sqrt(2 * math.log(1.25 / 1e-5)) / 0.9


@pytest.mark.parametrize(
    "name, settings, order", [("gaussian_mechanism", {"delta": 1e-5}, 2), ("laplace_mechanism", {}, 1)]
)
def test_the_sensitivity_is_enforced(name: str, settings: dict[str, float], order: int) -> None:
    defense = make_defense(name, {"epsilon": 1.0, "clip": 2.0, **settings})
    given = torch.stack([torch.full((3, 4), 100.0), torch.full((3, 4), 0.01)])
    # The same draws twice: what differs is what the noise was added to.
    clipped = defense.protect(given, torch.Generator().manual_seed(0)) - defense.protect(
        torch.zeros(2, 3, 4), torch.Generator().manual_seed(0)
    )
    assert float(clipped[0].norm(p=order)) == pytest.approx(2.0, rel=1e-3)
    assert torch.allclose(clipped[1], given[1], atol=1e-4), "a short activation stays as it is"


@pytest.mark.parametrize("name, order", [("gaussian_mechanism", 2), ("laplace_mechanism", 1)])
def test_an_image_is_clipped_where_inputs_are_private(name: str, order: int) -> None:
    settings = {"epsilon": 1e9, "clip": 2.0, "where": "input", **({"delta": 1e-5} if order == 2 else {})}
    sent = make_defense(name, settings).protect_inputs(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0))
    assert float(sent[0].norm(p=order)) == pytest.approx(2.0, rel=1e-2)


def test_the_laplace_scale_is_twice_the_clip_over_epsilon() -> None:
    defense = make_defense("laplace_mechanism", {"epsilon": 0.5, "clip": 3.0})
    noise = defense.protect(torch.zeros(200, 500), torch.Generator().manual_seed(0))
    assert float(noise.abs().mean()) == pytest.approx(2 * 3.0 / 0.5, rel=0.02)


@pytest.mark.parametrize(
    "name, settings, complaint",
    [
        ("gaussian_mechanism", {"epsilon": 0, "delta": 1e-5, "clip": 1.0}, "epsilon above 0"),
        ("gaussian_mechanism", {"epsilon": 1, "delta": 1.0, "clip": 1.0}, "delta above 0 and below 1"),
        ("gaussian_mechanism", {"epsilon": 1, "delta": 1e-5, "clip": -1.0}, "clip above 0"),
        ("laplace_mechanism", {"epsilon": -2, "clip": 1.0}, "epsilon above 0"),
        ("gaussian_noise", {"sigma": 1, "where": "output"}, "where as one of activation, input, got 'output'"),
        ("gaussian_noise", {"sigma": 1, "in_training": 1}, "in_training as true or false"),
        ("shredder", {"inverse_snr": 1, "masks": 0}, "masks as a whole number of at least 1"),
        ("shredder", {"inverse_snr": 1, "draw": "same"}, "draw as one of ordered"),
    ],
)
def test_wrong_settings_are_named(name: str, settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(DefenseError, match=f"{name}: expected {complaint}"):
        make_defense(name, settings)
