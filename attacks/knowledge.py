"""What an attacker was granted, and what it saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor, nn

from split_models.tensor_spec import TensorSpec


class Capability(StrEnum):
    """One thing a threat model may grant; the scenario file lists them by these names."""

    HEAD = "head"  # the owner's weights: white box
    ARCHITECTURE = "architecture"  # the head's layers without their weights
    DEFENSE = "defense"  # which defense runs, with which settings, but not its randomness
    QUERIES = "queries"  # inputs of the attacker's own through the owner's head, up to a budget
    TAIL = "tail"  # the server's own half
    AUXILIARY = "auxiliary"  # labelled images from the same distribution as the victims'
    REPEATS = "repeats"  # which messages carry the same input, where owners send it more than once


LABEL = "label"
"""What the task's own label is called among the secrets that can be read."""


@dataclass(frozen=True)
class Auxiliary:
    """Images (N, C, H, W) in the input's range with labels (N,): one part to learn from, one to choose by.

    `attributes` holds what else is known of each image, as whole numbers from 0 by name: (N,), int64.
    """

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    validation_attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def secret(self, name: str) -> tuple[Tensor, Tensor]:
        """The labels, which have the name LABEL, or an attribute: of the images to learn from and to choose by.

        Raises:
            KeyError: there is no such attribute.
        """
        if name == LABEL:
            return self.labels, self.validation_labels
        return self.attributes[name], self.validation_attributes[name]


Protect = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class KnownDefense:
    """What the owner's defense does, with randomness of the attacker's own: its draws come from a passed generator."""

    protect_inputs: Protect  # before the head: (N, C, H, W) → the same shape
    protect: Protect  # behind the head: (N, *shape) → the same shape


@dataclass(frozen=True)
class Knowledge:
    """All an attacker knows beforehand; None where the threat model does not grant it."""

    input_spec: TensorSpec
    activation_spec: TensorSpec
    head: Callable[[Tensor], Tensor] | None = None
    fresh_head: Callable[[torch.Generator], nn.Module] | None = None  # the same layers, initialised anew
    defense: KnownDefense | None = None
    query: Callable[[Tensor], Tensor] | None = None
    query_budget: int = 0  # images that may be asked about
    tail: Callable[[Tensor], Tensor] | None = None
    auxiliary: Auxiliary | None = None
    repeats: int | None = None  # how often the owner sends each input

    def as_sent(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the owner would send for images (N, C, H, W), as far as head and defense are known: (N, *shape).

        The defense draws from `generator`. Gradients reach the images.

        Raises:
            RuntimeError: the head is not known.
        """
        if self.head is None:
            raise RuntimeError("what the owner sends cannot be computed without its head; require Capability.HEAD")
        if self.defense is None:
            return self.head(images)
        return self.defense.protect(self.head(self.defense.protect_inputs(images, generator)), generator)

    def sightings(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """`as_sent` as often as the owner sends each input, without gradients: (N, repeats, *shape)."""
        with torch.no_grad():
            return torch.stack([self.as_sent(images, generator) for _ in range(self.repeats or 1)], dim=1)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What is granted."""
        return frozenset(need for need, field in FIELDS.items() if getattr(self, field) is not None)


FIELDS = {
    Capability.HEAD: "head",
    Capability.ARCHITECTURE: "fresh_head",
    Capability.DEFENSE: "defense",
    Capability.QUERIES: "query",
    Capability.TAIL: "tail",
    Capability.AUXILIARY: "auxiliary",
    Capability.REPEATS: "repeats",
}
"""Where Knowledge keeps each capability."""


@dataclass(frozen=True)
class Observation:
    """What the server decoded, one row a victim; all that the attack may look at.

    `activations` (N, *shape) are of one message for each input, `repeated` (N, repeats, *shape) of all messages that
    carry it, where the attacker was granted to know which these are.
    """

    activations: Tensor
    repeated: Tensor | None = None
