"""One record a trial: what was run, what leaked, what it cost, and how it can be run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.statistics import Summary
from split_models.checkpoints import write_atomically

MANIFEST = "run.json"


class RecordError(ValueError):
    """A record is missing or cannot be read."""


class Part(BaseModel):
    """A table of a record."""

    model_config = ConfigDict(extra="forbid")


class Leakage(Part):
    """How much of the victims was in a set of reconstructions; `per_victim` holds one value a victim."""

    psnr_db: Summary
    ssim: Summary
    mse: Summary
    identification: Summary  # fraction of victims whose label the independent classifier reads off
    dtw: Summary | None = None  # dynamic time warping, of series alone: 0 for a perfect copy
    per_victim: dict[str, list[float]]


class AttackOutcome(Part):
    """One attack: done, or refused with the reason."""

    name: str
    label: str
    settings: dict[str, Any]  # all of them, defaults included
    requires: list[str]
    uses: list[str]
    withheld: list[str] = []  # what is granted and it would use, left out to see what that is worth
    status: Literal["done", "refused"]
    reason: str = ""
    leakage: Leakage | None = None
    queries: int = 0  # images that the owner answered for it
    notes: dict[str, Any] = {}  # what the attack chose and noticed by itself


class Read(Part):
    """What a reading is worth on some of the victims."""

    victims: int
    majority: float  # how often the value that is most frequent among auxiliary images is right: the floor
    accuracy: Summary  # how often the likeliest value is right
    auc: Summary | None  # as below


class ReadingOutcome(Part):
    """One reading of a secret: done, or refused with the reason."""

    name: str
    label: str
    secret: str  # the task's label, or an attribute
    settings: dict[str, Any]
    requires: list[str]
    uses: list[str]
    withheld: list[str] = []  # of what was granted and it would have used
    status: Literal["done", "refused"]
    reason: str = ""
    values: int = 0  # how many the secret has
    majority: float = 0.0  # how often the value that is most frequent among auxiliary images is right: the floor
    accuracy: Summary | None = None  # how often the likeliest value is right
    auc: Summary | None = None  # area under the ROC curve, a value against the others, averaged; 0.5 is guessing
    right: list[bool] = []  # victim by victim
    owners: dict[str, Read] = {}  # the same on the victims of each owner, where there are several
    queries: int = 0
    notes: dict[str, Any] = {}


class Utility(Part):
    """What the task lost: accuracy on the victims' labels, as fractions."""

    train_accuracy: float  # of the attacked network on its training part
    accuracy: float  # of the network trained without a defense, on the test part, no wire
    accuracy_defended: float  # of the network with the defense at its cut, on the test part
    accuracy_over_wire: float  # of the logits that the owners got back for the victims
    evaluator_accuracy: float  # of the independent classifier on the victims themselves

    @property
    def drop(self) -> float:
        """How much accuracy the defense and the wire cost, as a fraction."""
        return self.accuracy - self.accuracy_defended


class Cost(Part):
    """What crossed the wire for inference, over all owners."""

    requests: int
    bytes_up: int
    bytes_down: int
    activation_shape: tuple[int, ...]
    bytes_per_image: int  # of the activation alone


class Dependence(Part):
    """How far the victims and what went onto the wire depend on each other: a diagnostic, no measure of leakage."""

    dcor: float  # biased: far above 0 for few samples in many dimensions, whatever they are
    dcor_unbiased: float  # U-centred and squared: about 0 for independent samples
    mutual_information_bits: float  # by nearest neighbours; biased in many dimensions
    mutual_information_shuffled_bits: float  # what the same estimator says when pairs are shuffled: its zero
    samples: int


class Victim(Part):
    """Whose image it was and what is on it."""

    index: int
    owner: str
    label: int


class Record(Part):
    """Everything about one trial; `provenance` and `timing` alone differ when it is run again."""

    schema_version: Literal[1] = 1
    key: str
    cut: str
    defense: str
    defense_notes: dict[str, Any] = {}  # what it reached while it was fitted
    scenario: dict[str, Any]
    threat_model: dict[str, Any]
    dataset: dict[str, Any]
    model_digest: str
    utility: Utility
    attacks: list[AttackOutcome]
    readings: list[ReadingOutcome] = []
    floors: dict[str, Leakage]
    dependence: Dependence | None = None
    cost: Cost
    victims: list[Victim]
    warnings: list[str]
    provenance: dict[str, Any]
    timing: dict[str, float]  # seconds

    @property
    def label(self) -> str:
        """Cut and defense, as tables show them."""
        return f"{self.cut} · {self.defense}"


def record_path(folder: Path, key: str) -> Path:
    """Where a trial's record is, below a run's folder."""
    return folder / "records" / f"{key}.json"


def pictures_path(folder: Path, key: str) -> Path:
    """Where a trial's pictures are: private images, reconstructions and floors as safetensors."""
    return folder / "records" / f"{key}.safetensors"


def write_record(folder: Path, record: Record) -> None:
    """Write a record atomically."""
    write_atomically(record_path(folder, record.key), (record.model_dump_json(indent=1) + "\n").encode())


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        RecordError: no such file, or another format.
    """
    try:
        return Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise RecordError(f"{path} is not a record of this version ({first}); run the scenario again") from error


def write_manifest(folder: Path, name: str, keys: list[str], **more: Any) -> None:
    """Note which records, in which order, make up the latest run in a folder; earlier ones stay for resuming."""
    content = json.dumps({"scenario": name, "keys": keys, **more}, indent=1) + "\n"
    write_atomically(folder / MANIFEST, content.encode())


def read_records(folder: Path) -> list[Record]:
    """The records of the latest run in a folder, in the order of its scenario; trials not yet run are left out.

    Raises:
        RecordError: the folder holds no run, no finished trial, or a record that cannot be read.
    """
    try:
        keys = [str(key) for key in json.loads((folder / MANIFEST).read_bytes())["keys"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{folder} holds no run ({error}); give the folder that `unsmash run` wrote") from error
    records = [read_record(record_path(folder, key)) for key in keys if record_path(folder, key).exists()]
    if not records:
        raise RecordError(f"{folder} holds no finished trial; run its scenario again")
    return records
