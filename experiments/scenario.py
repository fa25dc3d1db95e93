"""Strict typed scenarios: what a run is made of, read from TOML, with overrides from the command line."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attacks import make_attack, make_reading
from attacks.knowledge import Capability
from defenses import DefenseError, make_defense
from experiments.mistakes import in_words
from experiments.overrides import OverrideError, apply_overrides, labelled
from parties.datasets.dataset import PARTS
from split_models.cut_points import check_cut
from split_models.own_models import is_own, source_digest
from split_models.split_model import cut_names, output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.traced_graph import SplitError
from split_models.zoo import build, check_name


class ScenarioError(ValueError):
    """A scenario is misspelt, incomplete or contradicts itself; the message says where and what is valid."""


Kind = TypeVar("Kind", bound=BaseModel)


class Strict(BaseModel):
    """A table whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Strict):
    """[data]: what the parties hold, in images per part; the parts share no image."""

    name: str = Field(default="digits", description="a registered data set, or the path of an .npz")
    train: int = Field(default=1000, ge=2, description="the target's training part")
    auxiliary: int = Field(default=500, ge=2, description="what the attacker learns from")
    validation: int = Field(default=100, ge=2, description="what the attacker chooses by")
    victims: int = Field(default=64, ge=1, description="private inputs that are sent and attacked")
    test: int = Field(default=100, ge=1, description="held-out images on which accuracy is measured")
    tuning: int = Field(default=0, ge=0, description="held out from every seed; strengths of defenses are chosen on it")

    @property
    def content(self) -> str:
        """SHA-256 of a user's own file, which may change behind its name; empty for a registered data set."""
        path = Path(self.name)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".npz" and path.is_file() else ""

    @property
    def sizes(self) -> dict[str, int]:
        """Images per part, as `partition` takes them."""
        return {part: getattr(self, part) for part in PARTS}


class Model(Strict):
    """[model]: the target network and how it is trained before it is split."""

    name: str = Field(default="lenet", description="of the zoo, or module:factory")
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="of Adam, annealed to 0 along a cosine")

    @property
    def code(self) -> dict[str, str]:
        """SHA-256 of a user's own module, which may change behind its name; nothing for a network of the zoo."""
        return {"code": source_digest(self.name)} if is_own(self.name) else {}


class Owners(Strict):
    """[owners]: who holds the victims, in equal shares."""

    count: int = Field(default=1, ge=1, le=64, description="processes, one each")
    batch_size: int = Field(default=16, ge=1, description="images per message")
    repeats: int = Field(default=1, ge=1, le=1000, description="how often each input is sent, with fresh randomness")


class ThreatModel(Strict):
    """[threat_model]: what the untrusted server is granted; an attack that needs more is refused."""

    grants: tuple[Capability, ...] = tuple(Capability)
    query_budget: int = Field(default=10_000, ge=0, description="images that the owner answers for the attacker")
    unaware_too: bool = Field(default=True, description="run what uses the defense once more without knowing of it")


class Named(BaseModel):
    """One entry of [[defenses]] or [[attacks]]: a registered name, and settings that its own class checks."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """The name with its settings, as tables show it."""
        return labelled(self.name, self.settings)


class Scenario(Strict):
    """A whole run: every cut under every defense, attacked by every attack."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    seed: int = Field(default=0, ge=0)
    transport: Literal["grpc", "in-process"] = "grpc"
    threads: int = Field(default=1, ge=1, le=256, description="of the target's training and of each attack")
    data: Data = Data()
    model: Model = Model()
    cuts: tuple[str, ...] = Field(min_length=1)
    owners: Owners = Owners()
    defenses: tuple[Named, ...] = Field(default=(Named(name="none"),), min_length=1)
    attacks: tuple[Named, ...] = Field(min_length=1)
    readings: tuple[Named, ...] = ()
    threat_model: ThreatModel = ThreatModel()

    def trials(self) -> Iterator[Trial]:
        """Every cut with every defense."""
        for cut in self.cuts:
            for defense in self.defenses:
                yield Trial(scenario=self, cut=cut, defense=defense)

    def attack_label(self, entry: Named, withheld: frozenset[Capability] = frozenset()) -> str:
        """What tables call an attack or a reading: its name, with its settings where the name is there repeatedly.

        An attack from which something granted is withheld is called unaware.
        """
        alone = sum(other.name == entry.name for other in (*self.attacks, *self.readings)) == 1
        label = entry.name if alone else entry.label
        return f"{label} unaware" if withheld else label

    def key(self, *parts: str) -> str:
        """16 hex digits over the named fields: equal for equal content, whatever its order in the file."""
        content = self.model_dump(mode="json", include=set(parts) | {"seed", "threads"})
        return hash_of({**content, "content": self.data.content, **self.model.code})


class Trial(Strict):
    """One cut under one defense: the unit of work, with one record."""

    scenario: Scenario
    cut: str
    defense: Named

    @property
    def key(self) -> str:
        """16 hex digits over all that could change the result; the transport cannot."""
        fields = {"data", "model", "owners", "attacks", "threat_model", "seed", "threads"}
        fields |= {"readings"} if self.scenario.readings else set()
        content = self.scenario.model_dump(mode="json", include=fields)
        return hash_of(
            {
                **content,
                "content": self.scenario.data.content,
                **self.scenario.model.code,
                "cut": self.cut,
                "defense": self.defense.model_dump(mode="json"),
            }
        )

    @property
    def label(self) -> str:
        """What tells this trial from the others of its scenario."""
        return f"{self.cut} · {self.defense.label}"


def bundled(folder: str = "scenarios") -> dict[str, str]:
    """What comes with the package in a folder of TOML files: name → description."""
    files = (resources.files("experiments") / folder).iterdir()
    tables = [tomllib.loads(file.read_text()) for file in files if file.name.endswith(".toml")]
    return {table["name"]: table.get("description", "") for table in sorted(tables, key=lambda table: table["name"])}


def read_table(name_or_path: str, folder: str = "scenarios") -> dict[str, Any]:
    """The TOML of a bundled file of that folder by its name, or of any file by its path.

    Raises:
        ScenarioError: neither of them, or no TOML.
    """
    path = Path(name_or_path)
    if name_or_path in bundled(folder):
        text = (resources.files("experiments") / folder / f"{name_or_path}.toml").read_text()
    elif path.is_file():
        text = path.read_text(errors="replace")
    else:
        names = ", ".join(bundled(folder))
        kind = "study" if folder == "studies" else "scenario"
        raise ScenarioError(f"no {kind} {name_or_path!r}: expected a TOML file or one of the bundled {names}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name_or_path} is not valid TOML: {error}") from error


def read_scenario(name_or_path: str, overrides: Sequence[str] = ()) -> Scenario:
    """A bundled scenario by its name, or one from a TOML file, with `key=value` overrides applied.

    Raises:
        ScenarioError: no such scenario, no TOML, an unknown key, or a value that is not allowed.
    """
    scenario = read_strict(Scenario, name_or_path, overrides)
    _check_names(scenario)
    return scenario


def read_strict(kind: type[Kind], name_or_path: str, overrides: Sequence[str], folder: str = "scenarios") -> Kind:
    """A scenario of any kind, bundled in a folder or from a file.

    Raises:
        ScenarioError: as `read_scenario`.
    """
    table = read_table(name_or_path, folder)
    try:
        apply_overrides(table, overrides)
    except OverrideError as error:
        raise ScenarioError(str(error)) from error
    return _validated(kind, table, name_or_path)


def scenario_of(table: Mapping[str, Any], source: str) -> Scenario:
    """The scenario that a table describes; `source` is what errors call it.

    Raises:
        ScenarioError: an unknown key or name, or a value that is not allowed.
    """
    scenario = _validated(Scenario, table, source)
    _check_names(scenario)
    return scenario


def _validated(kind: type[Kind], table: Mapping[str, Any], source: str) -> Kind:
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise ScenarioError(f"{source}: {in_words(error, kind)}") from error


def check_against_data(scenario: Scenario, input_spec: TensorSpec, classes: int) -> None:
    """Check that the network takes these images and has every cut of the scenario, and every defense fits there.

    Raises:
        ScenarioError: naming the cuts that there are, or what else would cross at a layer that is none, or why what
            crosses cannot be sent.
    """
    try:
        network = build(scenario.model.name, input_spec, classes)
        cuts = cut_names(network)
    except ValueError as error:
        raise ScenarioError(str(error)) from error
    for cut in scenario.cuts:
        if cut not in {*cuts, *dict(network.named_modules())}:
            raise ScenarioError(f"unknown cut {cut!r}: {scenario.model.name} has {', '.join(cuts)}")
        try:
            parts = split(network, cut)
            check_cut(network, parts, input_spec)
        except SplitError as error:
            raise ScenarioError(f"{scenario.model.name}: {error}") from error
        activation = output_spec(parts.head, input_spec)
        for entry in scenario.defenses:
            try:
                defense = make_defense(entry.name, entry.settings)
                defense.attach(input_spec, activation)
                defense.check_head(parts.head)
            except DefenseError as error:
                raise ScenarioError(f"{entry.label} at {cut}: {error}") from error


def _check_names(scenario: Scenario) -> None:
    try:
        check_name(scenario.model.name)
        for defense in scenario.defenses:
            make_defense(defense.name, defense.settings)
        for make, entries in ((make_attack, scenario.attacks), (make_reading, scenario.readings)):
            for entry in entries:
                make(entry.name, entry.settings)
    except ValueError as error:
        raise ScenarioError(str(error)) from error
    for what in ("defenses", "attacks", "readings"):
        labels = [entry.label for entry in getattr(scenario, what)]
        if len(set(labels)) != len(labels):
            raise ScenarioError(f"{what}: expected each entry once, got one twice; change a setting or drop it")
    if len(set(scenario.cuts)) != len(scenario.cuts):
        raise ScenarioError("cuts: expected each cut once, got one twice")


def hash_of(content: Any) -> str:
    """16 hex digits over anything that JSON can hold."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
