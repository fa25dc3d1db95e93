"""Strict typed training scenarios: `unsmash train`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from defenses import DefenseError, make_defense
from experiments.scenario import Named, ScenarioError, Strict, hash_of, read_strict
from parties.datasets.shares import SHARES, strips
from parties.protocols import Protocol, ProtocolError, find_protocol
from parties.protocols.protocol import Boundary
from parties.training.learner import Optimiser
from parties.wire.layout import WIRE_DTYPES
from split_models.split_model import output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.traced_graph import SplitError
from split_models.zoo import build

FOLDER = "training/scenarios"


class TrainingData(Strict):
    """[data]: what the owners hold together, and how it is divided among them."""

    name: str = Field(default="digits", description="a registered data set, or the path of an .npz")
    train: int = Field(default=600, ge=2, description="images, over all owners")
    test: int = Field(default=200, ge=1, description="held-out images on which accuracy is measured")
    shares: str = Field(default="equal", description="equal, label_skew, quantity or group")
    alpha: float = Field(default=0.5, gt=0, description="of the Dirichlet distribution: smaller is more unequal")

    @property
    def content(self) -> str:
        """SHA-256 of a user's own file, which may change behind its name; empty for a registered data set."""
        path = Path(self.name)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".npz" and path.is_file() else ""


class TrainingModel(Strict):
    """[model]: the network and its optimiser, the same on both sides of the cut."""

    name: str = "lenet"
    batch_size: int = Field(default=32, ge=1)
    micro_batches: int = Field(default=1, ge=1, le=16, description="parts of a batch that travel one behind the other")
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=2e-3, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of sgd")

    @property
    def optimiser_settings(self) -> Optimiser:
        """As learners take it."""
        return Optimiser(self.optimiser, self.learning_rate, self.momentum)


class TrainingOwners(Strict):
    """[owners]: how many, and what happens when one drops out, is late, or sends what cannot be used."""

    count: int = Field(default=1, ge=1, le=100_000, description="processes, one each; virtual ones on Flower")
    wire_dtype: str = Field(default="float32", description="float32, float16 or bfloat16 on the wire")
    policy: Literal["wait", "skip", "abort"] = Field(
        default="wait", description="start it again, leave it out of the round, or stop; a run goes on when given again"
    )
    restarts: int = Field(default=2, ge=0, le=100, description="of one owner in one round, under `wait`")
    patience_s: float = Field(default=300.0, gt=0, description="seconds without a batch after which an owner is late")
    checkpoint_batches: int = Field(default=50, ge=1, description="batches between checkpoints within a round")


class TrainingServerSettings(Strict):
    """[server]: what it remembers."""

    transcript_mb: float = Field(default=64.0, ge=0, description="bound of the transcript on disk; 0 keeps none")


class TrainingScenario(Strict):
    """A whole training: one protocol, one network, one division of the data."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    seed: int = Field(default=0, ge=0)
    protocol: str
    cuts: tuple[str, ...] = Field(min_length=1)
    rounds: int = Field(default=3, ge=1, description="passes of every owner over its data")
    labels_to_server: bool | None = Field(default=None, description="checked against the protocol, if given")
    data: TrainingData = TrainingData()
    model: TrainingModel = TrainingModel()
    owners: TrainingOwners = TrainingOwners()
    defense: Named = Named(name="none")
    server: TrainingServerSettings = TrainingServerSettings()

    @property
    def owner_names(self) -> list[str]:
        """All owners in order; the names sort that way too."""
        width = len(str(self.owners.count))
        return [f"owner-{number:0{width}}" for number in range(1, self.owners.count + 1)]

    @property
    def protocol_class(self) -> type[Protocol]:
        """The registered protocol."""
        return find_protocol(self.protocol)

    @property
    def key(self) -> str:
        """16 hex digits over all that could change the weights."""
        content = self.model_dump(mode="json", exclude={"name", "description", "server", "labels_to_server"})
        for unchanging in ("restarts", "patience_s", "checkpoint_batches"):
            content["owners"].pop(unchanging)
        return hash_of({**content, "content": self.data.content})

    def owner_input(self, whole: TensorSpec) -> TensorSpec:
        """One image as an owner holds it: a strip of columns where owners hold features of the same samples."""
        if not self.protocol_class.meets:
            return whole
        width = strips(whole.shape[-1], self.owners.count)[0].stop
        return TensorSpec((*whole.shape[:-1], width), whole.dtype, whole.low, whole.high)


def read_training_scenario(name_or_path: str, overrides: Sequence[str] = ()) -> TrainingScenario:
    """A bundled training scenario by its name, or one from a TOML file, with `key=value` overrides applied.

    Raises:
        ScenarioError: no such scenario, no TOML, an unknown key, or settings that its protocol cannot have.
    """
    scenario = read_strict(TrainingScenario, name_or_path, overrides, FOLDER)
    owners, data = scenario.owners, scenario.data
    try:
        protocol = scenario.protocol_class
        protocol.check(len(scenario.cuts), owners.count, scenario.model.micro_batches, scenario.labels_to_server)
        defense = make_defense(scenario.defense.name, scenario.defense.settings)
    except (ProtocolError, DefenseError) as error:
        raise ScenarioError(str(error)) from error
    if owners.policy == "skip" and (protocol.meets or owners.count == 1):
        raise ScenarioError(f"owners.policy: {scenario.protocol} needs every owner; expected wait or abort, got skip")
    if owners.wire_dtype not in WIRE_DTYPES:
        raise ScenarioError(f"owners.wire_dtype: expected one of {', '.join(WIRE_DTYPES)}, got {owners.wire_dtype!r}")
    if data.shares not in SHARES:
        raise ScenarioError(f"data.shares: expected one of {', '.join(SHARES)}, got {data.shares!r}")
    if protocol.meets and data.shares != "equal":
        raise ScenarioError(f"data.shares: owners of {scenario.protocol} hold the same samples; leave it at equal")
    if defense.fits:
        raise ScenarioError(f"defense: {defense.name} learns against a trained network; use it in `unsmash run`")
    if defense.per_sample_gradients:
        raise ScenarioError(
            f"defense: {defense.name} needs each sample's gradient by itself, and one of the whole batch comes back "
            "over the wire; use it in `unsmash run`"
        )
    if protocol.meets and defense.uses_labels:
        raise ScenarioError(f"defense: {defense.name} needs labels, which one {scenario.protocol} owner alone has")
    return scenario


def boundary_of(scenario: TrainingScenario, whole: TensorSpec, classes: int) -> Boundary:
    """What crosses the wire in this training.

    Raises:
        ScenarioError: the network does not take these images, or has no such cuts in this order.
    """
    inputs = scenario.owner_input(whole)
    try:
        parts = split(build(scenario.model.name, inputs, classes), scenario.cuts)
        activation = output_spec(parts.head, inputs)
        defense = make_defense(scenario.defense.name, scenario.defense.settings)
        defense.attach(inputs, activation)
        defense.check_head(parts.head)
    except (SplitError, ValueError) as error:
        raise ScenarioError(str(error)) from error
    if scenario.protocol_class.meets:
        return Boundary(activation, TensorSpec((classes,)), classes)
    return Boundary(activation, output_spec(parts.parts[1], activation), classes)
