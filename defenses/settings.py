"""Checks of settings that defenses share."""

from __future__ import annotations

import math

from defenses.defense import DefenseError


def checked(defense: str, setting: str, value: float, most: float = math.inf) -> float:
    """A strength: a finite number from 0, where it is no defense, to `most`.

    Raises:
        DefenseError: naming the setting and what it may be.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DefenseError(f"{defense}: expected {setting} as a number, got {value!r}")
    if not math.isfinite(value) or not 0 <= value <= most:
        bounds = "of at least 0" if math.isinf(most) else f"from 0 to {most:g}"
        raise DefenseError(f"{defense}: expected {setting} {bounds}, got {value}; 0 switches it off")
    return float(value)
