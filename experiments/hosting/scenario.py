"""Strict typed scenarios of a hosted model: what is trained, hosted, defended and asked."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from attacks import AttackError
from attacks.on_outputs import OUTPUT_ATTACKS, make_output_attack
from attacks.output_attack import Access, Goal
from defenses import DefenseError
from defenses.fitting import FITTING_DEFENSES, make_fitting_defense
from defenses.fitting_defense import FittingDefense
from defenses.on_outputs import OUTPUT_DEFENSES, make_output_defense
from defenses.output_defense import OutputDefense
from experiments.scenario import (
    Data,
    Model,
    Named,
    ScenarioError,
    Strict,
    bundled,
    hash_of,
    read_strict,
    read_table,
)
from parties.datasets import DATASETS, TABLES
from parties.explanations import Explanation, ExplanationError, explainer, unexplained
from parties.hosted_model import hosted_network
from split_models.answers import Answers
from split_models.own_models import is_own
from split_models.tabular.fitting import NetworkTraining
from split_models.tabular.growing import Growth
from split_models.zoo import build, check_name, typical_input

FOLDER = "hosting/scenarios"


class TableData(Strict):
    """[table]: what the model is trained on, and whose sensitive column is inferred."""

    name: str = Field(description="a registered table")
    train: float = Field(default=0.5, gt=0, lt=1, description="fraction of rows, stratified by class")
    victims: int = Field(default=1000, ge=1, description="at most so many of either part are attacked")


class TabularTarget(Strict):
    """[model]: the hosted model and how it is fitted."""

    kind: Literal["decision_tree", "linear", "network"] = "decision_tree"
    max_depth: int = Field(default=10, ge=1, le=64, description="of a tree")
    min_leaf: int = Field(default=1, ge=1, description="training rows in a tree's leaf")
    ridge: float = Field(default=1e-4, ge=0, description="of a linear model")
    hidden: int = Field(default=64, ge=1, description="width of a network")
    epochs: int = Field(default=40, ge=1, description="of a network")

    @property
    def growth(self) -> Growth:
        """How a tree grows."""
        return Growth(max_depth=self.max_depth, min_leaf=self.min_leaf)

    @property
    def network(self) -> NetworkTraining:
        """How a network is trained."""
        return NetworkTraining(hidden=self.hidden, epochs=self.epochs)


class HostSettings(Strict):
    """[host]: what customers get."""

    answers: Answers = Answers.SCORES
    explanation: Explanation = Field(default=Explanation.NONE, description="served beside predictions")
    max_batch: int = Field(default=1024, ge=1, description="inputs of one request")


class OutputThreatModel(Strict):
    """[threat_model]: what the customer who attacks is granted; an attack that needs more is refused."""

    grants: tuple[Access, ...] = tuple(Access)
    query_budget: int = Field(default=100_000, ge=0, description="inputs that each attack may ask about")


class PictureData(Data):
    """[data]: what the model is trained on, whose pictures are inverted, and what the attacker has seen."""

    first_private: int = Field(
        default=0, ge=0, description="the model knows classes from here on; the attacker has pictures of those below"
    )
    auxiliary_from: str = Field(default="", description="another data set that the attacker learns from instead")
    shrink: int = Field(default=1, ge=1, description="pictures are averaged over squares of so many pixels")
    per_class: int = Field(default=1, ge=1, description="inversions of each class; each has a picture of its own")
    known: Literal["", "masked", "blurred"] = Field(
        default="", description="what the attacker of a class has: nothing, or a corrupted picture of each victim"
    )


class HostRun(Strict):
    """A whole run: one model, hosted under every defense, attacked by every attack."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    seed: int = Field(default=0, ge=0)
    transport: Literal["grpc", "in-process"] = "grpc"
    host: HostSettings = HostSettings()
    defenses: tuple[Named, ...] = Field(default=(Named(name="none"),), min_length=1)
    attacks: tuple[Named, ...] = Field(min_length=1)
    threat_model: OutputThreatModel = OutputThreatModel()

    def attack_label(self, entry: Named) -> str:
        """What tables call an attack: its name, with its settings where the name is there more than once."""
        alone = sum(other.name == entry.name for other in self.attacks) == 1
        return entry.name if alone else entry.label

    def key(self, defense: Named) -> str:
        """16 hex digits over all that could change the result of one defense; the transport cannot."""
        content = self.model_dump(mode="json", exclude={"name", "description", "transport", "defenses"})
        if self.host.explanation is Explanation.NONE:
            del content["host"]["explanation"]  # so that records from before hosts explained keep their keys
        return hash_of({**content, **self.contents, "defense": defense.model_dump(mode="json")})

    @property
    def contents(self) -> dict[str, str]:
        """Digests of a user's own files, which may change behind their names."""
        return {}


class HostScenario(HostRun):
    """A tabular model, whose customers infer a sensitive column."""

    table: TableData
    model: TabularTarget = TabularTarget()


class PictureScenario(HostRun):
    """A network over pictures, whose customers look for what a class, or an input, looks like."""

    data: PictureData = PictureData()
    model: Model = Model()

    @property
    def contents(self) -> dict[str, str]:
        return {"content": self.data.content}


def make_host_defense(entry: Named) -> OutputDefense | FittingDefense | None:
    """The defense that an entry of [[defenses]] names; None for "none".

    Raises:
        DefenseError: an unknown name, or wrong settings.
    """
    if entry.name == "none":
        return None
    if entry.name in FITTING_DEFENSES:
        return make_fitting_defense(entry.name, entry.settings)
    if entry.name in OUTPUT_DEFENSES:
        return make_output_defense(entry.name, entry.settings)
    names = ", ".join(("none", *OUTPUT_DEFENSES, *FITTING_DEFENSES))
    raise DefenseError(f"unknown defense {entry.name!r}; use one of: {names}")


def bundled_hosts() -> dict[str, str]:
    """The scenarios of hosted models that come with the package: name → description."""
    return bundled(FOLDER)


def is_host_scenario(name_or_path: str) -> bool:
    """Whether this is a scenario of a hosted model: a bundled one, or a TOML file with a [table] or a [host]."""
    path = Path(name_or_path)
    if not path.is_file():
        return name_or_path in bundled_hosts()
    try:
        return bool({"table", "host"} & tomllib.loads(path.read_text(errors="replace")).keys())
    except tomllib.TOMLDecodeError:
        return False


def read_host_scenario(name_or_path: str, overrides: Sequence[str] = ()) -> HostScenario | PictureScenario:
    """A bundled scenario of a hosted model by its name, or one from a TOML file, with overrides applied.

    Raises:
        ScenarioError: no such scenario, an unknown key, or a value that is not allowed.
    """
    kind = HostScenario if "table" in read_table(name_or_path, FOLDER) else PictureScenario
    scenario = read_strict(kind, name_or_path, overrides, FOLDER)
    assert isinstance(scenario, HostScenario | PictureScenario)
    try:
        for defense in scenario.defenses:
            _check_suits(make_host_defense(defense), scenario)
        for attack in scenario.attacks:
            make_output_attack(attack.name, attack.settings)
    except (DefenseError, AttackError) as error:
        raise ScenarioError(f"{name_or_path}: {error}") from error
    _check_table(scenario) if isinstance(scenario, HostScenario) else _check_pictures(scenario)
    if scenario.host.explanation is not Explanation.NONE:
        _check_explains(scenario)
    for what in ("defenses", "attacks"):
        labels = [entry.label for entry in getattr(scenario, what)]
        if len(set(labels)) != len(labels):
            raise ScenarioError(f"{what}: expected each entry once, got one twice; change a setting or drop it")
    return scenario


def _check_suits(defense: OutputDefense | FittingDefense | None, scenario: HostScenario | PictureScenario) -> None:
    kind = scenario.model.kind if isinstance(scenario, HostScenario) else "a network over pictures"
    if isinstance(defense, FittingDefense) and kind not in defense.suits:
        raise DefenseError(f"{defense.name} suits {', '.join(sorted(defense.suits))}, got {kind}")


def _check_explains(scenario: HostScenario | PictureScenario) -> None:
    try:
        if isinstance(scenario, HostScenario):
            raise unexplained(scenario.model.kind)
        name, classes = scenario.model.name, 2
        spec = typical_input(name)
        with torch.device("meta"):  # which layers it has is all that matters
            network = build(name, spec, classes)
        explainer(hosted_network(name, network, spec, classes), scenario.host.explanation)
    except ExplanationError as error:
        raise ScenarioError(f"host.explanation: {error}") from error


def _check_table(scenario: HostScenario) -> None:
    if scenario.table.name not in TABLES:
        raise ScenarioError(f"unknown table {scenario.table.name!r}; use one of: {', '.join(TABLES)}")
    if wrong := [a.name for a in scenario.attacks if OUTPUT_ATTACKS[a.name].goal is not Goal.ATTRIBUTE]:
        raise ScenarioError(f"{wrong[0]} infers no column of a table; use one whose goal is an attribute")


def _check_pictures(scenario: PictureScenario) -> None:
    data, network = scenario.data, scenario.model.name
    for name in filter(None, (data.name, data.auxiliary_from)):
        if name not in DATASETS and not name.endswith(".npz"):
            raise ScenarioError(f"unknown data set {name!r}; use one of: {', '.join(DATASETS)}, or a path to an .npz")
    if is_own(network):
        raise ScenarioError(f"expected a network that a customer can load, got {network}; use one of `list models`")
    try:
        check_name(network)
    except ValueError as error:
        raise ScenarioError(str(error)) from error
    if data.first_private and data.auxiliary_from:
        raise ScenarioError("expected first_private or auxiliary_from, got both; the attacker learns from one of them")
    for attack in scenario.attacks:
        takes = getattr(make_output_attack(attack.name, attack.settings).settings, "known", data.known)
        if data.known and takes != data.known:
            raise ScenarioError(f"{attack.name} takes pictures for {takes}, and they are {data.known}; set its `known`")
    if scenario.host.answers is Answers.VALUE:
        raise ScenarioError("expected answers of label or scores, got value; a network over pictures has classes")
    if wrong := [a.name for a in scenario.attacks if OUTPUT_ATTACKS[a.name].goal is Goal.ATTRIBUTE]:
        raise ScenarioError(f"{wrong[0]} infers a column of a table; use one whose goal is a class or a sample")
