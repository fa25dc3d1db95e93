"""Three attackers on what crosses the wire: the tables of He et al., ACSAC 2019."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from attacks import ATTACKS, make_attack
from attacks.attack import granted
from attacks.knowledge import Knowledge, Observation
from attacks.on_activations.aligned_shadow import AlignedShadow
from experiments.metrics.image_similarity import similarity
from experiments.papers.he2019_sizes import settings, sizes, training
from experiments.papers.paper import Cell, Measured, Paper, Plan, Row, Workplace
from experiments.papers.stage import everything
from experiments.papers.trials import by_seed, pooled
from experiments.scenario import Scenario
from experiments.target import Target, cached_target
from parties.datasets import load
from parties.datasets.dataset import LabelledImages, RawData, partition
from split_models.randomness import generator_for, seed_for
from split_models.training import accuracy

MODELS = {"mnist": "lenet", "cifar10": "sixconv"}
TEN = 10
CUTS = {"mnist": ("conv1", "relu2"), "cifar10": ("conv11", "relu22", "relu32")}


@dataclass(frozen=True)
class Line:
    """One row of the tables: which attack, what it learns from, and the published PSNR (dB) and SSIM at each cut."""

    attack: str
    published: Mapping[str, tuple[float, float]]
    same_set: bool = False  # it learns from the target's own training images instead of others of the distribution


def _figures(*pairs: tuple[float, float]) -> Mapping[str, tuple[float, float]]:
    return dict(zip((*CUTS["mnist"], *CUTS["cifar10"]), pairs, strict=True))


LINES = {
    "white box": Line(
        "regularized_inversion",
        _figures((39.69, 0.9969), (15.10, 0.5998), (37.59, 0.9960), (19.47, 0.6940), (13.38, 0.1625)),
    ),
    "inverse network, same set": Line(
        "inverse_network",
        _figures((39.64, 0.9887), (20.35, 0.7334), (49.88, 0.9993), (19.81, 0.6939), (15.42, 0.3124)),
        same_set=True,
    ),
    "inverse network, same distribution": Line(
        "inverse_network",
        _figures((40.72, 0.9950), (20.81, 0.8046), (49.02, 0.9992), (19.36, 0.6802), (13.95, 0.2196)),
    ),
    "inverse network, random inputs": Line(
        "random_queries",
        _figures((14.76, 0.7188), (7.72, 0.4310), (48.59, 0.9996), (12.79, 0.2930), (12.37, 0.0440)),
    ),
    "query-free, same set, same net": Line(
        "aligned_shadow",
        _figures((17.60, 0.7423), (9.61, 0.4981), (21.16, 0.9104), (12.74, 0.1752), (11.09, 0.0419)),
        same_set=True,
    ),
    "query-free, different set, same net": Line(
        "aligned_shadow",
        _figures((21.53, 0.9121), (9.27, 0.4652), (21.45, 0.9145), (11.51, 0.1723), (11.98, 0.0102)),
    ),
    "query-free, same set, different net": Line(
        "foreign_shadow",
        _figures((12.59, 0.6430), (8.05, 0.3790), (17.55, 0.6344), (12.46, 0.2714), (10.68, 0.0247)),
        same_set=True,
    ),
    "query-free, different set, different net": Line(
        "foreign_shadow",
        _figures((17.86, 0.6952), (8.03, 0.3226), (13.06, 0.1553), (11.30, 0.0467), (11.47, 0.0793)),
    ),
    "model reconstruction": Line(
        "model_reconstruction",
        _figures((39.67, 0.9968), (15.41, 0.6103), (28.67, 0.9766), (18.02, 0.6893), (12.61, 0.1145)),
    ),
}


class He2019(Paper):
    """Every row at every split point; the tables' ten victims, and a hundred others."""

    name = "he2019"
    citation = "He, Zhang and Lee, Model Inversion Attacks Against Collaborative Inference, ACSAC 2019"
    datasets = ("mnist", "cifar10")
    figures = MappingProxyType(
        {"psnr_db": 2, "ssim": 3, "ssim_theirs": 3, "psnr_db_of_ten": 2, "ssim_theirs_of_ten": 3}
    )

    def cells(self, plan: Plan) -> list[Cell]:
        cuts = CUTS[plan.dataset][:1] if plan.quick else CUTS[plan.dataset]
        return [Cell(seed, row, cut) for seed in plan.seed_numbers for cut in cuts for row in LINES]

    def __init__(self) -> None:
        self._held: tuple[int, _Held] | None = None  # of the latest seed, whose cells come one after the other

    def measure(self, cell: Cell, plan: Plan, place: Workplace) -> Measured:
        if self._held is None or self._held[0] != cell.seed:
            self._held = cell.seed, _hold(plan, cell.seed, place)
        held, line = self._held[1], LINES[cell.row]
        parts = held.target.cut(cell.column)
        with torch.no_grad():
            seen = parts.head(held.victims)
        attack = make_attack(line.attack, settings(line.attack, cell.column, plan))
        attack.progress = place.report
        generator = generator_for(cell.seed, "he2019", cell.row, cell.column)
        shadow = issubclass(ATTACKS[line.attack], AlignedShadow)
        knowledge = held.knowledge(cell.column, line.same_set, sizes(plan)["auxiliary"])
        with _quickly(plan, shadow):
            attack.prepare(granted(knowledge, ATTACKS[line.attack]), generator)
            images = attack.reconstruct(Observation(seen))
        return {**_compared(held.victims, images), "target_accuracy": held.accuracy, "notes": attack.notes}

    def rows(self, plan: Plan, measured: Mapping[Cell, Measured]) -> Sequence[Row]:
        return [
            Row(
                row=row,
                column=cut,
                published=dict(zip(self.figures, (psnr, ssim, ssim, psnr, ssim), strict=True)),
                measured=pooled(cells, tuple(self.figures)),
            )
            for cut in CUTS[plan.dataset]
            for row, line in LINES.items()
            for psnr, ssim in [line.published[cut]]
            if (cells := by_seed(measured, row, cut))
        ]

    def notes(self, plan: Plan) -> list[str]:
        size = sizes(plan)
        return [
            "settings and the kinds of shadow were chosen while looking at victims of seeds 0 to 2: read other seeds",
            f"the target is trained on {size['train']} images with a cosine schedule, not on all, for "
            f"{training(plan)['epochs']} epochs instead of 50; its accuracy on test images is in every cell",
            f"attackers learn from {size['auxiliary']} images, choose by {size['validation']} others, and train for "
            "fewer epochs; each is the project's own form of the published attack, its settings are in the code",
            "100 victims instead of ten; the last two figures are of the ten: the first test image of each class",
            "ssim has data_range 1 and a window of 7; ssim_theirs takes the range of each reconstruction, as theirs",
            "random inputs are noise of several coarsenesses within the range of images instead of Gaussian noise "
            "beyond it",
            "shadows are also aligned with the statistics of what was observed, passively, which published ones are "
            "not; those of another design have pairs of 3×3 convolutions",
            "the white box solves a linear system at a convolution, and elsewhere chooses λ on validation images",
            *(CIFAR_NOTES if plan.dataset == "cifar10" else ()),
        ]


CIFAR_NOTES = (
    "the target, the shadows and their decoders are computed in bfloat16, what is searched and solved is not",
    "behind activations the white box and model reconstruction search near what a decoder says that they taught with "
    "the auxiliary images, which the published ones do not have; it and inverse networks have residual blocks",
    "query-free at conv11 no shadow is trained: the statistics of what was observed tell the filter, up to a sign that "
    "the tail tells, whatever is known of the net",
    "query-free behind activations decoders read, one learnt on each of two shadows, and are drawn towards the mean "
    "image as far as they misread each other's; published shadows are searched",
)


@dataclass(frozen=True)
class _Held:
    """What the parties of one seed hold; the first ten victims are the tables' own."""

    target: Target
    accuracy: float  # on test images
    victims: Tensor
    parts: dict[str, LabelledImages]

    def knowledge(self, cut: str, same_set: bool, images: int) -> Knowledge:
        """Every capability at a cut, and so many images to learn from; each attack gets what it asks for alone."""
        learnt = self.parts["train" if same_set else "auxiliary"][:images]
        return everything(self.target, cut, learnt, self.parts["validation"])


def _hold(plan: Plan, seed: int, place: Workplace) -> _Held:
    """Divide the data of a seed and train its target, or read it from an earlier cell."""
    model = {"name": MODELS[plan.dataset], **training(plan)}
    scenario = Scenario.model_validate(
        {
            "name": "he2019",
            "seed": seed,
            "cuts": CUTS[plan.dataset],
            "data": {"name": plan.dataset, **sizes(plan)},
            "model": model,
            "attacks": [{"name": "regularized_inversion"}],
        }
    )
    raw = load(plan.dataset, place.data_dir)
    ten = _first_of_each_class(raw)
    parts, _ = partition(raw, scenario.data.sizes, seed_for(seed, "partition"))
    with _quickly(plan):
        target = cached_target(
            scenario,
            parts["train"],
            raw.input_spec,
            len(raw.classes),
            place.folder,
            lambda part: place.report(part / 2),
        )
    # An attacker who chose by one of the ten would have seen a victim.
    unseen = (parts["validation"].images.flatten(1)[:, None] != ten.flatten(1)).any(2).all(1)
    parts["validation"] = parts["validation"][unseen]
    held_out = parts["test"]
    reached = accuracy(target.network, held_out.images, held_out.labels)
    return _Held(target, reached, torch.cat([ten, parts["victims"].images]), parts)


def _quickly(plan: Plan, allowed: bool = True) -> torch.autocast:
    """Multiply in bfloat16, which halves the time of six convolutions; weights and losses stay in float32."""
    # With its cache, autocast would go on using the weights of the first training step.
    wanted = allowed and plan.dataset == "cifar10"
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=wanted, cache_enabled=False)


def _first_of_each_class(raw: RawData) -> Tensor:
    assert raw.official_train is not None
    labels = raw.labels[raw.official_train :]
    rows = [raw.official_train + int(np.argmax(labels == label)) for label in range(len(raw.classes))]
    return raw.inputs(rows)


def _compared(victims: Tensor, images: Tensor) -> Measured:
    """The figures of the hundred victims, and of the tables' ten, which come first."""
    ours, theirs = similarity(victims, images), _their_ssim(victims, images)
    return {
        "psnr_db": ours.psnr_db[TEN:].tolist(),
        "ssim": ours.ssim[TEN:].tolist(),
        "ssim_theirs": theirs[TEN:],
        "psnr_db_of_ten": ours.psnr_db[:TEN].tolist(),
        "ssim_theirs_of_ten": theirs[:TEN],
    }


def _their_ssim(victims: Tensor, images: Tensor) -> list[float]:
    """SSIM as the authors compute it: the dynamic range is that of each reconstruction, at least 1e-6."""
    pairs = zip(victims.double().numpy(), images.double().numpy(), strict=True)
    return [
        float(structural_similarity(truth, found, data_range=max(np.ptp(found), 1e-6), channel_axis=0))
        for truth, found in pairs
    ]
