"""What trials share: made once, by whoever needs it first, and kept under a hash of all that it depends on."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import attacks
import defenses
import parties
import split_models
from attacks import make_attack, on_smashed_data
from attacks.attack import Attack, Learnt
from attacks.knowledge import Capability, Knowledge
from attacks.readings import READINGS
from experiments.scenario import Named, Trial, hash_of
from split_models.checkpoints import digest, load_tensors, save_tensors

GENERATOR = "state of the generator"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time make a file: others wait and find it. A process that dies lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepared(attack: Attack, knowledge: Knowledge, generator: torch.Generator, path: Path | None) -> None:
    """Let an attack learn, or take what an earlier one kept at `path`; None keeps nothing.

    Raises:
        AttackRefused: as `Attack.prepare`.
        CheckpointError: the file is broken.
    """
    if path is None:
        attack.prepare(knowledge, generator)
        return
    with alone(path):
        if path.exists():
            tensors, metadata = load_tensors(path)
            state = tensors.pop(GENERATOR)
            attack.prepare(knowledge, generator, Learnt(tensors, json.loads(metadata["notes"]), state))
            return
        attack.prepare(knowledge, generator)
        if learnt := attack.learnt():
            tensors = {**learnt.tensors, GENERATOR: learnt.generator}
            save_tensors(path, tensors, {"notes": json.dumps(learnt.notes)})


def place_of(
    trial: Trial, entry: Named, grants: Mapping[str, Any], owner: Mapping[str, Any], tail: Path, folder: Path
) -> Path | None:
    """Where below `folder` one attack of a trial keeps what it learns: named by a hash of all that could change that.

    `grants` is what the attack is handed, by capability; `owner` is what the owner was told who answers its queries.
    None where several attacks ask the owner, as the answers to one depend on those before it, and for attacks that know
    the defense, whose copy goes on drawing where learning left it.
    """
    scenario = trial.scenario
    every = (*scenario.attacks, *scenario.readings)
    asking = [other for other in every if Capability.QUERIES in on_smashed_data(other.name).wants()]
    if entry.name in READINGS:  # these learn in seconds
        return None
    if Capability.DEFENSE in grants or (Capability.QUERIES in grants and len(asking) > 1):
        return None
    known: dict[str, Any] = dict(grants)
    for capability in {Capability.HEAD, Capability.AUXILIARY} & set(known):
        known[capability] = content_of(known[capability])
    if Capability.TAIL in known:
        known[Capability.TAIL] = content_of(tail)
    if Capability.QUERIES in known:
        known[Capability.QUERIES] = _told({**owner, "images": None})
    content = {
        "attack": [entry.name, make_attack(entry.name, entry.settings).settings.model_dump(mode="json")],
        "known": known,
        "network": [scenario.model.name, scenario.model.code, trial.cut],
        "data": [scenario.data.name, scenario.data.content],
        "owners": scenario.owners.model_dump(mode="json", exclude={"count", "batch_size"}),
        "drawn": [scenario.seed, scenario.threads],
        "software": software(),
    }
    return folder / f"{entry.name}.{hash_of(content)}.safetensors"


def transcript_place(trial: Trial, owners: Mapping[str, Mapping[str, Any]], tail: Path, folder: Path) -> Path:
    """Where below `folder` the transcript of a trial is kept; `owners` is what each of them was told."""
    content = {
        "owners": {name: _told(owner) for name, owner in owners.items()},
        "tail": content_of(tail),
        "network": [trial.scenario.model.name, trial.scenario.model.code, trial.cut],
        "sending": trial.scenario.owners.model_dump(mode="json"),
        "software": software(),
    }
    return folder / f"transcript.{hash_of(content)}.safetensors"


def _told(owner: Mapping[str, Any]) -> dict[str, Any]:
    """What an owner was told, files by their content."""
    defense = {**owner["defense"], "state": content_of(owner["defense"]["state"])}
    return {**owner, **{name: content_of(owner[name]) for name in ("head", "images")}, "defense": defense}


def content_of(path: Path | str | None) -> str:
    """A hash of the tensors and metadata in a file, which safetensors writes in any order; empty without a file."""
    if path is None:
        return ""
    tensors, metadata = load_tensors(Path(path))
    return hash_of([digest(tensors), metadata])


@functools.cache
def software() -> str:
    """SHA-256 over what computes: torch's version and the sources of the parties and of every floor below them."""
    total = hashlib.sha256(torch.__version__.encode())
    here = Path(__file__).parent
    paths = [here / "roles.py", here / "trial.py"]
    for package in (split_models, defenses, parties, attacks):
        paths += sorted(Path(package.__path__[0]).rglob("*.py"))
    for path in paths:
        total.update(f"{path.relative_to(here.parent)}|".encode() + path.read_bytes())
    return total.hexdigest()
