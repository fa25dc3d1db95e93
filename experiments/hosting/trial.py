"""One trial of a hosted model: fit it under a defense, host it, ask it honestly, attack it, judge."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from attacks.on_outputs import OUTPUT_ATTACKS, make_output_attack
from attacks.output_attack import Access
from defenses.fitting_defense import FittingDefense
from experiments.crew import Crew
from experiments.hosting.crew import ATTACKER, HONEST, HOST
from experiments.hosting.judging import bypassed_defense, distortion_of, idle_defense, utility_of
from experiments.hosting.record import PRIVATE, HostedAttack, HostedUtility, HostRecord
from experiments.hosting.scenario import make_host_defense
from experiments.hosting.stage import HOSTED, PLAIN, Stage
from experiments.provenance import provenance
from experiments.scenario import Named
from parties.hosted_model import load_hosted
from split_models.checkpoints import load_tensors
from split_models.randomness import seed_for

Say = Callable[[str, float], None]
Found = dict[tuple[str, str], Tensor]
"""What was found, by the attack's label and part."""
ALL_THAT_IS_ASKED = 1 << 40  # budget of the honest customer


def play_hosting(stage: Stage, entry: Named, key: str, crew: Crew, say: Say) -> tuple[HostRecord, dict[str, Tensor]]:
    """Everything about one defense, named by its entry of [[defenses]], with its pictures; `key` is its record's."""
    start, scenario = time.perf_counter(), stage.scenario
    say("fitting the model", 0.0)
    defense = make_host_defense(entry)
    refitted = isinstance(defense, FittingDefense)
    stage.fit(defense if isinstance(defense, FittingDefense) else None)
    customers = {f"attacker-{number}": attack for number, attack in enumerate(scenario.attacks)}
    opened = _open(stage, [] if defense is None or refitted else [entry], list(customers), crew)
    utility, explained = _worth(stage, opened, crew)
    found: Found = {}
    attacked = [_attack(stage, name, attack, opened, crew, say, found) for name, attack in customers.items()]
    used = crew.ask({HOST: ("end", {})})[HOST]["used"]
    (stage.scratch / "ledger").unlink()
    outcomes = [o.model_copy(update={"queries": used.get(n, 0)}) for n, o in zip(customers, attacked, strict=True)]
    record = HostRecord(
        key=key,
        defense=entry.label,
        scenario=scenario.model_dump(mode="json"),
        dataset=stage.dataset,
        utility=utility,
        explained=explained,
        attacks=outcomes,
        floors=stage.floors,
        ledger=used,
        warnings=[
            *stage.doubts(outcomes, utility, entry),
            *([] if defense is None or refitted else idle_defense(entry.label, utility)),
            *([] if defense is None or refitted else bypassed_defense(entry.label, scenario.host.explanation)),
        ],
        provenance=provenance(),
        timing={"trial": time.perf_counter() - start},
    )
    private = {f"{PRIVATE}{part}": images for part, images in stage.pictures().items()}
    shown = {f"{label} · {part}": images for (label, part), images in found.items()} if private else {}
    return record, private | shown


def _worth(stage: Stage, opened: dict[str, Any], crew: Crew) -> tuple[HostedUtility, tuple[int, ...]]:
    """What an honest customer gets, beside what the model without a defense would have said; an explanation's shape."""
    asked = {**opened, "inputs": str(stage.scratch / "asked"), "output": str(stage.scratch / "answers")}
    crew.ask({HONEST: ("predict", {**asked, "input_spec": stage.documented()["input_spec"]})})
    told = load_tensors(stage.scratch / "answers")[0]
    explanations = told.get("explanations")
    answers = stage.answered(told["answers"], explanations)
    inputs = load_tensors(stage.scratch / "asked")[0]["inputs"][: len(stage.truth)]
    own = load_hosted(stage.scratch / PLAIN).outputs(inputs)
    worth = HostedUtility(
        plain=utility_of(own, stage.truth),
        served=utility_of(answers, stage.truth),
        distortion=distortion_of(own, answers),
    )
    return worth, () if explanations is None else tuple(explanations.shape[1:])


def _open(stage: Stage, pipeline: list[Named], customers: list[str], crew: Crew) -> dict[str, Any]:
    scenario = stage.scenario
    offer = {
        "answers": scenario.host.answers.value,
        "explanation": scenario.host.explanation.value,
        "weights": Access.WEIGHTS in scenario.threat_model.grants,
        "max_batch": scenario.host.max_batch,
    }
    budgets = dict.fromkeys(customers, scenario.threat_model.query_budget) | {HONEST: ALL_THAT_IS_ASKED}
    arguments = {
        "checkpoint": str(stage.scratch / HOSTED),
        "offer": offer,
        "pipeline": [{"name": step.name, "settings": step.settings} for step in pipeline],
        "budgets": budgets,
        "ledger": str(stage.scratch / "ledger"),
        "own_inputs": str(stage.scratch / "own"),
        "seed": seed_for(scenario.seed, "host"),
    }
    opened: dict[str, Any] = crew.ask({HOST: ("begin", arguments)})[HOST]
    return opened


def _attack(
    stage: Stage, customer: str, entry: Named, opened: dict[str, Any], crew: Crew, say: Say, findings: Found
) -> HostedAttack:
    scenario, cls = stage.scenario, OUTPUT_ATTACKS[entry.name]
    wanted = {access for access in scenario.threat_model.grants if access in cls.requires | cls.uses}
    outcome = HostedAttack(
        name=entry.name,
        label=scenario.attack_label(entry),
        settings=make_output_attack(entry.name, entry.settings).settings.model_dump(mode="json"),
        requires=sorted(cls.requires),
        uses=sorted(cls.uses & wanted),
        status="done",
        inferred={},
        notes={},
    )
    left = scenario.threat_model.query_budget
    for part in stage.parts(cls.goal):
        step = f"{outcome.label} on {part}"
        offered = {access: offer for access, offer in stage.offered(left).items() if access in wanted}
        arguments = {**opened, "customer": customer, **_told_to_attacker(stage, entry, offered, part)}
        command = {ATTACKER: ("attack", arguments)}
        answer = crew.ask(command, report=lambda name, fraction: say(step, fraction))[ATTACKER]  # noqa: B023
        left -= answer["queries"]
        if "refused" in answer:
            return outcome.model_copy(update={"status": "refused", "reason": answer["refused"], "inferred": {}})
        found = load_tensors(stage.scratch / "found")[0]["found"]
        findings[outcome.label, part] = found
        outcome.inferred[part] = stage.judge(part, found)
        outcome.notes.update(answer["notes"])
    return outcome


def _told_to_attacker(stage: Stage, entry: Named, offered: dict[Access, Any], part: str) -> dict[str, Any]:
    """How the API is documented, what is granted, and whom to attack."""
    return {
        "public": stage.documented(),
        "grants": offered,
        "attack": entry.name,
        "settings": entry.settings,
        "victims": str(stage.scratch / f"victims {part}"),
        "seed": seed_for(stage.scenario.seed, "attacker"),
        "output": str(stage.scratch / "found"),
    }
