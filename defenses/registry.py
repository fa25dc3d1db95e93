"""What the registries of defenses share: from a name and settings to an object, with errors that name the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, TypeVar

from defenses.defense import DefenseError

Made = TypeVar("Made")


def from_registry(registry: Mapping[str, type[Made]], kind: str, name: str, settings: Mapping[str, Any]) -> Made:
    """A defense of any registry; `kind` is what errors call it.

    Raises:
        DefenseError: an unknown name, an unknown or missing setting, or a setting out of range.
    """
    if name not in registry:
        raise DefenseError(f"unknown {kind} {name!r}; use one of: {', '.join(registry)}")
    taken = {p.name: p for p in signature(registry[name]).parameters.values() if p.kind is p.KEYWORD_ONLY}
    there = ", ".join(taken) or "none"
    if unknown := sorted(set(settings) - set(taken)):
        raise DefenseError(f"{name}: unknown setting {unknown[0]!r}; there are: {there}")
    if missing := [key for key, one in taken.items() if one.default is one.empty and key not in settings]:
        raise DefenseError(f"{name}: expected {missing[0]}, got no such setting; there are: {there}")
    return registry[name](**settings)
