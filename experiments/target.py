"""The target network: trained once per data, model and seed, kept beside the records, and cut into its parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from defenses import Defense
from experiments.scenario import Scenario
from parties.datasets.dataset import LabelledImages
from split_models.checkpoints import Identity, load_model, save_model, write_atomically
from split_models.randomness import generator_for, layers_from
from split_models.split_model import SplitModel, split
from split_models.tensor_spec import TensorSpec
from split_models.training import accuracy, train_classifier
from split_models.zoo import build


@dataclass(frozen=True)
class Target:
    """A trained network with what it reached on its training part."""

    network: nn.Sequential
    identity: Identity
    train_accuracy: float

    def cut(self, at: str) -> SplitModel:
        """Its head and tail at a cut."""
        return split(self.network, at)

    def save_parts(self, folder: Path, at: str) -> dict[str, Path]:
        """Write head and tail as checkpoints of their own; returns their paths by part."""
        paths = {part: folder / f"{at}.{part}.safetensors" for part in ("head", "tail")}
        for part, path in paths.items():
            save_model(path, self.network, Identity(**{**self.identity.__dict__, "cut": at, "part": part}))
        return paths


@dataclass(frozen=True)
class Shaping:
    """A defense that acts while the network is trained, at the cut where it will be used."""

    defense: Defense
    cut: str

    def loss(self, network: nn.Sequential) -> Callable[[Tensor, Tensor], Tensor]:
        """The task's cross-entropy through both halves, with what the defense adds."""
        parts = split(network, self.cut)

        def of(images: Tensor, labels: Tensor) -> Tensor:
            activations = parts.head(images)
            added = self.defense.training_loss(images, activations, labels)
            return cross_entropy(parts.tail(activations), labels) + added

        return of


def train_target(
    scenario: Scenario,
    train: LabelledImages,
    input_spec: TensorSpec,
    classes: int,
    report: Callable[[float], None],
    shaping: Shaping | None = None,
) -> Target:
    """Train the scenario's network; every random draw follows from its seed, the same with a defense and without."""
    model = scenario.model
    generator = generator_for(scenario.seed, "target")
    with layers_from(generator):
        network = build(model.name, input_spec, classes)
    train_classifier(
        network,
        train.images,
        train.labels,
        epochs=model.epochs,
        batch_size=model.batch_size,
        learning_rate=model.learning_rate,
        generator=generator,
        after_epoch=lambda epoch: report((epoch + 1) / model.epochs),
        loss_of=shaping.loss(network) if shaping else None,
    )
    network.requires_grad_(False)
    identity = Identity(model.name, input_spec, classes, digest="")
    return Target(network, identity, accuracy(network, train.images, train.labels))


def cached_target(
    scenario: Scenario,
    train: LabelledImages,
    input_spec: TensorSpec,
    classes: int,
    folder: Path,
    report: Callable[[float], None] = lambda fraction: None,
    shaping: Shaping | None = None,
) -> Target:
    """The scenario's target from an earlier run in `folder`, else trained now and kept there."""
    shape = f".{shaping.cut}.{shaping.defense!r}" if shaping else ""
    path = folder / "targets" / f"{scenario.key('data', 'model')}{shape}.safetensors"
    facts = path.with_name(path.name.removesuffix(".safetensors") + ".json")
    if path.exists() and facts.exists():
        network, identity = load_model(path)
        network.requires_grad_(False)
        return Target(network, identity, json.loads(facts.read_bytes())["train_accuracy"])
    target = train_target(scenario, train, input_spec, classes, report, shaping)
    identity = save_model(path, target.network, target.identity)
    write_atomically(facts, json.dumps({"train_accuracy": target.train_accuracy}).encode())
    return Target(target.network, identity, target.train_accuracy)
