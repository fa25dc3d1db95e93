"""Noise and NoPeek at Titcombe et al.'s cut, with their loss, and the attack on what was really on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from defenses import Defense, make_defense
from defenses.distance_correlation import squared_distance_correlation, unbiased_distance_correlation
from experiments.metrics.image_similarity import similarity
from experiments.papers.paper import Cell, Measured, Paper, Plan, Row, Workplace
from experiments.papers.stage import Stage, staged
from experiments.papers.trials import by_seed, pooled
from split_models.tensor_spec import TensorSpec
from split_models.training import predict
from split_models.zoo.titcombe import titcombe

WIRE, BEFORE, POST = "on the wire", "before the noise", "noise after training"
THEIRS, FULL, LOGITS, TRUE = "their loss", "their loss, their steps", "logits", "logits, true distances"

FIGURES = {
    "accuracy %": 1,
    "dCor(x,z) squared": 3,
    "dCor²(x,z) unbiased": 3,
    "attack dCor(x,x̂) squared": 3,
    "read off x̂ %": 1,
    "SSIM": 3,
}

# The network that is trained, and the form of its NoPeek.
LOSSES = {
    THEIRS: ("experiments.papers.titcombe2021:ending_in_softmax", "squared"),
    FULL: ("experiments.papers.titcombe2021:ending_in_softmax", "squared"),
    LOGITS: ("titcombe", "squared"),
    TRUE: ("titcombe", "biased"),
}

# By scale of the Laplace noise and weight of NoPeek: accuracy, dCor(x, z); the attack's dCor(x, x̂), what a classifier
# reads off x̂. Their dCor takes squared distances; their attack reads what the head computes, before the noise.
GRID: dict[tuple[float, float], tuple[float, ...]] = {
    (0.0, 0.0): (98.08, 0.815),
    (0.5, 0.0): (98.24, 0.795, 0.939, 95.74),
    (1.0, 0.0): (97.64, 0.781, 0.928, 95.14),
    (0.0, 0.1): (98.04, 0.472, 0.828, 95.20),
    (0.5, 0.1): (97.52, 0.525),
    (1.0, 0.1): (97.54, 0.575),
    (0.0, 0.5): (97.80, 0.389, 0.748, 96.66),
    (0.5, 0.5): (97.38, 0.437),
    (1.0, 0.5): (96.78, 0.452),
}
# Accuracy under noise that the network was not trained with, by weight of NoPeek and scale.
AFTERWARDS: dict[float, dict[float, float]] = {
    0.0: {0.5: 97.90, 1.0: 97.24, 1.5: 95.98, 2.0: 92.38},
    0.1: {0.5: 96.96, 1.0: 88.88, 1.5: 72.04, 2.0: 57.16},
    0.5: {0.5: 94.00, 1.0: 66.88, 1.5: 45.20, 2.0: 33.82},
}
POINTS = {
    THEIRS: list(GRID),
    FULL: [(scale, weight) for scale, weight in GRID if weight],
    LOGITS: [(0.0, 0.0), (0.0, 0.5)],
    TRUE: [(0.0, 0.5)],
}
"""What is measured with each loss: scales and weights."""


def ending_in_softmax(input_spec: TensorSpec, classes: int) -> nn.Module:
    """Their network as they trained it: its answers are probabilities, and cross-entropy takes them for logits."""
    network = titcombe(input_spec, classes)
    network.add_module("softmax", nn.Softmax(dim=1))
    return network


class Titcombe2021(Paper):
    """Networks trained with noise, with NoPeek and with both; attacked where they were, and on the wire."""

    name = "titcombe2021"
    citation = (
        "Titcombe, Hall, Papadopoulos and Romanini, Practical Defences Against Model Inversion Attacks for Split "
        "Neural Networks, 2021"
    )
    figures = MappingProxyType(FIGURES)

    def cells(self, plan: Plan) -> list[Cell]:
        points = {THEIRS: [(0.0, 0.0), (0.5, 0.0), (0.5, 0.1)]} if plan.quick else POINTS
        return [
            Cell(seed, _named(*point), loss) for seed in plan.seed_numbers for loss in points for point in points[loss]
        ]

    def measure(self, cell: Cell, plan: Plan, place: Workplace) -> Measured:
        scale, weight = next(point for point in GRID if _named(*point) == cell.row)
        stage = staged(_scenario(cell, scale, weight, plan), place)
        found = {WIRE: _looked_at(stage, stage.guard, weight, plan, place, attack=True)}
        if scale:
            # Attacked there only where they published that, which saves a third of the time.
            found[BEFORE] = _looked_at(stage, make_defense("none"), weight, plan, place, attack=not weight)
        else:
            noises = {scale: _noise(scale) for scale in AFTERWARDS[weight]}
            found[POST] = {str(scale): 100 * stage.accuracy(noise) for scale, noise in noises.items()}
        found[WIRE]["accuracy %"] = 100 * stage.accuracy()
        return found

    def rows(self, plan: Plan, measured: Mapping[Cell, Measured]) -> Sequence[Row]:
        found = {
            (loss, point): cells
            for loss, points in POINTS.items()
            for point in points
            if (cells := by_seed(measured, _named(*point), loss))
        }
        rows = [
            Row(
                row=_named(scale, weight),
                column=_with(loss, place),
                published=_published(GRID[scale, weight], place, scale) if loss in (THEIRS, FULL) else {},
                measured=pooled([cell[place] for cell in cells], [f for f in FIGURES if f in cells[0][place]]),
            )
            for place in (WIRE, BEFORE)
            for (loss, (scale, weight)), cells in found.items()
            if place in cells[0]
        ]
        return rows + [
            Row(
                row=_named(scale, weight),
                column=_with(loss, POST),
                published={"accuracy %": accuracy} if loss in (THEIRS, FULL) else {},
                measured=pooled([{"accuracy %": cell[POST][str(scale)]} for cell in cells], ["accuracy %"]),
            )
            for (loss, (trained, weight)), cells in found.items()
            if not trained
            for scale, accuracy in AFTERWARDS[weight].items()
        ]

    def notes(self, plan: Plan) -> list[str]:
        return [
            "unless a row says otherwise, the loss is theirs: the network ends in a softmax, of which cross-entropy "
            "takes another, so it is at least 1.46 and pulls little; NoPeek takes squared distances, before the noise",
            "'their steps': 12,500 on 40,000 images at 1e-4, as theirs under NoPeek, but annealed to 0; other rows are "
            "of a smaller size",
            "'logits': cross-entropy of logits, as it is meant; 'true distances': NoPeek as it was published",
            "the smaller size: the target takes 2,000 steps on 16,000 images at a learning rate of 1e-3 annealed to 0 "
            "(theirs: 12,500 on 40,000 at 1e-4), in batches of 32 with and without NoPeek (theirs: 128 without), at "
            "some of their 23 points; accuracy on 5,000 test images",
            "'squared' figures are the statistic that theirs computes, from squared distances in batches as theirs: 32 "
            "under NoPeek, 128 without, 256 for the attack; it is far above 0 for pure noise of 500 features, the "
            "unbiased one beside it, from true distances, is not",
            "the attacker learns from 5,000 images, as theirs, with a decoder of 16 channels, not 64; 256 victims; "
            "what is read off x̂ is read by a classifier that learnt from the target's training images",
            "'before the noise' attacks what their pipeline attacked: no server ever sees that",
            "'noise after training': the network was trained without the noise that it then sends",
        ]


def _with(loss: str, place: str) -> str:
    return place if loss == THEIRS else f"{place}, {loss}"


def _named(scale: float, weight: float) -> str:
    return f"noise {scale:g}, NoPeek {weight:g}"


def _published(figures: tuple[float, ...], place: str, scale: float) -> dict[str, float | None]:
    """Their accuracy is through the noise, all else before it."""
    accuracy, *others = figures
    names = ("dCor(x,z) squared", "attack dCor(x,x̂) squared", "read off x̂ %")
    before = dict(zip(names, others, strict=False))
    if not scale:
        return {"accuracy %": accuracy, **before}
    return {"accuracy %": accuracy} if place == WIRE else {**before}


def _noise(scale: float, in_training: bool = False) -> Defense:
    return make_defense("laplace_noise", {"scale": scale, "in_training": in_training})


def _scenario(cell: Cell, scale: float, weight: float, plan: Plan) -> dict[str, Any]:
    network, form = LOSSES[cell.column]
    # A chain's parts get what those before them have made: their NoPeek reads the head, before the noise.
    parts = [{"name": "nopeek", "weight": weight, "form": form}] if weight else []
    parts += [{"name": "laplace_noise", "scale": scale, "in_training": True}] if scale else []
    full = cell.column == FULL
    sizes = {"train": 40_000 if full else 16_000, "auxiliary": 5000, "validation": 100, "victims": 256, "test": 5000}
    quick = {"train": 200, "auxiliary": 40, "validation": 10, "victims": 10, "test": 50}
    return {
        "seed": cell.seed,
        "cuts": ["tanh"],
        "data": {"name": plan.dataset, **(quick if plan.quick else sizes)},
        "model": {
            "name": network,
            "epochs": 1 if plan.quick else 10 if full else 4,
            "batch_size": 32,
            "learning_rate": 1e-4 if full else 1e-3,
        },
        "defenses": [{"name": "chain", "parts": parts} if parts else {"name": "none"}],
        "attacks": [{"name": "inverse_network"}],
    }


def _looked_at(stage: Stage, guard: Defense, weight: float, plan: Plan, place: Workplace, attack: bool) -> Measured:
    """What `guard` lets through of the victims, and what an inverse network that learns there makes of it."""
    victims = stage.prepared.parts["victims"]
    seen = stage.through(guard, victims.images, "private inputs")
    found: Measured = {
        "dCor(x,z) squared": _squared(victims.images, seen, 32 if weight else 128),
        "dCor²(x,z) unbiased": float(unbiased_distance_correlation(victims.images, seen)),
    }
    if attack:
        settings = {"epochs": 1 if plan.quick else 10, "width": 8 if plan.quick else 16}
        rebuilt = stage.attacked("inverse_network", settings, seen, guard, place)
        read = predict(stage.prepared.evaluator, rebuilt) == victims.labels
        found["attack dCor(x,x̂) squared"] = _squared(victims.images, rebuilt, 256)
        found["read off x̂ %"] = (100 * read.double()).tolist()
        found["SSIM"] = similarity(victims.images, rebuilt).ssim.tolist()
    return found


def _squared(first: Tensor, second: Tensor, batch: int) -> float:
    """Their distance correlation, of squared distances: the mean over batches."""
    pairs = zip(first.double().split(batch), second.double().split(batch), strict=True)
    return float(torch.stack([squared_distance_correlation(*pair) for pair in pairs]).mean())
