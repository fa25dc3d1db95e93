"""Small hosted models, hosts and customers that several tests share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attacks.knowledge import Auxiliary
from attacks.oracle import PredictionOracle
from attacks.output_attack import Access, Goal, OutputAttack, OutputKnowledge, Victims
from parties.customer import Customer, prediction_hello
from parties.explanations import Explanation, explainer
from parties.hosted_model import HostedModel, hosted_network
from parties.in_process import InProcessChannel
from parties.model_host import ModelHost, Offer
from parties.query_ledger import QueryLedger
from split_models.tabular.columns import Column, check_rows, row_spec
from split_models.tabular.growing import Growth, grow_tree
from split_models.tabular.linear import fit_linear
from tests.support import CLASSES, image_spec, network, smooth_images

COLUMNS = (Column("secret", ("no", "yes")), Column("colour", ("red", "green", "blue")), Column("age"))
SENSITIVE = 0


def people(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows (N, 3) of COLUMNS and classes (N,) from 0 to 2 that follow from the secret and the colour."""
    generator = torch.Generator().manual_seed(seed)
    secret = torch.rand(count, generator=generator) < 0.3
    colour = torch.randint(0, 3, (count,), generator=generator)
    age = 20 + 50 * torch.rand(count, generator=generator)
    labels = (secret.long() + colour) % 3
    return torch.stack([secret.float(), colour.float(), age], dim=1), labels


def tabular_model(kind: str = "tree") -> tuple[nn.Module, int]:
    """A fitted tree or regression over `people`, with its number of classes."""
    rows, labels = people(300)
    if kind == "tree":
        return grow_tree(COLUMNS, rows, labels, 3, Growth()), 3
    response = 4 * rows[:, 0] + rows[:, 1] + 0.02 * rows[:, 2]
    return fit_linear(COLUMNS, rows, response, 0, 1e-6), 0


def host_of(model: HostedModel, budget: int = 100_000, **offer: Any) -> ModelHost:
    """A host with one customer, `alice`."""
    offer.setdefault("answers", model.forms()[-1])
    ledger = QueryLedger(None, {"alice": budget})
    return ModelHost(model, Offer(**offer), ledger, torch.Generator().manual_seed(0))


def hosted_tabular(kind: str = "tree") -> HostedModel:
    """The tabular model as a host holds it."""
    model, classes = tabular_model(kind)
    found = hosted_network(kind, model, row_spec(COLUMNS), classes)
    return HostedModel(**{**found.__dict__, "check": lambda rows: check_rows(COLUMNS, rows)})


def hosted_lenet() -> HostedModel:
    """An untrained network over pictures as a host holds it."""
    return hosted_network("lenet", network("lenet", 1), image_spec("lenet", 1), CLASSES)


@dataclass
class OutputStage:
    """A hosted model with everything that a threat model can grant a customer."""

    hosted: HostedModel
    victims: Victims
    columns: tuple[Column, ...] | None = None
    performance: Tensor | None = None
    budget: int = 100_000
    offer: dict[str, Any] = field(default_factory=dict)
    connect: Callable[[ModelHost], Customer] | None = None

    def knowledge(self) -> OutputKnowledge:
        """Every access at once, over a session of its own."""
        self.host = host_of(self.hosted, self.budget, **self.offer)
        hello = prediction_hello("alice", self.hosted.name, self.hosted.input_spec)
        customer = self.connect(self.host) if self.connect else Customer(InProcessChannel(self.host, hello))
        self.oracle = PredictionOracle(customer, self.hosted.input_spec, self.budget)
        rows, labels = people(40, seed=5)
        inputs = smooth_images(8, self.hosted.input_spec, 1) if self.columns is None else rows
        labels = torch.arange(8) % max(self.hosted.classes, 1) if self.columns is None else labels
        return OutputKnowledge(
            input_spec=self.hosted.input_spec,
            classes=self.hosted.classes,
            columns=self.columns,
            oracle=self.oracle,
            explained=self.oracle,
            model=self.hosted.network,
            marginals=(torch.tensor([0.7, 0.3]), torch.ones(3) / 3, rows[:, 2]),
            performance=self.performance,
            auxiliary=Auxiliary(inputs, labels, inputs[:4].clone(), labels[:4]),
        )


def stage_for(attack: type[OutputAttack], **options: Any) -> OutputStage:
    """The smallest stage on which an attack's goal makes sense."""
    if attack.goal is Goal.ATTRIBUTE:
        kind = "linear" if attack.name == "map_regression" else "tree"
        rows, labels = people(12, seed=9)
        response = labels if kind == "tree" else 4 * rows[:, 0] + rows[:, 1] + 0.02 * rows[:, 2]
        known = rows.clone()
        known[:, SENSITIVE] = 0
        performance = 100 * torch.eye(3) + 1 if kind == "tree" else torch.tensor([0.1])
        return OutputStage(hosted_tabular(kind), Victims(response, known, SENSITIVE), COLUMNS, performance, **options)
    hosted = hosted_lenet()
    images = smooth_images(5, hosted.input_spec, 3)
    victims = Victims(torch.arange(3), outputs=hosted.outputs(images))
    if Access.EXPLANATIONS in attack.requires:
        explain, labels = explainer(hosted, Explanation.GRADIENT)[1], hosted.outputs(images).argmax(1)
        victims = dataclasses.replace(victims, explanations=explain(images, labels))
        options["offer"] = {"explanation": Explanation.GRADIENT, **options.get("offer", {})}
    return OutputStage(hosted, victims, performance=torch.eye(CLASSES), **options)


def fast_output(attack: type[OutputAttack]) -> OutputAttack:
    """An attack with two of whatever it counts, found by the names of its settings."""
    counted = ("iterations", "epochs", "steps", "rounds", "restarts")
    names = [name for name in attack.Settings.model_fields if name.endswith(counted)]
    return attack(attack.Settings(**dict.fromkeys(names, 2)))


def invert(attack: OutputAttack, knowledge: OutputKnowledge, victims: Victims, seed: int = 0) -> Tensor:
    """Prepare and invert with one generator."""
    attack.prepare(knowledge, torch.Generator().manual_seed(seed))
    return attack.invert(victims)
