"""The defenses by name.

To add one, write a file with a subclass of `Defense` and add it to `DEFENSES`.
"""

from __future__ import annotations

from typing import Any

from defenses.defense import Defense as Defense
from defenses.defense import DefenseError as DefenseError
from defenses.defense import NoDefense
from defenses.during_training.nopeek import NoPeek
from defenses.on_activations.dropout_mask import DropoutMask
from defenses.on_activations.noise import GaussianNoise, LaplaceNoise

DEFENSES: dict[str, type[Defense]] = {
    cls.name: cls for cls in (NoDefense, GaussianNoise, LaplaceNoise, DropoutMask, NoPeek)
}


def make_defense(name: str, settings: dict[str, Any] | None = None) -> Defense:
    """A defense by its registry name.

    Raises:
        DefenseError: an unknown name, an unknown or missing setting, or a setting out of range.
    """
    if name not in DEFENSES:
        raise DefenseError(f"unknown defense {name!r}; use one of: {', '.join(DEFENSES)}")
    try:
        return DEFENSES[name](**(settings or {}))
    except TypeError as error:
        raise DefenseError(f"{name}: {error}".replace(f"{DEFENSES[name].__name__}.__init__() ", "")) from error
