"""How much of He et al. 2019 is computed: images, epochs, and how long each attack may learn."""

from __future__ import annotations

from typing import Any

from experiments.papers.paper import Plan


def sizes(plan: Plan) -> dict[str, int]:
    """Images in each part of the data."""
    if plan.quick:
        return {"train": 500, "auxiliary": 60, "validation": 20, "victims": 4, "test": 200}
    learnt_from = {"mnist": {"train": 50_000, "auxiliary": 5000}, "cifar10": {"train": 20_000, "auxiliary": 4000}}
    return {**learnt_from[plan.dataset], "validation": 200, "victims": 100, "test": 9000}


def training(plan: Plan) -> dict[str, float]:
    """How the target is trained; sigmoid units behind six convolutions want shorter steps."""
    ways: dict[str, dict[str, float]] = {"mnist": {"epochs": 8}, "cifar10": {"epochs": 5, "learning_rate": 1e-3}}
    return {**ways[plan.dataset], "epochs": 1} if plan.quick else ways[plan.dataset]


def settings(attack: str, cut: str, plan: Plan) -> dict[str, Any]:
    """What differs from an attack's defaults: how long it may learn, and search."""
    chosen = _on_cifar if plan.dataset == "cifar10" else _on_mnist
    return {**chosen("conv" in cut).get(attack, {}), **(_QUICK[attack] if plan.quick else {})}


FILTER_ALONE = {"epochs": 15, "learning_rate": 5e-3, "capacities": ("linear",)}
"""The inverse network at a convolution, as published there."""


def _on_mnist(at_a_convolution: bool) -> dict[str, dict[str, Any]]:
    shadow = {"epochs": 4, "alignment_epochs": 6, "restarts": 1, "iterations": 300}
    patient = {**shadow, "alignment_epochs": 20, "learning_rate": 6e-3, "restarts": 3}
    decoder = {"epochs": 8, "width": 16, "capacities": ("linear", "plain") if at_a_convolution else ("plain",)}
    return {
        "inverse_network": FILTER_ALONE if at_a_convolution else decoder,
        "random_queries": decoder,
        "aligned_shadow": patient if at_a_convolution else shadow,
        "foreign_shadow": shadow,
        "model_reconstruction": {"epochs": 10},
    }


def _on_cifar(at_a_convolution: bool) -> dict[str, dict[str, Any]]:
    searched = {
        "iterations": 300,
        "weights": (0.03, 0.3, 1.0, 3.0) if at_a_convolution else (0.3, 1.0, 3.0),
        "priors": ("total_variation", "pyramid") if at_a_convolution else ("learned",),
    }
    # At a convolution the filter is told without any of this.
    shadow = {"epochs": 1, "alignment_epochs": 4, "restarts": 2, "committee": True, "decoder_epochs": 4}
    cheaper = {**shadow, "epochs": 2, "alignment_epochs": 5, "learning_rate": 3e-3, "decoder_epochs": 3}
    decoder = {"epochs": 12, "width": 32, "capacities": ("linear",) if at_a_convolution else ("plain",)}
    return {
        "regularized_inversion": searched,
        "inverse_network": FILTER_ALONE if at_a_convolution else {**decoder, "capacities": ("residual",)},
        "random_queries": decoder,
        "aligned_shadow": shadow,
        "foreign_shadow": cheaper,
        "model_reconstruction": {"epochs": 8, "learning_rate": 5e-3 if at_a_convolution else 1e-3, **searched},
    }


_SHADOW = {"iterations": 20, "epochs": 1, "alignment_epochs": 1, "restarts": 2, "decoder_epochs": 1}
_QUICK: dict[str, dict[str, Any]] = {
    "regularized_inversion": {"iterations": 20},
    "model_reconstruction": {"iterations": 20, "epochs": 1},
    "aligned_shadow": _SHADOW,
    "foreign_shadow": _SHADOW,
    "inverse_network": {"epochs": 1},
    "random_queries": {"epochs": 1, "images": 60},
}
