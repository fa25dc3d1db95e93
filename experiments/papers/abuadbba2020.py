"""Heartbeats: what Laplace noise and deeper clients are worth, after Abuadbba et al., ASIA CCS 2020."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from defenses.distance_correlation import distance_correlation
from experiments.metrics.image_similarity import similarity
from experiments.metrics.warping import dynamic_time_warping
from experiments.papers.paper import Cell, Measured, Paper, Plan, Row, Workplace
from experiments.papers.stage import staged
from experiments.papers.trials import by_seed, pooled
from split_models.zoo.ecg import LAYERS

NOISE, DEPTH = "noise", "depth"
BARE = "no noise"

# Accuracy, dCor of the filter that leaks most, DTW of the filter closest to the beat, by ε of their Laplace noise.
BY_EPSILON: dict[str, tuple[float, float, float]] = {
    BARE: (98.44, 0.89, 2.70),
    "ε = 10": (89.20, 0.66, 23.8),
    "ε = 7": (87.34, 0.58, 52.6),
    "ε = 5": (83.65, 0.49, 99.7),
    "ε = 3": (73.78, 0.40, 107),
    "ε = 1": (50.59, 0.33, 338),
}
# Accuracy and that dCor by how many convolutions the client has; between the ends they published a plot.
BY_DEPTH: dict[int, tuple[float, float]] = {2: (98.52, 0.89), 8: (95.07, 0.69)}

ATTACKS = {"white box": "regularized_inversion", "inverse network": "inverse_network"}


class Abuadbba2020(Paper):
    """Every ε, and every depth of the client: their measures of leakage, and what attacks rebuild."""

    name = "abuadbba2020"
    citation = "Abuadbba et al., Can We Use Split Learning on 1D CNN Models for Privacy Preserving Training?, 2020"
    datasets = ("ecg",)
    figures = MappingProxyType(
        {"accuracy %": 1, "top dCor": 2, "top dCor, another's beat": 2, "least DTW": 1}
        | {f"{name} {measure}": digits for name in ATTACKS for measure, digits in (("SSIM", 3), ("DTW", 1))}
    )

    def cells(self, plan: Plan) -> list[Cell]:
        epsilons, depths = ([BARE, "ε = 1"], [3]) if plan.quick else (list(BY_EPSILON), list(LAYERS)[1:])
        return [
            Cell(seed, row, column)
            for seed in plan.seed_numbers
            for column, rows in ((NOISE, epsilons), (DEPTH, list(map(_layers, depths))))
            for row in rows
        ]

    def measure(self, cell: Cell, plan: Plan, place: Workplace) -> Measured:
        stage = staged(_scenario(cell, plan), place)
        beats = stage.prepared.parts["victims"].images
        seen = stage.through(stage.guard, beats, "private inputs")
        found: Measured = {"accuracy %": 100 * stage.accuracy(), **_leaking_filters(beats, seen)}
        for name, attack in ATTACKS.items():
            rebuilt = stage.attacked(attack, _settings(attack, plan), seen, stage.guard, place)
            found[f"{name} SSIM"] = similarity(beats, rebuilt).ssim.tolist()
            found[f"{name} DTW"] = dynamic_time_warping(beats, rebuilt).tolist()
        return found

    def rows(self, plan: Plan, measured: Mapping[Cell, Measured]) -> Sequence[Row]:
        names = tuple(self.figures)
        by_epsilon = [
            Row(
                row, NOISE, dict(zip(self.figures, (accuracy, dcor, None, warping), strict=False)), pooled(cells, names)
            )
            for row, (accuracy, dcor, warping) in BY_EPSILON.items()
            if (cells := by_seed(measured, row, NOISE))
        ]
        by_depth = [
            Row(
                _layers(depth),
                DEPTH,
                dict(zip(self.figures, BY_DEPTH.get(depth, ()), strict=False)),
                pooled(cells, names),
            )
            for depth in LAYERS
            if (cells := by_seed(measured, *((BARE, NOISE) if depth == LAYERS[0] else (_layers(depth), DEPTH))))
        ]
        return by_epsilon + by_depth

    def notes(self, plan: Plan) -> list[str]:
        return [
            "trends, not digits: 500 beats train the network and 200 others test it (theirs: 13,245 and 13,245), of "
            "187 samples that end in zeros instead of 128, of other five classes; 60 epochs instead of 400",
            "noise has the scale (max − min) / ε as theirs, with each sample's own range instead of its batch's, in "
            "training and afterwards: ε is their name for it, it promises no differential privacy",
            "dCor is within a beat, between its samples (averaged to the filter's length) and the filter's; 46 samples "
            "that have nothing to do with each other give about .25, and the beat of another victim gives what stands "
            "beside it, because beats are alike",
            "DTW sums absolute differences, unscaled, so that it grows with the size of activations and noise",
            "attackers know the noise; the inverse network learns from 150 beats",
        ]


def _layers(depth: int) -> str:
    return f"{depth} convolutions"


def _scenario(cell: Cell, plan: Plan) -> dict[str, Any]:
    sizes = {"train": 500, "auxiliary": 150, "validation": 50, "victims": 100, "test": 200}
    quick = {"train": 60, "auxiliary": 20, "validation": 5, "victims": 8, "test": 20}
    defense: dict[str, Any] = {"name": "none"}
    if cell.column == NOISE and cell.row != BARE:
        scale = 1 / float(cell.row.removeprefix("ε = "))
        defense = {"name": "laplace_noise", "scale": scale, "relative": True, "in_training": True}
    return {
        "seed": cell.seed,
        "cuts": ["pool2"],
        "data": {"name": plan.dataset, **(quick if plan.quick else sizes)},
        "model": {"name": f"ecg{cell.row.split()[0]}" if cell.column == DEPTH else "ecg", "epochs": _epochs(plan)},
        "defenses": [defense],
        "attacks": [{"name": name} for name in ATTACKS.values()],
    }


def _epochs(plan: Plan) -> int:
    return 1 if plan.quick else 60


def _settings(attack: str, plan: Plan) -> dict[str, Any]:
    if attack == "regularized_inversion":
        return {"iterations": 10 if plan.quick else 300}
    return {"epochs": _epochs(plan), "width": 16}


def _leaking_filters(beats: Tensor, seen: Tensor) -> Measured:
    """Their two measures for beats (N, 1, L) and what was sent for them (N, filters, M), each of the filter that leaks
    most on average: one figure a victim."""
    coarse = adaptive_avg_pool1d(beats, seen.shape[2])[:, 0]
    dcor = torch.stack([_within(coarse, seen[:, number]) for number in range(seen.shape[1])])
    top = int(dcor.mean(1).argmax())
    warping = [dynamic_time_warping(beats, seen[:, [number]]) for number in range(seen.shape[1])]
    return {
        "top dCor": dcor[top].tolist(),
        "top dCor, another's beat": _within(coarse.roll(1, 0), seen[:, top]).tolist(),
        "least DTW": min(warping, key=lambda column: float(column.mean())).tolist(),
    }


def _within(beats: Tensor, sent: Tensor) -> Tensor:
    """Distance correlation between two series of the same length, sample by sample: (N, M) and (N, M) → (N,)."""
    return torch.stack([distance_correlation(a[:, None], b[:, None]) for a, b in zip(beats, sent, strict=True)])
