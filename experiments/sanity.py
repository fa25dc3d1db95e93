"""The evaluation questions itself: doubts about a trial, in words, that travel in its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attacks.knowledge import Capability
from experiments.record import AttackOutcome, Leakage, Utility

MARGIN_DB = 1.0
"""Differences of mean PSNR below this are not worth a doubt."""


def doubts(
    attacks: Sequence[AttackOutcome], floors: Mapping[str, Leakage], utility: Utility, *, random: bool, repeats: int
) -> list[str]:
    """What a careful reader would ask about these results.

    `random`: does the defense draw? `repeats`: how often was each input sent? An attack from
    which knowledge was withheld is there to be weak: it raises no doubt.
    """
    done = {outcome.label: outcome for outcome in attacks if outcome.leakage and not outcome.withheld}
    return [
        *_not_better_than_floor(done, floors),
        *_white_box_weaker(done),
        *_no_gradient(done),
        *(_random_defense(done, repeats) if random else []),
        *_utility(utility),
    ]


def defense_doubts(defense: str, notes: Mapping[str, Any]) -> list[str]:
    """What the defense's own notes give away."""
    # In a chain a note's name begins with its part.
    if any(note.endswith("movement") and moved < 1e-3 for note, moved in notes.items()):
        return [f"{defense}: its masks never moved from where they began, so nothing trained them; it is plain noise"]
    return []


def wire_doubts(undefended: Tensor, on_wire: Tensor, defense: str) -> list[str]:
    """Compare what a head computes with what the server decoded, both (N, *shape)."""
    # Another batch size may round the last bits differently; that is no defense.
    same = torch.allclose(undefended, on_wire, rtol=1e-4, atol=1e-4 * float(undefended.square().mean().sqrt()))
    if defense != "none" and same:
        return [f"{defense} changed nothing on the wire; at this strength it is no defense"]
    if defense == "none" and not same:
        return ["what the server decoded is not what the head computes, although there is no defense"]
    return []


def _psnr(outcome: AttackOutcome | Leakage) -> float:
    leakage = outcome.leakage if isinstance(outcome, AttackOutcome) else outcome
    assert leakage is not None
    return leakage.psnr_db.mean


def _not_better_than_floor(done: Mapping[str, AttackOutcome], floors: Mapping[str, Leakage]) -> list[str]:
    mean = _psnr(floors["mean_image"])
    return [
        f"{label} is no better than the mean image ({_psnr(outcome):.1f} against {mean:.1f} dB)"
        for label, outcome in done.items()
        if _psnr(outcome) <= mean
    ]


def _white_box_weaker(done: Mapping[str, AttackOutcome]) -> list[str]:
    white = {label: o for label, o in done.items() if Capability.HEAD in o.requires}
    others = {label: o for label, o in done.items() if Capability.HEAD not in o.requires}
    return [
        f"{label}, which knows the head, is weaker than {other}, which does not "
        f"({_psnr(outcome):.1f} against {_psnr(stronger):.1f} dB): the white box is not exhausted"
        for label, outcome in white.items()
        for other, stronger in others.items()
        if _psnr(stronger) > _psnr(outcome) + MARGIN_DB
    ]


def _no_gradient(done: Mapping[str, AttackOutcome]) -> list[str]:
    return [
        f"{label} met no gradient for {count} of its victims: its search stood still, which is no sign of privacy"
        for label, outcome in done.items()
        if (count := outcome.notes.get("without_gradient", 0))
    ]


def _random_defense(done: Mapping[str, AttackOutcome], repeats: int) -> list[str]:
    averaged = repeats > 1 and any(Capability.REPEATS in (*o.requires, *o.uses) for o in done.values())
    if averaged or not done:
        return []
    return ["the defense is random and no attack averaged; who sees an input repeatedly does (owners.repeats)"]


def _utility(utility: Utility) -> list[str]:
    found = []
    if utility.evaluator_accuracy < 0.9:
        found.append(
            f"the independent classifier is right on only {utility.evaluator_accuracy:.0%} of the victims themselves; "
            "identification figures are bounded by that"
        )
    if utility.drop > 0.1:
        found.append(f"the defense costs {utility.drop:.1%} of accuracy; compare defenses at equal cost")
    return found
