"""The attacker's own images as a file, on their way from the runner to the process that attacks."""

from __future__ import annotations

from torch import Tensor

from attacks.knowledge import Auxiliary
from parties.datasets.dataset import LabelledImages

FIELDS = ("images", "labels", "validation_images", "validation_labels")
ATTRIBUTE, HELD_OUT = "attribute.", "validation_attribute."


def packed(auxiliary: LabelledImages, validation: LabelledImages) -> dict[str, Tensor]:
    """What the attacker is handed of its own images, as the tensors of one file."""
    tensors = (auxiliary.images, auxiliary.labels, validation.images, validation.labels)
    attributes = {f"{ATTRIBUTE}{name}": values for name, values in auxiliary.attributes.items()}
    held_out = {f"{HELD_OUT}{name}": values for name, values in validation.attributes.items()}
    return {**dict(zip(FIELDS, tensors, strict=True)), **attributes, **held_out}


def unpacked(tensors: dict[str, Tensor]) -> Auxiliary:
    """The inverse of `packed`."""

    def named(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}

    return Auxiliary(
        **{field: tensors[field] for field in FIELDS},
        attributes=named(ATTRIBUTE),
        validation_attributes=named(HELD_OUT),
    )
