"""What makes each defense stronger, and the search for the strength that costs so much accuracy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.overrides import assign
from experiments.scenario import Named

DROPS = (0.01, 0.03, 0.05)
"""Accuracy, as fractions, that a defense may cost."""

NEAR = 0.15
"""A cost that falls short of a drop by less than this fraction of it is near enough."""

EXACT = 1e-9
"""Fractions of accuracy closer than this are equal."""


@dataclass(frozen=True)
class Strength:
    """The setting that makes a defense stronger, from where it is hardly felt to where little is left.

    `setting` is written as `--set` takes it: that of a chain's second part is `parts.1.sigma`. `fixed` are the other
    settings. With `whole` it is a whole number.
    """

    defense: str
    setting: str
    weakest: float
    strongest: float
    fixed: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False

    def at(self, share: float) -> Named:
        """The defense at a share of the way, in [0, 1], in equal ratios."""
        value = self.weakest * (self.strongest / self.weakest) ** share
        table = {"name": self.defense, **copy.deepcopy(dict(self.fixed))}
        assign(table, self.setting, round(value) if self.whole else float(f"{value:.3g}"))
        return Named.model_validate(table)


STRENGTHS: dict[str, Strength] = {
    "gaussian_noise": Strength("gaussian_noise", "sigma", 0.1, 30.0),
    "laplace_noise": Strength("laplace_noise", "scale", 0.1, 20.0),
    "noise on inputs": Strength("gaussian_noise", "sigma", 0.02, 5.0, {"where": "input"}),
    "noise in training": Strength("gaussian_noise", "sigma", 0.1, 100.0, {"in_training": True}),
    "dropout_mask": Strength("dropout_mask", "rate", 0.1, 0.99),
    "top_k_mask": Strength("top_k_mask", "rate", 0.3, 0.999),
    "quantization": Strength("quantization", "bits", 6, 1, whole=True),
    "bottleneck": Strength("bottleneck", "rank", 64, 1, whole=True),
    "fisher_noise": Strength("fisher_noise", "mse", 1e-3, 100.0),
    "shredder": Strength("shredder", "inverse_snr", 0.05, 50.0, {"masks": 8}),
    "a fixed mask": Strength("shredder", "inverse_snr", 0.05, 500.0, {"masks": 1, "draw": "fixed"}),
    "nopeek": Strength("nopeek", "weight", 0.1, 100.0),
    "nopeek and noise": Strength(
        "chain",
        "parts.1.sigma",
        0.05,
        10.0,
        {"parts": [{"name": "nopeek", "weight": 1.0}, {"name": "gaussian_noise", "sigma": 0.0, "in_training": True}]},
    ),
    "mid": Strength("mid", "beta", 1e-5, 0.1),
    "adversarial_training": Strength("adversarial_training", "weight", 0.1, 300.0),
    "disco": Strength("disco", "rate", 0.1, 0.95),
    "cem": Strength("cem", "sigma", 0.1, 30.0),
    "dp_sgd": Strength("dp_sgd", "noise", 0.1, 30.0),
}
"""What is compared, by the name under which it is compared: defenses, a chain, and a negative control.

Mechanisms with ε have no place here: their clipping costs accuracy at any ε, and without it they are plain noise.
"""


@dataclass(frozen=True)
class Found:
    """For each drop the strongest defense whose cost was at most that, as a table; and the cost of all that were tried.

    A drop that even the weakest exceeds is left out.
    """

    chosen: dict[float, dict[str, Any]]
    costs: dict[str, float]  # by label, as fractions of accuracy


def tuned(strength: Strength, drops: Sequence[float], cost: Callable[[Named], float], steps: int) -> Found:
    """Search each drop's strongest affordable strength by bisection, in at most `steps` halvings.

    The search ends where the cost is NEAR the drop. Accuracy is taken to fall with strength; where it does not quite,
    what is found still costs no more than it may. What one drop has measured narrows the search for the next.
    """
    found, known = Found({}, {}), {0.0: 0.0, 1.0: 0.0}  # share of the way → cost

    def measured(share: float) -> float:
        entry = strength.at(share)
        if entry.label not in found.costs:
            found.costs[entry.label] = cost(entry)
        known[share] = found.costs[entry.label]
        return known[share]

    measured(0.0), measured(1.0)
    for drop in drops:
        if known[0.0] > drop + EXACT:
            continue
        high = min((share for share, price in known.items() if price > drop + EXACT), default=None)
        low = max(share for share, price in known.items() if price <= drop + EXACT and (high is None or share < high))
        for _ in range(steps):
            if high is None or known[low] >= (1 - NEAR) * drop:
                break
            middle = (low + high) / 2
            low, high = (middle, high) if measured(middle) <= drop + EXACT else (low, middle)
        found.chosen[drop] = strength.at(low).model_dump()
    return found
