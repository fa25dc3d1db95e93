"""A network with its defense up, for cells that look closer at what crosses the wire than a trial's record does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attacks import ATTACKS, make_attack
from attacks.attack import granted
from attacks.knowledge import Auxiliary, Knowledge, KnownDefense, Observation
from defenses import Defense, put_up
from experiments.papers.paper import Workplace
from experiments.runner import Prepared, prepare, target_of
from experiments.scenario import Scenario
from experiments.target import Target
from parties.datasets import load
from parties.datasets.dataset import LabelledImages
from split_models.randomness import generator_for, layers_from
from split_models.split_model import output_spec, split
from split_models.training import accuracy
from split_models.zoo import build

Sent = Callable[[Tensor], Tensor]
"""Inputs → what the owner sends for them."""


@dataclass(frozen=True)
class Stage:
    """One cut of one network under one defense; every random draw follows from the seed and a purpose."""

    prepared: Prepared
    target: Target
    cut: str
    guard: Defense
    seed: int

    def through(self, guard: Defense, inputs: Tensor, purpose: str) -> Tensor:
        """What a defense lets through of inputs (N, *shape), with an owner who draws for this purpose."""
        return as_sent(self.target.cut(self.cut).head, guard, generator_for(self.seed, purpose))(inputs)

    def accuracy(self, guard: Defense | None = None) -> float:
        """Of the network on the test part, through this defense or another."""
        parts, test = self.target.cut(self.cut), self.prepared.parts["test"]
        through = as_sent(parts.head, guard or self.guard, generator_for(self.seed, "accuracy through the defense"))
        return accuracy(lambda inputs: parts.tail(through(inputs)), test.images, test.labels)

    def attacked(
        self, attack: str, settings: Mapping[str, Any], seen: Tensor, guard: Defense, place: Workplace
    ) -> Tensor:
        """What an attack that is granted everything makes of `seen`, activations that `guard` let through."""
        running = make_attack(attack, dict(settings))
        running.progress = lambda fraction: place.report((1 + fraction) / 2)
        learnt, validation = (self.prepared.parts[name] for name in ("auxiliary", "validation"))
        queries, own = (generator_for(self.seed, attack, purpose) for purpose in ("queries", "attack"))
        knowledge = dataclasses.replace(
            everything(self.target, self.cut, learnt, validation),
            query=as_sent(self.target.cut(self.cut).head, guard, queries),
            defense=KnownDefense(guard.protect_inputs, guard.protect),
        )
        running.prepare(granted(knowledge, ATTACKS[attack]), own)
        return running.reconstruct(Observation(seen))


def staged(table: Mapping[str, Any], place: Workplace) -> Stage:
    """The stage of a scenario with one cut and one defense, as its TOML would read; networks are kept in `place`."""
    scenario = Scenario.model_validate({"name": "paper", **table})
    (trial,) = scenario.trials()
    folder = place.folder / "trials"

    def say(step: str, fraction: float) -> None:
        place.report(fraction / 2)

    raw = load(scenario.data.name, place.data_dir)
    prepared = prepare(scenario, folder, raw, say)
    target = target_of(trial, prepared, folder, say)
    crossing = output_spec(target.cut(trial.cut).head, raw.input_spec)
    guard = put_up(trial.defense.name, trial.defense.settings, raw.input_spec, crossing, target.defense_state)
    return Stage(prepared, target, trial.cut, guard, scenario.seed)


def as_sent(head: nn.Module, guard: Defense, generator: torch.Generator) -> Sent:
    """The owner's side of the wire as a function, which draws from `generator`."""

    def sent(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return guard.protect(head(guard.protect_inputs(inputs, generator)), generator)

    return sent


def everything(target: Target, cut: str, learnt: LabelledImages, validation: LabelledImages) -> Knowledge:
    """Every capability at a cut without a defense; each attack gets what it asks for alone."""
    parts, identity = target.cut(cut), target.identity

    def query(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            answers: Tensor = parts.head(identity.input_spec.check(inputs, "queries"))
        return answers

    def fresh_head(generator: torch.Generator) -> nn.Module:
        with layers_from(generator):
            network = build(identity.model, identity.input_spec, identity.classes)
        return split(network, cut).head

    return Knowledge(
        input_spec=identity.input_spec,
        activation_spec=output_spec(parts.head, identity.input_spec),
        head=parts.head,
        fresh_head=fresh_head,
        query=query,
        query_budget=2 * len(learnt),
        tail=parts.tail,
        auxiliary=Auxiliary(learnt.images, learnt.labels, validation.images, validation.labels),
    )
