"""The target network: trained once per data, model and seed, kept beside the records, and cut into its parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

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


def train_target(
    scenario: Scenario, train: LabelledImages, input_spec: TensorSpec, classes: int, report: Callable[[float], None]
) -> Target:
    """Train the scenario's network; every random draw follows from its seed."""
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
) -> Target:
    """The scenario's target from an earlier run in `folder`, else trained now and kept there."""
    path = folder / "targets" / f"{scenario.key('data', 'model')}.safetensors"
    facts = path.with_suffix(".json")
    if path.exists() and facts.exists():
        network, identity = load_model(path)
        network.requires_grad_(False)
        return Target(network, identity, json.loads(facts.read_bytes())["train_accuracy"])
    target = train_target(scenario, train, input_spec, classes, report)
    identity = save_model(path, target.network, target.identity)
    write_atomically(facts, json.dumps({"train_accuracy": target.train_accuracy}).encode())
    return Target(target.network, identity, target.train_accuracy)
