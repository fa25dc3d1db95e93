"""The attacks by name.

To add one, write a file with a subclass of `ActivationAttack` and add it to `ATTACKS`. Readings, which do not rebuild
inputs, are in `attacks.readings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from attacks.attack import ActivationAttack, Attack
from attacks.on_activations.adversarial_shadow import AdversarialShadow
from attacks.on_activations.aligned_shadow import AlignedShadow
from attacks.on_activations.foreign_shadow import ForeignShadow
from attacks.on_activations.inverse_network import InverseNetwork
from attacks.on_activations.model_reconstruction import ModelReconstruction
from attacks.on_activations.random_queries import RandomQueries
from attacks.on_activations.regularized_inversion import RegularizedInversion
from attacks.on_activations.shadow_model import ShadowModel
from attacks.output_attack import OutputAttack
from attacks.reading import Reading
from attacks.readings import READINGS

ATTACKS: dict[str, type[ActivationAttack]] = {
    cls.name: cls
    for cls in (
        RegularizedInversion,
        InverseNetwork,
        RandomQueries,
        ModelReconstruction,
        ShadowModel,
        AlignedShadow,
        AdversarialShadow,
        ForeignShadow,
    )
}


class AttackError(ValueError):
    """An attack is unknown or has wrong settings."""


AnyAttack = TypeVar("AnyAttack", ActivationAttack, OutputAttack, Reading)


def make_attack(name: str, settings: dict[str, Any] | None = None) -> ActivationAttack:
    """An attack on smashed data by its registry name.

    Raises:
        AttackError: an unknown name, an unknown setting, or a setting out of range.
    """
    return from_registry(ATTACKS, name, settings)


def make_reading(name: str, settings: dict[str, Any] | None = None) -> Reading:
    """A reading of smashed data by its registry name.

    Raises:
        AttackError: as `make_attack`.
    """
    return from_registry(READINGS, name, settings)


def on_smashed_data(name: str) -> type[Attack]:
    """The class of an attack or a reading by its registry name.

    Raises:
        KeyError: no such name.
    """
    return READINGS[name] if name in READINGS else ATTACKS[name]


def from_registry(
    registry: Mapping[str, type[AnyAttack]], name: str, settings: dict[str, Any] | None = None
) -> AnyAttack:
    """An attack of any registry by its name.

    Raises:
        AttackError: an unknown name, an unknown setting, or a setting out of range.
    """
    if name not in registry:
        raise AttackError(f"unknown attack {name!r}; use one of: {', '.join(registry)}")
    cls = registry[name]
    unknown = sorted(set(settings or {}) - set(cls.Settings.model_fields))
    if unknown:
        raise AttackError(f"{name}: unknown setting {unknown[0]!r}; use one of: {', '.join(cls.Settings.model_fields)}")
    try:
        return cls(cls.Settings(**(settings or {})))
    except ValidationError as error:
        first = error.errors()[0]
        raise AttackError(
            f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}"
        ) from error
