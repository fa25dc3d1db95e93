"""The contract of an image prior: what an attacker believes of images before it sees an activation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from attacks.attack import Progress
from attacks.knowledge import Capability, Knowledge
from split_models.tensor_spec import TensorSpec


class Prior(ABC):
    """Says where a search begins, what its variables mean, and which images cost more.

    A subclass writes `penalty`. One that searches something else than pixels also writes `begin` and `images`.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Capability]] = frozenset()  # left out where this is not granted
    of_pixels: ClassVar[bool] = True  # are the variables the pixels themselves?
    step: ClassVar[float] = 1.0  # first step of a search, relative to that for pixels
    quadratic: ClassVar[bool] = False  # is the penalty a quadratic form of pixels? then linear heads are solved

    def prepare(
        self, knowledge: Knowledge, generator: torch.Generator, report: Progress = lambda fraction: None
    ) -> None:
        """Learn what the prior needs; every random draw comes from `generator`."""
        return

    def begin(self, activations: Tensor, spec: TensorSpec) -> Tensor:
        """Where the search starts: variables (N, …), one row a victim, independent of the other rows."""
        return activations.new_full((len(activations), *spec.shape), middle(spec))

    def images(self, variables: Tensor) -> Tensor:
        """The images (N, C, H, W) that variables stand for."""
        return variables

    @abstractmethod
    def penalty(self, images: Tensor, begun: Tensor) -> Tensor:
        """What each image costs, (N, C, H, W) → (N,); `begun` are the variables from which the search started."""


def value_range(spec: TensorSpec) -> tuple[float, float]:
    """The lowest and the highest pixel value; [0, 1] where a spec does not say."""
    return (0.0 if spec.low is None else spec.low), (1.0 if spec.high is None else spec.high)


def middle(spec: TensorSpec) -> float:
    """Mid-grey."""
    return sum(value_range(spec)) / 2
