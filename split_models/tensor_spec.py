"""What a tensor that crosses a boundary looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "int64": torch.int64,
    "uint8": torch.uint8,
}
"""Every dtype a tensor may have at a boundary, by its name."""


class SpecError(ValueError):
    """A tensor does not fit the spec it was declared with."""


@dataclass(frozen=True)
class TensorSpec:
    """Shape, dtype and value range of one sample; the leading batch dimension is never part of it."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SpecError(f"unknown dtype {self.dtype!r}; use one of {', '.join(DTYPES)}")
        if any(size < 1 for size in self.shape):
            raise SpecError(f"every dimension must be at least 1, got shape {self.shape}")

    @classmethod
    def of(cls, batch: Tensor) -> TensorSpec:
        """The spec of one sample of `batch` (N, …), without a value range."""
        return cls(tuple(batch.shape[1:]), str(batch.dtype).removeprefix("torch."))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> TensorSpec:
        """The inverse of `dataclasses.asdict`, from JSON where tuples have become lists."""
        return cls(**{**fields, "shape": tuple(fields["shape"])})

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return DTYPES[self.dtype]

    @property
    def elements(self) -> int:
        """How many numbers one sample has."""
        return math.prod(self.shape)

    @property
    def bytes_per_sample(self) -> int:
        """How many bytes one sample takes in this dtype."""
        return self.elements * self.torch_dtype.itemsize

    def check(self, batch: Tensor, what: str = "tensor") -> Tensor:
        """Return `batch` (N, *shape) unchanged if it fits.

        Raises:
            SpecError: wrong shape or dtype, or a value outside [low, high].
        """
        if tuple(batch.shape[1:]) != self.shape or batch.ndim != len(self.shape) + 1:
            raise SpecError(f"{what}: expected shape (N, {', '.join(map(str, self.shape))}), got {tuple(batch.shape)}")
        if batch.dtype != self.torch_dtype:
            raise SpecError(f"{what}: expected dtype {self.dtype}, got {batch.dtype}; convert it with .to()")
        # Written so that a NaN, which compares as false with everything, does not pass.
        if batch.numel() and self.low is not None and not batch.min().item() >= self.low:
            raise SpecError(f"{what}: expected values of at least {self.low}, got {batch.min().item():.4g}")
        if batch.numel() and self.high is not None and not batch.max().item() <= self.high:
            raise SpecError(f"{what}: expected values of at most {self.high}, got {batch.max().item():.4g}")
        return batch
