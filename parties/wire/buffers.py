"""Memory for large tensors, used again once nobody holds the tensor that was in it."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGE_BYTES = 256 * 1024
"""Below it the heap does well by itself."""

KEPT_BYTES = 128 << 20
"""How much is kept for the next message, in the whole process."""


class Buffers:
    """Hands out flat tensors; without it every large message would leave a hole in the heap that the next
    one no longer fits into, and memory would grow to several times what is in flight."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._arrays: list[np.ndarray[Any, Any]] = []
        self._lock = threading.Lock()

    def take(self, elements: int, dtype: torch.dtype) -> Tensor:
        """A tensor (elements,) of `dtype` with any content, whose memory no other tensor shares."""
        size = elements * dtype.itemsize
        if size < LARGE_BYTES:
            return torch.empty(elements, dtype=dtype)
        with self._lock:
            array = self._find(size)
            if array is None:
                array = np.empty(size, dtype=np.uint8)
                self._keep(array)
        return torch.from_numpy(array).view(dtype)

    def _find(self, size: int) -> np.ndarray[Any, Any] | None:
        for index in range(len(self._arrays)):
            # A tensor and all its views hold the array they lie in: where only our list (and this very
            # call) does, there are none left.
            if self._arrays[index].nbytes == size and sys.getrefcount(self._arrays[index]) == 2:
                return self._arrays[index]
        return None

    def _keep(self, array: np.ndarray[Any, Any]) -> None:
        if array.nbytes > self._kept_bytes:
            return
        self._arrays.append(array)
        while sum(kept.nbytes for kept in self._arrays) > self._kept_bytes:
            del self._arrays[0]


buffers = Buffers()
