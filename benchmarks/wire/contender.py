"""What every way of carrying a tensor has to offer to be measured beside the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

REPLY_BYTES = 2560
"""What comes back: as many bytes as 640 logits have."""


@dataclass(frozen=True)
class Setting:
    """What a pair of processes is started for."""

    size: int  # bytes of float32 numbers that go up; for whole steps, the batch size
    wire_dtype: str = "float32"
    certificates: str = ""  # a folder; empty is plaintext


class Contender(ABC):
    """One way of carrying a tensor to another process and a small reply back.

    A worker process makes one of these and calls either `serve` or `connect`.
    """

    @abstractmethod
    def serve(self, setting: Setting) -> str:
        """Start answering in the background; the address."""

    @abstractmethod
    def connect(self, address: str, setting: Setting) -> None:
        """Make ready to send tensors of `setting.size` bytes to `address`."""

    def disconnect(self) -> None:  # noqa: B027  whoever cannot, keeps the one it has
        """Give the connection up, where `connect` can make another one."""

    @abstractmethod
    def exchange(self, count: int, in_flight: int) -> None:
        """Send `count` tensors, at most `in_flight` unanswered, and wait for every reply."""

    def computed_s(self) -> float:
        """Seconds that this end has spent on anything but carrying."""
        return 0.0
