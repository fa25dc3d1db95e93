"""Attacks on a hosted model's outputs: one file each.

To add one, write a file with a subclass of `OutputAttack` and add it to `OUTPUT_ATTACKS`.
"""

from __future__ import annotations

from typing import Any

from attacks import from_registry
from attacks.on_outputs.explanation_inversion import ExplanationInversion
from attacks.on_outputs.gmi import Gmi
from attacks.on_outputs.map_inversion import MapConfusion, MapRegression, MapScores
from attacks.on_outputs.mi_face import MiFaceBlackBox, MiFaceWhiteBox
from attacks.on_outputs.training_based import TrainingBased
from attacks.on_outputs.tree_paths import TreePaths
from attacks.output_attack import OutputAttack

OUTPUT_ATTACKS: dict[str, type[OutputAttack]] = {
    cls.name: cls
    for cls in (
        *(MapRegression, MapConfusion, MapScores, TreePaths),
        *(MiFaceWhiteBox, MiFaceBlackBox, TrainingBased, ExplanationInversion, Gmi),
    )
}


def make_output_attack(name: str, settings: dict[str, Any] | None = None) -> OutputAttack:
    """An attack on outputs by its registry name.

    Raises:
        AttackError: an unknown name, an unknown setting, or a setting out of range.
    """
    return from_registry(OUTPUT_ATTACKS, name, settings)
