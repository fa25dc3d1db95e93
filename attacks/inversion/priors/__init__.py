"""Image priors of the white box by name: one file each, or one for several that belong together.

To add one, write a file with a subclass of `Prior` and add it to `PRIORS`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from attacks.inversion.priors.deep_image import DeepImagePrior
from attacks.inversion.priors.learned import LearnedPrior
from attacks.inversion.priors.prior import Prior
from attacks.inversion.priors.pyramid import Pyramid
from attacks.inversion.priors.smoothness import Ridge, SquaredVariation, TotalVariation

PRIORS: dict[str, type[Prior]] = {
    cls.name: cls for cls in (TotalVariation, SquaredVariation, Ridge, Pyramid, DeepImagePrior, LearnedPrior)
}


def _known(name: str) -> str:
    if name not in PRIORS:
        raise ValueError(f"unknown prior; use one of: {', '.join(PRIORS)}")
    return name


PriorName = Annotated[str, AfterValidator(_known)]
"""A registered prior, as settings take it."""
