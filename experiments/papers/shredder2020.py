"""Shredder's trade of accuracy for mutual information on LeNet (Mireshghallah et al., ASPLOS 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from experiments.papers.paper import Cell, Measured, Paper, Plan, Row, Workplace
from experiments.papers.trials import by_seed, leaked, pooled, run_trials
from experiments.record import Record

LEVELS = (1.0, 5.0, 20.0)  # wanted 1/SNR
MASKS = 10
KINDS: dict[str, dict[str, Any]] = {
    "fresh draws, ordered": {},
    "fresh draws, a·w + n": {"scaled": True},
    "fresh draws, elementwise": {"draw": "elementwise"},
    "one fixed mask": {"draw": "fixed", "masks": 1},
}
CUTS = {  # 120 flat values, as in the released code; and a convolution's output
    "relu3": tuple(KINDS),
    "relu2": ("fresh draws, ordered", "one fixed mask"),
}
PUBLISHED = {"accuracy loss %": 1.34, "MI loss %": 93.74}


class Shredder2020(Paper):
    """Every way to draw at every 1/SNR: in-vivo and ex-vivo privacy, and what attackers who know of it get."""

    name = "shredder2020"
    citation = "Mireshghallah et al., Shredder: Learning Noise Distributions to Protect Inference Privacy, 2020"
    figures = MappingProxyType(
        {"accuracy loss %": 2, "MI loss %": 1, "1/SNR": 2, "white box SSIM": 3, "inverse network SSIM": 3}
    )

    def cells(self, plan: Plan) -> list[Cell]:
        chosen = {"relu3": ("fresh draws, ordered",)} if plan.quick else CUTS
        return [Cell(seed, kind, cut) for seed in plan.seed_numbers for cut, kinds in chosen.items() for kind in kinds]

    def measure(self, cell: Cell, plan: Plan, place: Workplace) -> Measured:
        how = {"masks": 3 if plan.quick else MASKS, **KINDS[cell.row]}
        defenses = [{"name": "shredder", "inverse_snr": level, **how} for level in self._levels(plan)]
        records = run_trials(self._scenario(cell, plan, [{"name": "none"}, *defenses]), place)
        bare, *guarded = records.values()
        return {str(level): _compared(bare, one) for level, one in zip(self._levels(plan), guarded, strict=True)}

    def rows(self, plan: Plan, measured: Mapping[Cell, Measured]) -> Sequence[Row]:
        return [
            Row(
                row=f"{kind}, 1/SNR {level:g}",
                column=cut,
                published=PUBLISHED if cut == "relu3" and kind == "fresh draws, ordered" else {},
                measured=pooled([cell[str(level)] for cell in cells], tuple(self.figures)),
            )
            for cut, kinds in CUTS.items()
            for kind in kinds
            for level in self._levels(plan)
            if (cells := by_seed(measured, kind, cut))
        ]

    def notes(self, plan: Plan) -> list[str]:
        return [
            "the published row is for one strength, which the paper does not state as 1/SNR: it stands beside each",
            "their mutual information is a sum of nearest-neighbour entropies, which is far off in hundreds of "
            "dimensions; ours is the same estimator less what it says of shuffled pairs, from 300 victims",
            f"smaller than published: a collection has {MASKS} masks, each trained for two passes over 20,000 images",
            "SSIM is of attackers who know the masks: the inverse network learns from defended answers, the white box "
            "tunes itself through the defense",
        ]

    def _levels(self, plan: Plan) -> tuple[float, ...]:
        return LEVELS[:1] if plan.quick else LEVELS

    def _scenario(self, cell: Cell, plan: Plan, defenses: list[dict[str, Any]]) -> dict[str, Any]:
        sizes = {"train": 20000, "auxiliary": 3000, "validation": 100, "victims": 300, "test": 9000}
        quick = {"train": 1000, "auxiliary": 50, "validation": 20, "victims": 30, "test": 200}
        few = plan.quick
        return {
            "seed": cell.seed,
            "cuts": [cell.column],
            "data": {"name": plan.dataset, **(quick if few else sizes)},
            "model": {"epochs": 1 if few else 6, "batch_size": 64},
            "owners": {"batch_size": 50},
            "defenses": defenses,
            "attacks": [
                {"name": "regularized_inversion", "iterations": 20 if few else 200},
                {"name": "inverse_network", "epochs": 1 if few else 12, "width": 16},
            ],
        }


def _compared(bare: Record, guarded: Record) -> Measured:
    """One trial beside the same without a defense."""
    bits = [
        record.dependence.mutual_information_bits - record.dependence.mutual_information_shuffled_bits
        for record in (bare, guarded)
        if record.dependence
    ]
    return {
        "accuracy loss %": 100 * (bare.utility.accuracy_defended - guarded.utility.accuracy_defended),
        "MI loss %": 100 * (1 - bits[1] / bits[0]),
        "1/SNR": guarded.defense_notes["inverse_snr"],
        "white box SSIM": leaked(guarded, 0)["ssim"],
        "inverse network SSIM": leaked(guarded, 1)["ssim"],
    }
