"""The referee: the only one who sees private images and reconstructions side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks import ATTACKS, make_attack
from defenses import make_defense
from defenses.distance_correlation import distance_correlation, unbiased_distance_correlation
from experiments.metrics.image_similarity import similarity
from experiments.metrics.mutual_information import mutual_information_bits
from experiments.metrics.warping import dynamic_time_warping
from experiments.provenance import provenance
from experiments.readings import judged, reading_doubts
from experiments.record import AttackOutcome, Cost, Dependence, Leakage, Record, Utility, Victim, pictures_path
from experiments.sanity import defense_doubts, doubts, wire_doubts
from experiments.scenario import Scenario, Trial
from experiments.statistics import summarise
from experiments.target import Target, defended
from experiments.trial import Attacked, Played
from parties.datasets.dataset import LabelledImages
from split_models.checkpoints import save_tensors
from split_models.tensor_spec import TensorSpec
from split_models.training import accuracy, predict


class Referee:
    """Joins reconstructions with the victims by request id, and measures."""

    def __init__(
        self,
        trial: Trial,
        parts: dict[str, LabelledImages],
        target: Target,
        baseline: Target,
        evaluator: nn.Module,
        owners: list[str],
    ) -> None:
        """`baseline` is the network as it is trained without a defense; often the target itself."""
        self._trial, self._parts, self._evaluator = trial, parts, evaluator
        self._target, self._baseline = target, baseline
        self._owners = owners
        self._batch = trial.scenario.owners.batch_size

    def judge(self, played: Played, dataset: dict[str, Any], folder: Path, started: float) -> Record:
        """Everything about a trial, from what its parties produced; writes its pictures below `folder`."""
        trial, scenario = self._trial, self._trial.scenario
        order = torch.tensor([self._victim(*row) for row in played.rows])
        victims = self._parts["victims"][order]
        floors = self._floors(victims)
        outcomes = [self._outcome(attacked, victims) for attacked in played.attacks]
        owners, known = [owner for owner, _, _ in played.rows], self._parts["auxiliary"]
        readings = [judged(trial, attacked, victims, owners, known) for attacked in played.readings]
        utility = self._utility(played)
        defense = make_defense(trial.defense.name, trial.defense.settings)
        with torch.no_grad():
            undefended = self._baseline.cut(trial.cut).head(victims.images)
        self._keep_pictures(played, victims, folder)
        warnings = [
            *defense_doubts(trial.defense.label, self._target.defense_notes),
            *wire_doubts(undefended, played.on_wire, trial.defense.label),
            *reading_doubts(readings, dataset.get("among_inputs", ())),
            *doubts(outcomes, floors, utility, random=defense.random, repeats=scenario.owners.repeats),
        ]
        return Record(
            key=trial.key,
            cut=trial.cut,
            defense=trial.defense.label,
            defense_notes=self._target.defense_notes,
            scenario=scenario.model_dump(mode="json"),
            threat_model=scenario.threat_model.model_dump(mode="json"),
            dataset=dataset,
            model_digest=self._target.identity.digest,
            utility=utility,
            attacks=outcomes,
            readings=readings,
            floors=floors,
            dependence=_dependence(victims.images, played.on_wire),
            cost=self._cost(played),
            victims=[
                Victim(index=int(i), owner=row[0], label=int(label))
                for i, row, label in zip(order, played.rows, victims.labels, strict=True)
            ],
            warnings=warnings,
            provenance=provenance(),
            timing=_timing(scenario, played, started),
        )

    def _keep_pictures(self, played: Played, victims: LabelledImages, folder: Path) -> None:
        trial, scenario = self._trial, self._trial.scenario
        pictures = {
            scenario.attack_label(attacked.entry, attacked.withheld): attacked.found
            for attacked in played.attacks
            if attacked.found is not None
        }
        save_tensors(
            pictures_path(folder, trial.key),
            {"private": victims.images, **{f"attack {label}": images for label, images in pictures.items()}}
            | {f"floor {name}": images for name, images in self._floor_images(victims).items()},
        )

    def _victim(self, owner: str, request_id: int, row: int) -> int:
        """Which victim is behind a row of a message: owners hold every n-th victim, sent in order and again."""
        place, owners = self._owners.index(owner), len(self._owners)
        share = len(range(place, len(self._parts["victims"]), owners))
        position = ((request_id - 1) * self._batch + row) % share
        return place + position * owners

    def _outcome(self, attacked: Attacked, victims: LabelledImages) -> AttackOutcome:
        entry, images = attacked.entry, attacked.found
        cls = ATTACKS[entry.name]
        granted = set(self._trial.scenario.threat_model.grants) - attacked.withheld
        outcome = AttackOutcome(
            name=entry.name,
            label=self._trial.scenario.attack_label(entry, attacked.withheld),
            settings=make_attack(entry.name, entry.settings).settings.model_dump(mode="json"),
            requires=sorted(cls.requires),
            uses=sorted(cls.uses & granted),
            withheld=sorted(attacked.withheld),
            status="refused" if images is None else "done",
            reason=attacked.answer.get("refused", ""),
        )
        if images is None:
            return outcome
        notes = dict(attacked.answer["notes"])
        return outcome.model_copy(
            update={
                "leakage": self._leakage(images, victims),
                "queries": notes.pop("queries", 0),
                "notes": notes,
            }
        )

    def _leakage(self, images: Tensor, victims: LabelledImages) -> Leakage:
        close = similarity(victims.images, images)
        identified = (predict(self._evaluator, images) == victims.labels).double().numpy()
        values = {"psnr_db": close.psnr_db, "ssim": close.ssim, "mse": close.mse, "identification": identified}
        if images.ndim == 3:
            values["dtw"] = dynamic_time_warping(victims.images, images)
        summaries = {name: summarise(np.asarray(column)) for name, column in values.items()}
        # Seven digits are more than any figure is worth, and keep a record small.
        rounded = {name: [float(f"{value:.7g}") for value in column] for name, column in values.items()}
        return Leakage(**summaries, per_victim=rounded)

    def _floor_images(self, victims: LabelledImages) -> dict[str, Tensor]:
        auxiliary = self._parts["auxiliary"].images
        # The nearest auxiliary image is found with the private image in hand: no retrieval can do better.
        nearest = torch.cdist(victims.images.flatten(1), auxiliary.flatten(1)).argmin(1)
        return {
            "mean_image": auxiliary.mean(0, keepdim=True).expand_as(victims.images),
            "nearest_auxiliary": auxiliary[nearest],
        }

    def _floors(self, victims: LabelledImages) -> dict[str, Leakage]:
        return {name: self._leakage(images, victims) for name, images in self._floor_images(victims).items()}

    def _utility(self, played: Played) -> Utility:
        victims = self._parts["victims"]
        right = 0
        for owner, result in played.inference.items():
            for request_id, predictions in result["predictions"].items():
                indices = [self._victim(owner, int(request_id), row) for row in range(len(predictions))]
                right += int((torch.tensor(predictions) == victims.labels[indices]).sum())
        test = self._parts["test"]
        return Utility(
            train_accuracy=self._target.train_accuracy,
            accuracy=accuracy(self._baseline.network, test.images, test.labels),
            accuracy_defended=accuracy(self._defended(), test.images, test.labels),
            accuracy_over_wire=right / (len(victims) * self._trial.scenario.owners.repeats),
            evaluator_accuracy=accuracy(self._evaluator, victims.images, victims.labels),
        )

    def _defended(self) -> Callable[[Tensor], Tensor]:
        trial = self._trial
        return defended(self._target, trial.cut, trial.defense.name, trial.defense.settings, trial.scenario.seed)

    def _cost(self, played: Played) -> Cost:
        costs = [result["cost"] for result in played.inference.values()]
        spec = TensorSpec.of(played.on_wire)
        return Cost(
            requests=sum(cost["requests"] for cost in costs),
            bytes_up=sum(cost["bytes_up"] for cost in costs),
            bytes_down=sum(cost["bytes_down"] for cost in costs),
            activation_shape=spec.shape,
            bytes_per_image=spec.bytes_per_sample,
        )


def _dependence(images: Tensor, on_wire: Tensor) -> Dependence | None:
    if len(images) < 4:
        return None
    biased = float(distance_correlation(images, on_wire))
    unbiased = float(unbiased_distance_correlation(images, on_wire))
    shuffled = on_wire[torch.randperm(len(on_wire), generator=torch.Generator().manual_seed(0))]
    return Dependence(
        dcor=biased,
        dcor_unbiased=unbiased,
        mutual_information_bits=mutual_information_bits(images, on_wire),
        mutual_information_shuffled_bits=mutual_information_bits(images, shuffled),
        samples=len(images),
    )


def _timing(scenario: Scenario, played: Played, started: float) -> dict[str, float]:
    attacks = {
        f"attack {scenario.attack_label(attacked.entry, attacked.withheld)}": attacked.answer.get("seconds", 0.0)
        for attacked in (*played.attacks, *played.readings)
    }
    wire = max(result["cost"]["seconds"] for result in played.inference.values())
    return {"inference_wire": wire, **attacks, "trial": time.perf_counter() - started}
