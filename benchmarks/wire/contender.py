"""What every way of carrying a tensor has to offer to be measured beside the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

REPLY_BYTES = 2560
"""What comes back: as many bytes as 640 logits have."""


@dataclass(frozen=True)
class Setting:
    """One column of the comparison."""

    size: int  # bytes of float32 numbers that go up
    in_flight: int = 1
    wire_dtype: str = "float32"
    tls: bool = False


class Contender(ABC):
    """One way of carrying a tensor to another process and a small reply back.

    A worker process makes one of these and calls either `serve` or `connect`.
    """

    tuned = True  # whether its processes get the project's tuning
    wire_dtypes: tuple[str, ...] = ("float32",)
    tls: tuple[bool, ...] = (False,)

    @abstractmethod
    def serve(self, setting: Setting) -> str:
        """Start answering in the background; the address."""

    @abstractmethod
    def connect(self, address: str, setting: Setting) -> None:
        """Make ready to send tensors of `setting.size` bytes to `address`."""

    @abstractmethod
    def exchange(self, count: int, in_flight: int) -> None:
        """Send `count` tensors, at most `in_flight` unanswered, and wait for every reply."""
