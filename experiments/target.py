"""The target network: trained once per data, model and seed, kept beside the records, and cut into its parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from defenses import Defense, FrozenSplit, TrainingPlan, put_up
from experiments.keeping import alone
from experiments.metrics.identification import evaluator_network, train_evaluator
from experiments.scenario import Model, Scenario
from parties.datasets.dataset import LabelledImages
from split_models.checkpoints import Identity, load_model, load_tensors, save_model, save_tensors, write_atomically
from split_models.randomness import generator_for, layers_from
from split_models.split_model import SplitModel, output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.training import accuracy, train_classifier
from split_models.zoo import build

Report = Callable[[float], None]


@dataclass(frozen=True)
class Target:
    """A trained network with what it reached on its training part."""

    network: nn.Module
    identity: Identity
    train_accuracy: float
    defense_state: dict[str, Tensor] = field(default_factory=dict)  # what the defense has learnt with it
    defense_notes: dict[str, Any] = field(default_factory=dict)

    def cut(self, at: str) -> SplitModel:
        """Its head and tail at a cut."""
        return split(self.network, at)

    def save_parts(self, folder: Path, at: str) -> dict[str, Path]:
        """Write head, tail and, if it has learnt something, the defense's state; returns their paths by part."""
        paths = {part: folder / f"{at}.{part}.safetensors" for part in ("head", "tail")}
        for part, path in paths.items():
            save_model(path, self.network, Identity(**{**self.identity.__dict__, "cut": at, "part": part}))
        if self.defense_state:
            paths["defense"] = folder / f"{at}.defense.safetensors"
            save_tensors(paths["defense"], self.defense_state)
        return paths


@dataclass(frozen=True)
class Guarded:
    """A defense at the cut where it will be used, while the network is trained with it or it is fitted to that."""

    defense: Defense
    cut: str

    def loss(self, network: nn.Module, generator: torch.Generator) -> Callable[[Tensor, Tensor], Tensor]:
        """The task's cross-entropy through both halves, with what the defense adds and does in training."""
        parts, defense = split(network, self.cut), self.defense

        def of(images: Tensor, labels: Tensor) -> Tensor:
            activations = parts.head(defense.training_inputs(images, generator))
            sent, added = defense.training_pass(images, activations, labels, generator)
            return cross_entropy(parts.tail(sent), labels) + added

        return of

    def around_training(
        self, network: nn.Module, plan: TrainingPlan, generator: torch.Generator
    ) -> AbstractContextManager[Callable[[], None]]:
        """What the defense does around the training of its head, and between gradients and steps."""
        return self.defense.around_training(split(network, self.cut).head, plan, generator)

    def attach(self, network: nn.Module, input_spec: TensorSpec, generator: torch.Generator) -> None:
        """Make the defense's own layers, initialised from `generator`."""
        with layers_from(generator):
            self.defense.attach(input_spec, output_spec(split(network, self.cut).head, input_spec))

    def fit(self, network: nn.Module, train: LabelledImages, generator: torch.Generator, report: Report) -> None:
        """Let the defense learn against the frozen network."""
        parts = split(network, self.cut)
        self.defense.fit(FrozenSplit(parts.head, parts.tail, train.images, train.labels), generator, report)
        self.defense.eval()


def train_target(
    model: Model,
    seed: int,
    train: LabelledImages,
    input_spec: TensorSpec,
    classes: int,
    report: Report = lambda fraction: None,
    guarded: Guarded | None = None,
) -> Target:
    """Train a scenario's network; every random draw follows from its seed, the same with a defense and without."""
    generator = generator_for(seed, "target")
    with layers_from(generator):
        network = build(model.name, input_spec, classes)
    defenses: list[nn.Module] = []
    around: AbstractContextManager[Callable[[], None]] = nullcontext(lambda: None)
    if guarded:
        guarded.attach(network, input_spec, generator_for(seed, "defense's layers"))
        defenses = [guarded.defense.train()]
        plan = TrainingPlan(len(train), model.batch_size, model.epochs)
        around = guarded.around_training(network, plan, generator_for(seed, "defense on gradients"))
    with around as before_step:
        train_classifier(
            network,
            train.images,
            train.labels,
            epochs=model.epochs,
            batch_size=model.batch_size,
            learning_rate=model.learning_rate,
            generator=generator,
            after_epoch=lambda epoch: report((epoch + 1) / model.epochs),
            before_step=before_step,
            loss_of=guarded.loss(network, generator_for(seed, "defense in training")) if guarded else None,
            together_with=defenses,
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
    report: Report = lambda fraction: None,
) -> Target:
    """The scenario's target from an earlier run in `folder`, else trained now and kept there."""
    path = folder / "targets" / f"{scenario.key('data', 'model')}.safetensors"
    model, seed = scenario.model, scenario.seed
    return _cached(path, model.name, lambda: train_target(model, seed, train, input_spec, classes, report))


def guarded_target(
    scenario: Scenario, guarded: Guarded, bare: Target, train: LabelledImages, folder: Path, report: Report
) -> Target:
    """The network a defense is used with, and what the defense has learnt: from an earlier run, else made now.

    `bare` is the network as it is trained without a defense, which a defense that does not act in training keeps.
    """
    name = f"{scenario.key('data', 'model')}.{guarded.cut}.{_digest(guarded.defense)}"
    path = folder / "targets" / f"{name}.safetensors"
    return _cached(path, scenario.model.name, lambda: trained_with(scenario, guarded, bare, train, report))


def trained_with(
    scenario: Scenario, guarded: Guarded, bare: Target, train: LabelledImages, report: Report = lambda fraction: None
) -> Target:
    """The network a defense is used with, and what the defense has learnt; `bare` as in `guarded_target`."""
    defense, identity = guarded.defense, bare.identity
    if defense.trains:
        model, seed = scenario.model, scenario.seed
        target = train_target(model, seed, train, identity.input_spec, identity.classes, report, guarded)
    else:
        target = bare
        guarded.attach(bare.network, identity.input_spec, generator_for(scenario.seed, "defense's layers"))
    guarded.fit(target.network, train, generator_for(scenario.seed, "fitting the defense"), report)
    return replace(target, defense_state=defense.state(), defense_notes=defense.notes)


def cached_evaluator(scenario: Scenario, train: LabelledImages, classes: int, folder: Path) -> nn.Module:
    """The independent classifier of an earlier trial on the same data, else trained now and kept."""
    path = folder / "targets" / f"{scenario.key('data')}.evaluator.safetensors"
    with alone(path):
        if path.exists():
            evaluator = evaluator_network(TensorSpec.of(train.images), classes)
            evaluator.load_state_dict(load_tensors(path)[0])
            return evaluator.eval()
        evaluator = train_evaluator(train, classes, scenario.seed)
        save_tensors(path, evaluator.state_dict())
        return evaluator


def _cached(path: Path, model: str, make: Callable[[], Target]) -> Target:
    facts = path.with_name(path.name.removesuffix(".safetensors") + ".json")
    state = path.with_name(path.name.removesuffix(".safetensors") + ".defense.safetensors")
    with alone(path):
        return _found(path, model, facts, state) or _made(make(), path, facts, state)


def _found(path: Path, model: str, facts: Path, state: Path) -> Target | None:
    if path.exists() and facts.exists():
        network, identity = load_model(path, model)
        network.requires_grad_(False)
        learnt = load_tensors(state)[0] if state.exists() else {}
        return Target(network, identity, defense_state=learnt, **json.loads(facts.read_bytes()))
    return None


def _made(target: Target, path: Path, facts: Path, state: Path) -> Target:
    identity = save_model(path, target.network, target.identity)
    if target.defense_state:
        save_tensors(state, target.defense_state)
    known = {"train_accuracy": target.train_accuracy, "defense_notes": target.defense_notes}
    write_atomically(facts, json.dumps(known).encode())
    return replace(target, identity=identity)


def defended(target: Target, cut: str, name: str, settings: dict[str, Any], seed: int) -> Callable[[Tensor], Tensor]:
    """The network with its defense, as the owners and the server compute it together: inputs → logits."""
    parts, inputs = target.cut(cut), target.identity.input_spec
    defense = put_up(name, settings, inputs, output_spec(parts.head, inputs), target.defense_state)
    generator = generator_for(seed, "accuracy through the defense")

    def of(images: Tensor) -> Tensor:
        sent = defense.protect(parts.head(defense.protect_inputs(images, generator)), generator)
        answers: Tensor = parts.tail(sent)
        return answers

    return of


def _digest(defense: Defense) -> str:
    return hashlib.blake2b(repr(defense).encode(), digest_size=8).hexdigest()
