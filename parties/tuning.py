"""Everything that makes a party's process fast and is not in its code, in one place.

Call `tune_process` before torch and grpc are imported; this module imports neither. `UNSMASH_TUNING=off`
leaves a process as it is.

Why each of them:

- **malloc.** glibc gives every block above 128 KB back to the system when it is freed, and the next one
  of that size is a page fault for every 4 KB of it, which costs more than copying the tensor. The first
  three settings are needed together: blocks from the heap, a heap that is not trimmed, and one that grows
  in large steps. The fourth lets one thread use again what another has freed, which keeps the peak low.
- **Threads.** Two processes with two torch threads each on two cores wait for each other; one thread a
  core is faster by far. And threads that wait for each other sleep instead of spinning: when another process
  wants the core, a spinning thread burns the very time that the one it waits for needs.
- **Cores.** Only who starts all the processes can say which of them keeps to which cores (`share_of_cores`), and does
  so where they take turns: the system likes to wake a process on the core of the one that woke it, and what the two
  could do at the same time, they then do one after the other.
- **gRPC.** Its older event loop has fewer wake-ups a message. A grpc that no longer has it ignores this.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

SWITCH = "UNSMASH_TUNING"

_MALLOPT = (
    (-3, 1 << 30),  # M_MMAP_THRESHOLD: blocks below 1 GiB come from the heap
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: the heap is not given back
    (-2, 64 << 20),  # M_TOP_PAD: it grows by 64 MiB
    (-8, 1),  # M_ARENA_MAX: one heap for all threads
)
_EXPERIMENTS = "-event_engine_client,-event_engine_listener"


@dataclass(frozen=True)
class Tuning:
    """What was changed, for logs and records."""

    malloc: bool = False
    threads: int | None = None
    grpc: bool = False


def tune_process(processes: int = 2) -> Tuning:
    """Tune this process for being one of `processes` that share the machine.

    Args:
        processes: how many busy processes share the cores.
    """
    if _off():
        return Tuning()
    return Tuning(_tune_malloc(), _tune_threads(processes), _tune_grpc())


def share_of_cores(place: int, processes: int) -> frozenset[int] | None:
    """The cores for the `place`-th of so many processes; None, which is any core, where there are more than cores."""
    if _off() or not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // processes
    return frozenset(cores[place * each : (place + 1) * each]) if each else None


def _off() -> bool:
    return os.environ.get(SWITCH, "").lower() == "off"


def _tune_malloc() -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if mallopt is None or not sys.platform.startswith("linux"):
        return False
    return sum(int(mallopt(setting, value)) for setting, value in _MALLOPT) == len(_MALLOPT)


def _tune_threads(processes: int) -> int:
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "torch" in sys.modules:  # too late for the environment
        sys.modules["torch"].set_num_threads(threads)
    return threads


def _tune_grpc() -> bool:
    os.environ.setdefault("GRPC_EXPERIMENTS", _EXPERIMENTS)
    return "grpc" not in sys.modules
