"""Inputs decoded from scores, and scores purified against that: Yang, Chang and Liang 2019; Yang et al. 2020."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.hosting.record import PRIVATE, read_host_records
from experiments.hosting.runner import run_hosting
from experiments.hosting.scenario import PictureScenario
from experiments.metrics.image_similarity import similarity
from experiments.papers.paper import Cell, Measured, Paper, Plan, Row, Workplace
from experiments.papers.trials import pooled
from experiments.record import pictures_path
from split_models.checkpoints import load_tensors

NONE, PURIFIED, ADVERSARIAL = "all scores", "purified", "purified against an inverter"
PURIFIER = {"code": 4, "label_weight": 1.0, "epochs": 200, "learning_rate": 1e-2}
ROWS: dict[str, dict[str, Any]] = {
    NONE: {"name": "none"},
    "five highest scores": {"name": "top_k", "k": 5},
    "highest score": {"name": "top_k", "k": 1},
    "label alone": {"name": "label_only"},
    "rounded to 0.01": {"name": "rounding", "step": 0.01},
    "MLPrivacyGuard": {"name": "privacy_guard", "scale": 0.03},
    PURIFIED: {"name": "purification", **PURIFIER},
    ADVERSARIAL: {"name": "purification", **PURIFIER, "adversarial": 0.2},
}
PUBLISHED = {"drop": 0.4, "distortion": 5.5, "factor": 4.0}
"""At most so many points of accuracy are lost and scores move by so many percent; the error grows by up to so much."""
AUXILIARY = {"other digits": "", "clothes": "fashion_mnist"}
SIZES = {"train": 2000, "auxiliary": 2000, "validation": 50, "victims": 100, "test": 1000, "tuning": 4000}
QUICK = {"train": 130, "auxiliary": 40, "validation": 10, "victims": 10, "test": 70, "tuning": 70}


class Yang2020(Paper):
    """A network hosted under each defense; the attacker trains a decoder on answers as the host gives them."""

    name = "yang2020"
    citation = (
        "Yang et al., Defending Model Inversion and Membership Inference Attacks via Prediction Purification, 2020"
    )
    figures = MappingProxyType(
        {
            "accuracy": 1,
            "drop": 1,
            "distortion": 1,
            "calibration": 3,
            "mse": 4,
            "factor": 2,
            "identified": 1,
            "queries": 0,
        }
    )

    def __init__(self) -> None:
        self._done: set[Path] = set()

    def cells(self, plan: Plan) -> list[Cell]:
        return [Cell(seed, row, column) for seed in plan.seed_numbers for column in AUXILIARY for row in ROWS]

    def measure(self, cell: Cell, plan: Plan, place: Workplace) -> Measured:
        scenario = _scenario(cell, plan)
        folder = place.folder / "runs" / f"{'quick' if plan.quick else 'full'}.{cell.column}.{cell.seed}"
        if folder not in self._done:
            # All defenses of a seed and column at once: they share the network and who judges.
            for number, _ in enumerate(run_hosting(scenario, folder, place.data_dir, lambda step, fraction: None)):
                place.report((number + 1) / len(ROWS))
            self._done.add(folder)
        record = read_host_records(folder)[list(ROWS).index(cell.row)]
        (attack,) = record.attacks
        (part, figures), *_ = attack.inferred.items()
        pictures = load_tensors(pictures_path(folder, record.key))[0]
        error = similarity(pictures[f"{PRIVATE}{part}"], pictures[f"{attack.label} · {part}"]).mse
        plain, served = record.utility.plain, record.utility.served
        assert record.utility.distortion is not None
        return {
            "mse": error.tolist(),
            "identified": 100 * figures["identified"].mean,
            "accuracy": 100 * served["accuracy"],
            "drop": 100 * (plain["accuracy"] - served["accuracy"]),
            "distortion": 100 * record.utility.distortion,
            "calibration": served["calibration_error"],
            "queries": attack.queries,
        }

    def rows(self, plan: Plan, measured: Mapping[Cell, Measured]) -> Sequence[Row]:
        rows = []
        for row, column in dict.fromkeys((cell.row, cell.column) for cell in measured):
            bare = {c.seed: _mean(m["mse"]) for c, m in measured.items() if (c.row, c.column) == (NONE, column)}
            cells = [
                {**values, "factor": _mean(values["mse"]) / bare[cell.seed]}
                for cell, values in measured.items()
                if (cell.row, cell.column) == (row, column) and cell.seed in bare
            ]
            published = PUBLISHED if row in (PURIFIED, ADVERSARIAL) else {}
            if cells:
                rows.append(Row(row, column, published, pooled(cells, tuple(self.figures))))
        return rows

    def notes(self, plan: Plan) -> list[str]:
        return [
            "published: accuracy drops by less than 0.4 points, scores are distorted by less than 5.5 %, and the "
            "inversion error grows by a factor of up to 4, on FaceScrub with 530 people; here ten digits, whose scores "
            "tell less of an input: where the label can be told, the error is at most that of 'label alone'",
            "'factor' is the mean squared error by pixel over that with all scores, of the same seed; the attacker "
            "asks the host as it is defended, so every row is of an attacker who knows of the defense",
            "'calibration' is the expected calibration error of what a customer gets; 'drop' is in points of accuracy; "
            "'distortion' is the mean total variation between what a customer gets and the model's scores, in percent",
            "membership inference, which purification was also published against, is not measured",
            "'highest score' and 'five highest scores' are the truncated predictions of Yang, Chang and Liang 2019, "
            "whose decoder is trained on scores truncated alike: here the host truncates both, so no attacker is "
            "without that alignment",
            "auxiliary pictures are of the target's own kind, or of another (clothes); the set of the same kind but of "
            "another source (CelebA for FaceScrub) has no counterpart here",
            "the purifier learns from 4,000 pictures of the host's that are in no other part, as published",
            "its layers have 8, 4 and 8 units with batch normalisation; published for ten classes: 7, 4 and 7",
            "the inverter has 16 channels, ReLU and 20 passes over 2,000 pictures, published for faces: 128 channels, "
            "batch normalisation, tanh and 100 passes; the target is LeNet on 2,000 digits; victims are 100 held-out "
            "pictures a seed, published are training pictures as well; the purifier was chosen on seed 7",
        ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scenario(cell: Cell, plan: Plan) -> PictureScenario:
    """All defenses of one seed and column."""
    data = QUICK if plan.quick else SIZES
    return PictureScenario.model_validate(
        {
            "name": "paper",
            "seed": cell.seed,
            "transport": "in-process",
            "data": {"name": plan.dataset, "auxiliary_from": AUXILIARY[cell.column], **data},
            "model": {"name": "lenet", "epochs": 1 if plan.quick else 10},
            "defenses": list(ROWS.values()),
            "attacks": [{"name": "training_based", "epochs": 1 if plan.quick else 20, "width": 16}],
            "threat_model": {"grants": ["queries", "auxiliary"]},
        }
    )
