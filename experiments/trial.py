"""One trial as the parties play it: inference over the wire, then each attack on what the server saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from attacks import on_smashed_data
from attacks.knowledge import Capability
from attacks.readings import READINGS
from experiments.crew import SERVER, Crew
from experiments.keeping import place_of
from experiments.scenario import Named, Trial
from split_models.checkpoints import load_tensors
from split_models.randomness import seed_for

Attacked = tuple[Named, dict[str, Any], Tensor | None]
"""An entry of the scenario, the server's answer, and what was found, a row an observed activation."""


@dataclass(frozen=True)
class Played:
    """What came out of a trial, before anybody judges it."""

    inference: dict[str, dict[str, Any]]  # per owner: predictions by request id, and cost
    attacks: list[Attacked]  # with reconstructions
    readings: list[Attacked]  # with how likely each value of the secret is
    on_wire: Tensor  # activations as the server decoded them
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
    opened = crew.ask({SERVER: ("begin", {"model": scenario.model.name, "tail": str(checkpoints["tail"])})})[SERVER]
    begin = {owner: _beginning(trial, owner, checkpoints["head"], defense, scratch.parent) for owner in owners}
    begun = crew.ask({owner: ("begin", arguments) for owner, arguments in begin.items()})
    infer = {"address": opened["address"], "batch_size": scenario.owners.batch_size}
    inference = crew.ask(dict.fromkeys(owners, ("infer", infer)))
    seen_path = scratch / "seen.safetensors"
    rows = crew.ask({SERVER: ("show", {"output": str(seen_path)})})[SERVER]["rows"]
    seen, _ = load_tensors(seen_path)
    address, auxiliary = begun[owners[0]]["query_address"], scratch.parent / "auxiliary.safetensors"
    offered = _grants(trial, checkpoints["head"], defense, address, auxiliary)
    attacks: list[Attacked] = []
    readings: list[Attacked] = []
    for entry in (*scenario.attacks, *scenario.readings):
        wanted = on_smashed_data(entry.name).wants()
        grants = {capability: offer for capability, offer in offered.items() if capability in wanted}
        place = place_of(trial, entry, grants, begin[owners[0]], checkpoints["tail"], kept)
        kind = readings if entry.name in READINGS else attacks
        kind.append(_attack(trial, entry, grants, place, crew, scratch, say))
    crew.ask({**{owner: ("end", {}) for owner in owners}, SERVER: ("end", {})})
    whose = [(owner, request, row) for owner, request, row in rows]
    return Played(inference, attacks, readings, seen["activations"], whose)


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
    grants: dict[str, Any],
    kept: Path | None,
    crew: Crew,
    scratch: Path,
    say: Callable[[str, float], None],
) -> Attacked:
    step = f"{trial.label}: {entry.name}"
    say(step, 0.0)
    output = scratch / "found.safetensors"
    output.unlink(missing_ok=True)
    output = scratch / "found.safetensors"
    output.unlink(missing_ok=True)
    arguments = {
        "attack": entry.name,
        "settings": entry.settings,
        "grants": grants,
        "seed": seed_for(trial.scenario.seed, "attacker"),
        "threads": trial.scenario.threads,
        "output": str(output),
        "kept": str(kept.resolve()) if kept else None,
    }
    command = {SERVER: ("attack", arguments)}
    answer = crew.ask(command, report=lambda name, fraction: say(step, fraction))[SERVER]
    found = None if "refused" in answer else load_tensors(output)[0]["found"]
    return entry, answer, found


def _grants(trial: Trial, head: Path, defense: dict[str, Any], query_address: str, auxiliary: Path) -> dict[str, Any]:
    """What each granted capability consists of; what is not granted never reaches the server's process."""
    everything: dict[Capability, Any] = {
        Capability.HEAD: str(head),
        Capability.ARCHITECTURE: True,
        Capability.DEFENSE: defense,
        Capability.QUERIES: {"address": query_address, "budget": trial.scenario.threat_model.query_budget},
        Capability.TAIL: True,
        Capability.AUXILIARY: str(auxiliary),
    }
    return {capability.value: everything[capability] for capability in trial.scenario.threat_model.grants}
