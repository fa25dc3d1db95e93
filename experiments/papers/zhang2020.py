"""Digits that nobody gave away, out of a classifier by a generator of other digits: GMI, CVPR 2020."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.knowledge import Auxiliary
from attacks.on_outputs import OUTPUT_ATTACKS, make_output_attack
from attacks.on_outputs.generative import GenerativeSettings, PictureGan, corrupted, train_prior
from attacks.on_outputs.gmi import Gmi
from attacks.output_attack import OutputKnowledge, Victims, granted_to
from experiments.metrics.identification import train_evaluator
from experiments.metrics.image_similarity import similarity
from experiments.metrics.kl_indicator import kl_indicator
from experiments.papers.customers import as_customer
from experiments.papers.paper import Cell, Measured, Paper, Plan, Row, Workplace
from experiments.papers.trials import by_seed, pooled
from parties.datasets import load
from parties.datasets.dataset import LabelledImages
from parties.model_host import Offer
from split_models.checkpoints import Identity, load_tensors, save_model, save_tensors
from split_models.randomness import generator_for, layers_from
from split_models.tensor_spec import TensorSpec
from split_models.training import accuracy, predict, train_classifier
from split_models.zoo import build

FIRST_PRIVATE = 5  # digits from here on are private, those below are public
CLASSES = 5
PUBLIC = {"mnist": "public digits 0-4", "fashion_mnist": "public clothes"}  # what the prior learns from
ROWS: dict[str, dict[str, Any]] = {
    "GMI": {},
    "GMI, with a masked picture": {"known": "masked"},
    "GMI, with a blurred picture": {"known": "blurred"},
    "floor: the prior alone": {"weight": 0.0},
    "floor: the prior and a masked picture": {"weight": 0.0, "known": "masked"},
    "floor: the prior and a blurred picture": {"weight": 0.0, "known": "blurred"},
}
PUBLISHED = {("GMI", "public digits 0-4"): 80.0}
SIZES = {
    False: {"train": 5000, "public": 5000, "victims": 20, "test": 2000},
    True: dict.fromkeys(("train", "public", "test"), 200) | {"victims": 2},
}
SEARCH = {"iterations": 150, "restarts": 2}
PRIOR_STEPS = 1500


class Zhang2020(Paper):
    """GMI with the weights of a classifier of digits 5 to 9, which it gets from a host over gRPC."""

    name = "zhang2020"
    datasets = tuple(PUBLIC)
    citation = "Zhang et al., The Secret Revealer: Generative Model-Inversion Attacks, CVPR 2020"
    figures = MappingProxyType({"identified": 1, "distance": 3, "kl": 0, "psnr_db": 2, "accuracy": 1})
    default_seeds = 5

    def __init__(self) -> None:
        self._shared: tuple[int, Digits] | None = None

    def cells(self, plan: Plan) -> list[Cell]:
        return [Cell(seed, row, PUBLIC[plan.dataset]) for seed in plan.seed_numbers for row in ROWS]

    def measure(self, cell: Cell, plan: Plan, place: Workplace) -> Measured:
        if self._shared is None or self._shared[0] != cell.seed:
            self._shared = cell.seed, Digits(cell.seed, plan, place)
        digits = self._shared[1]
        prior = _prior(plan, place)
        settings = {**ROWS[cell.row], **({"iterations": 5, "restarts": 1} if plan.quick else SEARCH)}
        with as_customer(digits.target, Offer(weights=True)) as (_, model):
            attack = make_output_attack("gmi", settings)
            assert isinstance(attack, Gmi)
            attack.prior, attack.progress = prior, place.report
            public = _public(plan, place)
            learns_from = Auxiliary(public.images, public.labels, public.images[:0], public.labels[:0])
            knowledge = OutputKnowledge(digits.spec, CLASSES, model=model, auxiliary=learns_from)
            attack.prepare(granted_to(knowledge, OUTPUT_ATTACKS["gmi"]), generator_for(cell.seed, "attack"))
            kind = settings.get("known")
            known = corrupted(digits.victims.images, kind) if kind else None
            found = attack.invert(Victims(labels=digits.victims.labels, known=known))
        measured = digits.judged(found)
        if known is not None:
            measured["psnr_db"] = similarity(digits.victims.images, found).psnr_db.tolist()
        return measured

    def rows(self, plan: Plan, measured: Mapping[Cell, Measured]) -> Sequence[Row]:
        rows = []
        for row, column in dict.fromkeys((cell.row, cell.column) for cell in measured):
            cells = by_seed(measured, row, column)
            published = {"identified": PUBLISHED[row, column]} if (row, column) in PUBLISHED else {}
            rows.append(Row(row, column, published, pooled(cells, [f for f in self.figures if f in cells[0]])))
        return rows

    def notes(self, plan: Plan) -> list[str]:
        return [
            "'identified' is how often, in percent, an independent classifier sees the digit that was asked for; the "
            "published 80 is quoted by a survey, for the attack without a picture; chance is 20",
            "'distance' is the root mean square by pixel to the nearest private training picture of the class; 'kl' "
            "the indicator of Tanaka et al. 2020 by class, biased low in 784 dimensions: rank by it",
            "a given picture is matched by what the generator makes, under the same corruption, instead of being an "
            "input of the generator; it is one of the target's own training pictures",
            f"the prior is a small WGAN-GP, trained for {PRIOR_STEPS} steps, once for all seeds, which are of targets, "
            "evaluators, victims and searches",
            "100 victims a seed, 2 restarts of 150 steps instead of 5 of 1,500; the target is LeNet on 5,000 digits; "
            "settings were chosen while looking at seed 0",
        ]


def _public(plan: Plan, place: Workplace) -> LabelledImages:
    """Public pictures (N, 1, 28, 28): none shows a private digit."""
    raw = load(plan.dataset, place.data_dir)
    rows = np.flatnonzero(raw.labels[:30000] < FIRST_PRIVATE)[: SIZES[plan.quick]["public"]]
    return LabelledImages(raw.inputs(rows), torch.from_numpy(raw.labels[rows]))


def _prior(plan: Plan, place: Workplace) -> PictureGan:
    """The prior over public pictures, trained once and kept."""
    path = place.folder / "priors" / f"{plan.dataset}{'-quick' if plan.quick else ''}.safetensors"
    settings = GenerativeSettings(prior_steps=3 if plan.quick else PRIOR_STEPS)
    images = _public(plan, place).images
    if not path.exists():
        trained = train_prior(images, settings, generator_for(0, "prior", PUBLIC[plan.dataset]), place.report)
        save_tensors(path, trained.state_dict())
    prior = PictureGan(TensorSpec.of(images), settings.width)
    prior.load_state_dict(load_tensors(path)[0])
    return prior.eval().requires_grad_(False)


class Digits:
    """The private digits of one seed, the classifier that learnt them, and who judges."""

    def __init__(self, seed: int, plan: Plan, place: Workplace) -> None:
        sizes = SIZES[plan.quick]
        raw = load("mnist", place.data_dir)
        assert raw.official_train is not None
        private = np.flatnonzero(raw.labels >= FIRST_PRIVATE)
        test = private[private >= raw.official_train][: sizes["test"]]
        early = private[private < raw.official_train]
        early = early[torch.randperm(len(early), generator=generator_for(seed, "digits")).numpy()]

        def part(rows: Any) -> LabelledImages:
            labels = torch.from_numpy(raw.labels[rows] - FIRST_PRIVATE)
            return LabelledImages(raw.inputs(rows), labels)

        self.train, self._test = part(early[: sizes["train"]]), part(test)
        self.spec = TensorSpec((1, 28, 28), low=0.0, high=1.0)
        epochs = 1 if plan.quick else 4
        chosen = [torch.nonzero(self.train.labels == c)[: sizes["victims"], 0] for c in range(CLASSES)]
        self.victims = self.train[torch.cat(chosen)]
        self._evaluator = train_evaluator(
            part(early[sizes["train"] : 2 * sizes["train"]]), CLASSES, seed, epochs=epochs
        )
        self.target, self._right = self._trained(seed, epochs, place.folder / "targets", plan)

    def _trained(self, seed: int, epochs: int, folder: Path, plan: Plan) -> tuple[Path, float]:
        generator = generator_for(seed, "target")
        with layers_from(generator):
            network = build("lenet", self.spec, CLASSES)
        train_classifier(
            network,
            self.train.images,
            self.train.labels,
            epochs=epochs,
            batch_size=64,
            learning_rate=2e-3,
            generator=generator,
        )
        path = folder / f"lenet{'-quick' if plan.quick else ''}.{seed}.safetensors"
        save_model(path, network, Identity("lenet", self.spec, CLASSES, digest=""))
        return path, accuracy(network, self._test.images, self._test.labels)

    def judged(self, found: Tensor) -> Measured:
        """What the inverted pictures (N, 1, 28, 28), in the order of victims, are worth."""
        labels = self.victims.labels
        distance, kl = [], []
        for label in range(CLASSES):
            private, ours = self.train.images[self.train.labels == label], found[labels == label]
            nearest = torch.cdist(ours.flatten(1), private.flatten(1)).min(1).values
            distance += (nearest / self.spec.elements**0.5).tolist()
            kl.append(kl_indicator(private.numpy(), ours.numpy()))
        identified = 100.0 * (predict(self._evaluator, found) == labels)
        return {"identified": identified.tolist(), "distance": distance, "kl": kl, "accuracy": 100 * self._right}
