"""What an honest-but-curious server remembers of training, at a bounded size on disk."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


class TrainingTranscript:
    """One file a training message: what came (activations, labels or gradients) and what went back.

    When the files outgrow `max_bytes`, every second of the steps that are kept is dropped, and from then on twice as
    many are passed over: what is kept covers all of training evenly, and never more than the bound.

    Args:
        folder: `owner/STEP-request.safetensors` below it; what an earlier process left there counts.
        max_bytes: of all files together; 0 keeps nothing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._sizes = {path: path.stat().st_size for path in sorted(folder.glob("*/*.safetensors"))}
        self._stride, steps = 1, [_step(path) for path in self._sizes]
        while (
            self._stride <= max(steps, default=0) and not any(s % (2 * self._stride) for s in steps) and self._full(2)
        ):
            self._stride *= 2

    def _full(self, share: int) -> bool:
        return sum(self._sizes.values()) * share > self._max_bytes

    def append(self, party: str, step: int, request: int, tensors: Mapping[str, Tensor]) -> None:
        """Remember one exchange in a step, unless it is one that is passed over."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        with self._lock:
            if step % self._stride or size > self._max_bytes:
                return
            path = self._folder / party / f"{step:09}-{request:09}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}")
            plain = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
            # Without a sync: a transcript that loses its last moments in a power cut is worth its speed.
            save_file(plain, beside)
            beside.replace(path)
            self._sizes[path] = path.stat().st_size
            while self._full(1):
                self._thin()

    def _thin(self) -> None:
        self._stride *= 2
        for path in [path for path in self._sizes if _step(path) % self._stride]:
            path.unlink(missing_ok=True)
            del self._sizes[path]
        if self._full(1) and all(_step(path) == 0 for path in self._sizes):
            oldest = next(iter(self._sizes))
            oldest.unlink(missing_ok=True)
            del self._sizes[oldest]


def _step(path: Path) -> int:
    return int(path.name.partition("-")[0])
