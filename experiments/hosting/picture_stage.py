"""Pictures: what trained the network, what its customers look for, and how what they find is judged."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from attacks.on_outputs import OUTPUT_ATTACKS
from attacks.on_outputs.generative import corrupted
from attacks.output_attack import Access, Goal
from defenses.fitting_defense import FittingDefense
from experiments.hosting.judging import MEAN_IMAGE, picture_doubts
from experiments.hosting.record import Figures, HostedAttack, HostedUtility
from experiments.hosting.scenario import PictureScenario
from experiments.hosting.stage import HOSTED, PLAIN, Stage
from experiments.metrics.image_similarity import similarity
from experiments.metrics.recognition import train_recogniser
from experiments.scenario import Named
from experiments.statistics.intervals import summarise
from experiments.target import train_target
from parties.datasets import load
from parties.datasets.dataset import DataError, LabelledImages, RawData, check_disjoint, partition
from split_models.checkpoints import save_model, save_tensors
from split_models.randomness import generator_for, seed_for
from split_models.tensor_spec import TensorSpec

CLASSES, SAMPLES = "classes", "held-out pictures"
COMPARED = 10  # private pictures of a class with which an inverted one is compared


class PictureStage(Stage):
    """Attacks on a class are judged by that class's training pictures, attacks on a sample by the sample."""

    scenario: PictureScenario

    def __init__(self, scenario: PictureScenario, scratch: Path, data_dir: Path | None) -> None:
        super().__init__(scenario, scratch)
        data = scenario.data
        private, public = _private_and_public(scenario, data_dir)
        self._data = _divided(scenario, private, public)
        self._classes = len(private.classes)
        self.spec = TensorSpec(tuple(self._data["train"].images.shape[1:]), low=0.0, high=1.0)
        self._check_sizes(public)
        self.dataset = {
            "name": private.name,
            "train": len(self._data["train"]),
            "held_out": len(self._data["test"]) + len(self._data["victims"]),
            "auxiliary": f"{len(self._data['auxiliary'])} of {public.name}",
            "shareable": private.shareable and public.shareable,
            "known": data.known,
        }
        self.truth = self._data["test"].labels
        self._goals = [OUTPUT_ATTACKS[attack.name].goal for attack in scenario.attacks]

    def _check_sizes(self, public: RawData) -> None:
        train, auxiliary = self._data["train"], self._data["auxiliary"].images
        if tuple(auxiliary.shape[1:]) != self.spec.shape:
            raise DataError(f"expected auxiliary pictures of {self.spec.shape}, got {public.name}; take another")
        least = int(torch.bincount(train.labels, minlength=self._classes).min())
        if least < self.scenario.data.per_class:
            raise DataError(f"expected at least per_class={self.scenario.data.per_class} of each class, got {least}")

    @functools.cached_property
    def victims(self) -> dict[str, LabelledImages]:
        """Whom attacks are about: training pictures of each class, and pictures that somebody else asked about."""
        train, each = self._data["train"], self.scenario.data.per_class
        first = [torch.nonzero(train.labels == label)[:each, 0] for label in range(self._classes)]
        return {CLASSES: train[torch.cat(first)], SAMPLES: self._data["victims"]}

    @functools.cached_property
    def _recogniser(self) -> Callable[[Tensor], Tensor]:
        return train_recogniser(self._data["train"], self._classes, self.scenario.seed)

    @functools.cached_property
    def floors(self) -> dict[str, dict[str, Figures]]:
        """What the attacker could show without the model, of the parts that are attacked."""
        floors = dict[str, dict[str, Figures]]()
        for part in dict.fromkeys(part for goal in self._goals for part in self.parts(goal)):
            for name, images in self._baselines(part).items():
                floors.setdefault(name, {})[part] = self.judge(part, images)
        return floors

    def _baselines(self, part: str) -> dict[str, Tensor]:
        victims, own = self.victims[part], self._data["auxiliary"].images
        found = {MEAN_IMAGE: own.mean(0, keepdim=True).expand_as(victims.images)}
        if part == SAMPLES:
            # Found with the private picture in hand: no retrieval from what the attacker has can do better.
            nearest = torch.cdist(victims.images.flatten(1), own.flatten(1)).argmin(1)
            return found | {"nearest auxiliary picture": own[nearest]}
        draw = generator_for(self.scenario.seed, "a picture of the attacker's own")
        found["any auxiliary picture"] = own[torch.randint(len(own), (len(victims),), generator=draw)]
        if self.scenario.data.known:
            found["the given picture itself"] = corrupted(victims.images, self.scenario.data.known)
        held_out = self._data["test"]
        same = held_out.labels == victims.labels[:, None]
        if same.any(1).all():  # a small test part may lack a class
            found["ceiling: another picture of the class"] = held_out.images[same.int().argmax(1)]
        return found

    def hand_out(self) -> None:
        """The host's defenses learn from its tuning part, or without one from what trained the network; the attacker
        gets pictures of its own and labels of classes."""
        parts, scratch = self._data, self.scratch
        own = parts["tuning"] if len(parts["tuning"]) else parts["train"]
        save_tensors(scratch / "own", {"inputs": own.images})
        asked = torch.cat([parts["test"].images, self.victims[SAMPLES].images])
        save_tensors(scratch / "asked", {"inputs": asked})
        learns, chooses = parts["auxiliary"], parts["validation"]
        save_tensors(
            scratch / "auxiliary",
            {
                "images": learns.images,
                "labels": learns.labels,
                "validation_images": chooses.images,
                "validation_labels": chooses.labels,
            },
        )
        victims = {"labels": self.victims[CLASSES].labels}
        if self.scenario.data.known:
            victims["known"] = corrupted(self.victims[CLASSES].images, self.scenario.data.known)
        save_tensors(scratch / f"victims {CLASSES}", victims)

    def fit(self, defense: FittingDefense | None) -> None:
        """Train the network once: defenses on outputs leave it as it is."""
        assert defense is None  # scenarios of pictures have none
        if (self.scratch / HOSTED).exists():
            return
        scenario, train = self.scenario, self._data["train"]
        target = train_target(scenario.model, scenario.seed, train, self.spec, self._classes)
        for name in (PLAIN, HOSTED):
            save_model(self.scratch / name, target.network, target.identity)

    def answered(self, answers: Tensor, explanations: Tensor | None) -> Tensor:
        """Behind those about test pictures are those that the attacker has seen."""
        count = len(self.truth)
        seen = {"outputs": answers[count:]}
        if explanations is not None:
            seen["explanations"] = explanations[count:]
        save_tensors(self.scratch / f"victims {SAMPLES}", seen)
        return answers[:count]

    def parts(self, goal: Goal) -> Sequence[str]:
        """Classes, or held-out pictures."""
        return (CLASSES,) if goal is Goal.CLASS else (SAMPLES,)

    def documented(self) -> dict[str, Any]:
        """Size of a picture and number of classes."""
        return {"input_spec": asdict(self.spec), "classes": self._classes}

    def offered(self, queries: int) -> dict[Access, Any]:
        """Everything but marginals and performance, which are of tables."""
        return {
            Access.QUERIES: queries,
            Access.EXPLANATIONS: True,
            Access.WEIGHTS: True,
            Access.AUXILIARY: str(self.scratch / "auxiliary"),
        }

    def judge(self, part: str, found: Tensor) -> Figures:
        """Pictures (N, C, H, W) in [0, 1], by an independent classifier and by distance."""
        victims = self.victims[part]
        identified = self._recognised(found, victims.labels).double().numpy()
        if part == SAMPLES:
            close = similarity(victims.images, found)
            values = {"identified": identified, "ssim": close.ssim, "psnr_db": close.psnr_db, "mse": close.mse}
        else:
            values = {"identified": identified, **self._near_class(victims.labels, found)}
            if self.scenario.data.known:
                values["psnr_db"] = similarity(victims.images, found).psnr_db
        return {name: summarise(np.asarray(column)) for name, column in values.items()}

    def _near_class(self, labels: Tensor, found: Tensor) -> dict[str, Any]:
        """Mean SSIM with some training pictures of the class, and the mean square to the nearest of all of them."""
        train, ssim, mse = self._data["train"], [], []
        for label, image in zip(labels.tolist(), found, strict=True):
            own = train.images[train.labels == label]
            some = own[:COMPARED]
            ssim.append(similarity(some, image[None].expand_as(some)).ssim.mean())
            mse.append(float((own - image).square().flatten(1).mean(1).min()))
        return {"ssim": ssim, "mse": mse}

    def doubts(self, attacks: Sequence[HostedAttack], utility: HostedUtility, defense: Named) -> list[str]:
        """Of attacks that show no more than the mean picture, and of the judge."""
        test = self._data["test"]
        right = self._recognised(test.images, test.labels).double().mean()
        return picture_doubts(attacks, self.floors, float(right))

    def _recognised(self, images: Tensor, labels: Tensor) -> Tensor:
        return self._recogniser(images).argmax(1) == labels

    def pictures(self) -> dict[str, Tensor]:
        """The private pictures that attacks are about."""
        return {part: self.victims[part].images for goal in dict.fromkeys(self._goals) for part in self.parts(goal)}


def _private_and_public(scenario: PictureScenario, data_dir: Path | None) -> tuple[RawData, RawData]:
    """What the target's parts are drawn from, and what the attacker's are; the same where neither is set apart."""
    data = scenario.data
    raw = load(data.name, data_dir)
    if raw.images.ndim != 4:
        raise DataError(f"expected pictures, got {raw.name}, which holds series; name a data set of pictures")
    if data.auxiliary_from:
        return raw, load(data.auxiliary_from, data_dir)
    if not data.first_private:
        return raw, raw
    if data.first_private > len(raw.classes) - 2:
        raise DataError(f"{raw.name} has {len(raw.classes)} classes: expected first_private to leave two of them")
    return raw.of_classes(data.first_private, len(raw.classes)), raw.of_classes(0, data.first_private)


def _divided(scenario: PictureScenario, private: RawData, public: RawData) -> dict[str, LabelledImages]:
    sizes, seed = scenario.data.sizes, seed_for(scenario.seed, "partition")
    if private is public:
        parts, _ = partition(private, sizes, seed)
    else:
        attackers = {part: sizes.pop(part) for part in ("auxiliary", "validation")}
        parts, _ = partition(private, sizes, seed)
        seen, _ = partition(public, attackers, seed)
        parts |= {part: seen[part] for part in attackers}
        check_disjoint(parts)
    side = scenario.data.shrink
    return {name: LabelledImages(avg_pool2d(part.images, side), part.labels) for name, part in parts.items()}
