"""One trial as the parties play it: inference over the wire, then each attack on what the server saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from attacks import on_smashed_data
from attacks.knowledge import Capability
from attacks.readings import READINGS
from defenses import make_defense
from experiments.crew import SERVER, Crew
from experiments.keeping import alone, place_of, transcript_place
from experiments.scenario import Named, Trial
from split_models.checkpoints import load_tensors, write_atomically
from split_models.randomness import seed_for

MOST_KEPT_BYTES = 2**24
"""Larger transcripts are not kept for other trials: to send again is cheaper than to fill the disk."""


@dataclass(frozen=True)
class Attacked:
    """One attack or reading of a trial, and what came of it."""

    entry: Named
    withheld: frozenset[Capability]  # of what is granted
    answer: dict[str, Any]  # the server's
    found: Tensor | None  # reconstructions, or scores of a secret's values, one a victim; None where it was refused


@dataclass(frozen=True)
class Played:
    """What came out of a trial, before anybody judges it."""

    inference: dict[str, dict[str, Any]]  # per owner: predictions by request id, and cost
    attacks: list[Attacked]
    readings: list[Attacked]
    on_wire: Tensor  # activations as the server decoded them when each victim was sent for the first time
    rows: list[tuple[str, int, int]]  # for each row of on_wire: owner, request id, row of that message


def play(
    trial: Trial,
    crew: Crew,
    owners: list[str],
    checkpoints: dict[str, Path],
    scratch: Path,
    kept: Path,
    say: Callable[[str, float], None],
) -> Played:
    """Let the parties of `crew` run one trial; they exchange files with the runner in `scratch`.

    What each party may hold lies in the folder above, shared by all trials. Attacks keep what they learn in `kept`.
    """
    scenario = trial.scenario
    say(f"{trial.label}: inference over the wire", 0.0)
    defense = {
        "name": trial.defense.name,
        "settings": trial.defense.settings,
        "state": str(checkpoints["defense"]) if "defense" in checkpoints else None,
    }
    begin = {owner: _beginning(trial, owner, checkpoints["head"], defense, scratch.parent) for owner in owners}
    transcript = transcript_place(trial, begin, checkpoints["tail"], kept)
    with alone(transcript):
        begun, inference = _inferred(trial, begin, checkpoints["tail"], transcript, crew)
    repeats = scenario.owners.repeats
    seen_path = scratch / "seen.safetensors"
    rows = crew.ask({SERVER: ("show", {"output": str(seen_path)})})[SERVER]["rows"]
    on_wire = load_tensors(seen_path)[0]["activations"]
    seen = same_input([owner for owner, _, _ in rows], repeats)
    first = [each[0] for each in seen]
    address, auxiliary = begun[owners[0]]["query_address"], scratch.parent / "auxiliary.safetensors"
    offered = _grants(trial, checkpoints["head"], defense, address, auxiliary)
    attacked = []
    for entry, withheld in both_ways(trial):
        wanted = on_smashed_data(entry.name).wants() - withheld
        grants = {capability: offer for capability, offer in offered.items() if capability in wanted}
        place = place_of(trial, entry, grants, begin[owners[0]], checkpoints["tail"], kept)
        attacked.append(_attack(trial, entry, withheld, grants, seen, place, crew, scratch, say))
    crew.ask({**{owner: ("end", {}) for owner in owners}, SERVER: ("end", {})})
    return Played(
        inference,
        [one for one in attacked if one.entry.name not in READINGS],
        [one for one in attacked if one.entry.name in READINGS],
        on_wire[first],
        [(owner, request, row) for owner, request, row in map(rows.__getitem__, first)],
    )


def _inferred(
    trial: Trial, begin: Mapping[str, dict[str, Any]], tail: Path, place: Path, crew: Crew
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Begin, and let the owners send their inputs, unless a transcript of the same is kept at `place`.

    Returns what the owners said to begin with, and what came of the inference.
    """
    scenario, facts = trial.scenario, place.with_suffix(".json")
    found = facts.exists() and place.exists()
    arguments = {"model": scenario.model.name, "tail": str(tail), "transcript": str(place.resolve()) if found else None}
    opened = crew.ask({SERVER: ("begin", arguments)})[SERVER]
    begun = crew.ask({owner: ("begin", told) for owner, told in begin.items()})
    if found:
        return begun, json.loads(facts.read_bytes())
    sending = {"batch_size": scenario.owners.batch_size, "repeats": scenario.owners.repeats}
    inference = crew.ask(dict.fromkeys(begin, ("infer", {"address": opened["address"], **sending})))
    if sum(answer["cost"]["bytes_up"] for answer in inference.values()) <= MOST_KEPT_BYTES:
        crew.ask({SERVER: ("keep", {"output": str(place.resolve())})})
        write_atomically(facts, json.dumps(inference).encode())
    return begun, inference


def both_ways(trial: Trial) -> Iterator[tuple[Named, frozenset[Capability]]]:
    """Attacks and readings with what is withheld: who uses knowledge of a defense that acts also runs without it."""
    threat_model, defense = trial.scenario.threat_model, make_defense(trial.defense.name, trial.defense.settings)
    acts = defense.on_wire or defense.on_inputs
    unaware_too = threat_model.unaware_too and acts and Capability.DEFENSE in threat_model.grants
    for entry in (*trial.scenario.attacks, *trial.scenario.readings):
        yield entry, frozenset()
        if unaware_too and Capability.DEFENSE in on_smashed_data(entry.name).uses:
            yield entry, frozenset({Capability.DEFENSE})


def same_input(owners: Sequence[str], repeats: int) -> list[list[int]]:
    """Which rows of a transcript carry the same input, for each input in the order of first sightings.

    `owners` are the senders, row by row; each has sent all its inputs in order, and all of them again, `repeats` times.
    """
    rows: dict[str, list[int]] = {}
    for number, owner in enumerate(owners):
        rows.setdefault(owner, []).append(number)
    return [own[first :: len(own) // repeats] for own in rows.values() for first in range(len(own) // repeats)]


def _beginning(trial: Trial, owner: str, head: Path, defense: dict[str, Any], shared: Path) -> dict[str, Any]:
    """What an owner is told at the start; all that its answers to queries depend on."""
    return {
        "model": trial.scenario.model.name,
        "head": str(head),
        "images": str(shared / f"{owner}.safetensors"),
        "defense": defense,
        "query_budget": trial.scenario.threat_model.query_budget,
        "seed": seed_for(trial.scenario.seed, trial.cut, trial.defense.label, owner),
    }


def _attack(
    trial: Trial,
    entry: Named,
    withheld: frozenset[Capability],
    grants: dict[str, Any],
    seen: list[list[int]],
    kept: Path | None,
    crew: Crew,
    scratch: Path,
    say: Callable[[str, float], None],
) -> Attacked:
    step = f"{trial.label}: {trial.scenario.attack_label(entry, withheld)}"
    say(step, 0.0)
    output = scratch / "found.safetensors"
    output.unlink(missing_ok=True)
    arguments = {
        "attack": entry.name,
        "settings": entry.settings,
        "grants": grants,
        "seen": seen if Capability.REPEATS in grants else [each[:1] for each in seen],
        "seed": seed_for(trial.scenario.seed, "attacker"),
        "threads": trial.scenario.threads,
        "output": str(output),
        "kept": str(kept.resolve()) if kept else None,
    }
    command = {SERVER: ("attack", arguments)}
    answer = crew.ask(command, report=lambda name, fraction: say(step, fraction))[SERVER]
    found = None if "refused" in answer else load_tensors(output)[0]["found"]
    return Attacked(entry, withheld, answer, found)


def _grants(trial: Trial, head: Path, defense: dict[str, Any], query_address: str, auxiliary: Path) -> dict[str, Any]:
    """What each granted capability consists of; what is not granted never reaches the server's process."""
    everything: dict[Capability, Any] = {
        Capability.HEAD: str(head),
        Capability.ARCHITECTURE: True,
        Capability.DEFENSE: defense,
        Capability.QUERIES: {"address": query_address, "budget": trial.scenario.threat_model.query_budget},
        Capability.TAIL: True,
        Capability.AUXILIARY: str(auxiliary),
        Capability.REPEATS: trial.scenario.owners.repeats,
    }
    return {capability.value: everything[capability] for capability in trial.scenario.threat_model.grants}
