"""Noise and NoPeek at Titcombe et al.'s cut, and the attack on what was really on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from defenses import Defense, make_defense
from defenses.distance_correlation import unbiased_distance_correlation
from experiments.metrics.image_similarity import similarity
from experiments.papers.paper import Cell, Measured, Paper, Plan, Row, Workplace
from experiments.papers.stage import Stage, staged
from experiments.papers.trials import by_seed, pooled
from split_models.training import predict

WIRE, BEFORE, POST = "on the wire", "before the noise", "noise after training"

FIGURES = {
    "accuracy %": 1,
    "dCor(x,z) squared": 3,
    "dCor²(x,z) unbiased": 3,
    "attack dCor(x,x̂) squared": 3,
    "read off x̂ %": 1,
    "SSIM": 3,
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


class Titcombe2021(Paper):
    """Networks trained with noise, with NoPeek and with both; attacked where they were, and on the wire."""

    name = "titcombe2021"
    citation = (
        "Titcombe, Hall, Papadopoulos and Romanini, Practical Defences Against Model Inversion Attacks for Split "
        "Neural Networks, 2021"
    )
    figures = MappingProxyType(FIGURES)

    def cells(self, plan: Plan) -> list[Cell]:
        grid = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.1)] if plan.quick else list(GRID)
        return [Cell(seed, _named(*point), "grid") for seed in plan.seed_numbers for point in grid]

    def measure(self, cell: Cell, plan: Plan, place: Workplace) -> Measured:
        scale, weight = next(point for point in GRID if _named(*point) == cell.row)
        stage = staged(_scenario(cell.seed, scale, weight, plan), place)
        found = {WIRE: _looked_at(stage, stage.guard, plan, place, attack=True)}
        if scale:
            # Attacked there only where they published that, which saves a third of the time.
            found[BEFORE] = _looked_at(stage, make_defense("none"), plan, place, attack=not weight)
        else:
            noises = {scale: _noise(scale) for scale in AFTERWARDS[weight]}
            found[POST] = {str(scale): 100 * stage.accuracy(noise) for scale, noise in noises.items()}
        found[WIRE]["accuracy %"] = 100 * stage.accuracy()
        return found

    def rows(self, plan: Plan, measured: Mapping[Cell, Measured]) -> Sequence[Row]:
        found = {point: by_seed(measured, _named(*point), "grid") for point in GRID}
        rows = [
            Row(
                row=_named(scale, weight),
                column=place,
                published=_published(GRID[scale, weight], place, scale),
                measured=pooled([cell[place] for cell in cells], [f for f in FIGURES if f in cells[0][place]]),
            )
            for place in (WIRE, BEFORE)
            for (scale, weight), cells in found.items()
            if cells and place in cells[0]
        ]
        return rows + [
            Row(
                row=_named(scale, weight),
                column=POST,
                published={"accuracy %": accuracy},
                measured=pooled([{"accuracy %": cell[POST][str(scale)]} for cell in cells], ["accuracy %"]),
            )
            for weight, published in AFTERWARDS.items()
            for scale, accuracy in published.items()
            if (cells := found[0.0, weight])
        ]

    def notes(self, plan: Plan) -> list[str]:
        return [
            "a smaller size: the target is trained on 5,000 images for 3 epochs (theirs: 40,000 for 10) at a learning "
            "rate of 1e-3 annealed to 0, in batches of 32; 9 of their 23 points; accuracy on 5,000 test images",
            "their loss takes a softmax of softmax outputs; ours is cross-entropy of logits",
            "NoPeek acts on what the noise has left, as their figures suggest: true Euclidean distances in the loss; "
            "'squared' figures are the statistic that theirs computes, from squared distances, in groups of 100: it is "
            "far above 0 for pure noise of 500 features, the unbiased one beside it is not",
            "the attacker learns from 2,500 images with a decoder of 16 channels instead of 64, and is judged on 200 "
            "victims; what is read off x̂ is read by a classifier that learnt from the target's training images",
            "'before the noise' attacks what their pipeline attacked: no server ever sees that",
            "'noise after training': the network was trained without the noise that it then sends",
        ]


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


def _scenario(seed: int, scale: float, weight: float, plan: Plan) -> dict[str, Any]:
    parts = [{"name": "laplace_noise", "scale": scale, "in_training": True}] if scale else []
    parts += [{"name": "nopeek", "weight": weight}] if weight else []
    sizes = {"train": 5000, "auxiliary": 2500, "validation": 100, "victims": 200, "test": 5000}
    quick = {"train": 200, "auxiliary": 40, "validation": 10, "victims": 10, "test": 50}
    return {
        "seed": seed,
        "cuts": ["tanh"],
        "data": {"name": plan.dataset, **(quick if plan.quick else sizes)},
        "model": {
            "name": "titcombe",
            "epochs": 1 if plan.quick else 3,
            "batch_size": 32,
            "learning_rate": 1e-3,
        },
        "defenses": [{"name": "chain", "parts": parts} if parts else {"name": "none"}],
        "attacks": [{"name": "inverse_network"}],
    }


def _looked_at(stage: Stage, guard: Defense, plan: Plan, place: Workplace, attack: bool) -> Measured:
    """What `guard` lets through of the victims, and what an inverse network that learns there makes of it."""
    victims = stage.prepared.parts["victims"]
    seen = stage.through(guard, victims.images, "private inputs")
    found: Measured = {
        "dCor(x,z) squared": _squared(victims.images, seen),
        "dCor²(x,z) unbiased": float(unbiased_distance_correlation(victims.images, seen)),
    }
    if attack:
        settings = {"epochs": 1 if plan.quick else 10, "width": 8 if plan.quick else 16}
        rebuilt = stage.attacked("inverse_network", settings, seen, guard, place)
        read = predict(stage.prepared.evaluator, rebuilt) == victims.labels
        found["attack dCor(x,x̂) squared"] = _squared(victims.images, rebuilt)
        found["read off x̂ %"] = (100 * read.double()).tolist()
        found["SSIM"] = similarity(victims.images, rebuilt).ssim.tolist()
    return found


def _squared(first: Tensor, second: Tensor) -> float:
    """Their distance correlation: of squared Euclidean distances, which makes it one of inner products alone; the
    mean over groups of 100."""
    pairs = zip(first.flatten(1).split(100), second.flatten(1).split(100), strict=True)
    return float(torch.stack([_of_products(a.double(), b.double()) for a, b in pairs]).mean())


def _of_products(first: Tensor, second: Tensor) -> Tensor:
    # Double-centred squared distances are −2 times the inner products of centred vectors.
    a, b = (centred @ centred.T for centred in (first - first.mean(0), second - second.mean(0)))
    return ((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt().clamp_min(1e-12)).clamp_min(0).sqrt()
