"""The measures that publications use, against values known by other means."""

from __future__ import annotations

import pytest
import torch

from experiments.papers import abuadbba2020, titcombe2021


def test_distance_correlation_of_squared_distances_is_that_of_the_plain_definition() -> None:
    x, z = torch.randn(20, 5, dtype=torch.double), torch.randn(20, 3, dtype=torch.double)
    z[:, 0] += x[:, 0]

    def centred(batch: torch.Tensor) -> torch.Tensor:
        squares = (batch[:, None] - batch[None]).square().sum(2)
        return squares - squares.mean(0) - squares.mean(1, keepdim=True) + squares.mean()

    a, b = centred(x), centred(z)
    expected = ((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt()).sqrt()
    assert titcombe2021._squared(x, z) == pytest.approx(float(expected))


def test_the_filter_that_is_the_beat_is_found_among_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    beats = torch.rand(6, 1, 92, generator=generator)
    sent = torch.rand(6, 4, 46, generator=generator)
    sent[:, 2] = beats.unflatten(2, (46, 2)).mean(3)[:, 0]
    found = abuadbba2020._leaking_filters(beats, sent)
    assert found["top dCor"] == pytest.approx([1.0] * 6)
    others = torch.tensor(found["top dCor, another's beat"])
    assert 0.15 < others.mean() < 0.35, "of 46 independent samples, as the notes say"
    alone = abuadbba2020._leaking_filters(beats, sent[:, [2]])
    assert found["least DTW"] == alone["least DTW"]
