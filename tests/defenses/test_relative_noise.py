"""Noise in units of each sample's own range."""

from __future__ import annotations

import pytest
import torch

from defenses import DefenseError, make_defense


def protected(given: torch.Tensor, **settings: object) -> torch.Tensor:
    return make_defense("laplace_noise", {"scale": 0.5, "relative": True, **settings}).protect(
        given, torch.Generator().manual_seed(0)
    )


def test_each_sample_gets_noise_of_its_own_range() -> None:
    given = torch.rand(3, 4, 5000) * torch.tensor([1.0, 100.0, 0.0]).view(3, 1, 1)
    noise = protected(given) - given
    ranges = given.flatten(1).amax(1) - given.flatten(1).amin(1)
    assert noise[:2].flatten(1).std(1) == pytest.approx(2**0.5 * 0.5 * ranges[:2].numpy(), rel=0.05)
    assert (noise[2] == 0).all(), "a constant has no range"


def test_units_do_not_matter() -> None:
    given = torch.rand(2, 6)
    assert torch.allclose(protected(8 * given), 8 * protected(given))


def test_no_gradient_flows_through_the_range() -> None:
    given = torch.rand(2, 6, requires_grad=True)
    protected(given).sum().backward()
    assert given.grad is not None and torch.equal(given.grad, torch.ones(2, 6))


def test_it_is_said_in_words_what_relative_may_be() -> None:
    with pytest.raises(DefenseError, match="relative as true or false"):
        protected(torch.rand(1, 2), relative="yes")
