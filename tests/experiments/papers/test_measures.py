"""The measures that publications use, against values known by other means."""

from __future__ import annotations

import pytest
import torch

from defenses import make_defense
from defenses.distance_correlation import squared_distance_correlation
from experiments.papers import abuadbba2020, titcombe2021
from experiments.papers.paper import Cell, Plan
from split_models.randomness import layers_from
from split_models.tensor_spec import TensorSpec
from split_models.zoo import build


def test_titcombes_target_learns_from_a_softmax_of_a_softmax() -> None:
    spec, images = TensorSpec((1, 28, 28), low=0.0, high=1.0), torch.rand(3, 1, 28, 28)
    name, _ = titcombe2021.LOSSES[titcombe2021.THEIRS]
    with layers_from(torch.Generator().manual_seed(0)):
        theirs = build(name, spec, 10)
    with layers_from(torch.Generator().manual_seed(0)):
        ours = build("titcombe", spec, 10)
    assert torch.allclose(theirs(images), ours(images).softmax(1))


def test_titcombes_nopeek_reads_the_head_before_the_noise() -> None:
    plan = Plan("mnist", seeds=1, quick=True)
    cell = Cell(0, "", titcombe2021.THEIRS)
    (entry,) = titcombe2021._scenario(cell, 0.5, 0.1, plan)["defenses"]
    guard = make_defense("chain", {"parts": entry["parts"]})
    x, z, labels = torch.rand(20, 5), torch.rand(20, 3), torch.zeros(20)
    sent, added = guard.training_pass(x, z, labels, torch.Generator().manual_seed(0))
    assert float(added) == pytest.approx(0.1 * float(squared_distance_correlation(x, z)))
    assert not torch.equal(sent, z)


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
