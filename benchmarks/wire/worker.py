"""One end of one contender in a process of its own, told what to do by lines of JSON.

    python -m benchmarks.wire.worker CONTENDER CORE SETTING_JSON [ADDRESS]

Without an address it serves and prints its own; with one it connects and prints a line when it is ready.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.wire.contender import Contender, Setting
from parties.tuning import tune_process

CONTENDERS = {
    "raw TCP": "raw_tcp.RawTcp",
    "unary protobuf": "unary.UnaryProtobuf",
    "bare gRPC stream": "bare_stream.BareStream",
    "ours": "ours.Ours",
    "pyzmq": "zmq_pair.ZeroMq",
    "torch rpc": "torch_rpc.TorchRpc",
    "inference step": "steps.InferenceStep",
    "training step": "steps.TrainingStep",
    "many owners": "many_owners.ManyOwners",
}
UNTUNED = {"unary protobuf", "torch rpc"}


def make(name: str, core: int) -> Contender:
    """The contender, imported only after its process was tuned."""
    os.sched_setaffinity(0, {core})
    if name not in UNTUNED:
        tune_process()
    module, _, kind = CONTENDERS[name].partition(".")
    made = getattr(importlib.import_module(f"benchmarks.wire.{module}"), kind)()
    if not isinstance(made, Contender):
        raise TypeError(f"{name} is not a contender")
    return made


def measure(contender: Contender, count: int, in_flight: int) -> list[float]:
    """Seconds a request: each for itself, or the mean of one pipeline."""
    if in_flight > 1:
        begun = time.perf_counter()
        contender.exchange(count, in_flight)
        return [(time.perf_counter() - begun) / count]
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        contender.exchange(1, 1)
        found.append(time.perf_counter() - begun)
    return found


def resident_bytes(field: str) -> int:
    """A line of this process's memory account."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def forget_peak() -> int:
    """Start to watch the peak anew; what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident_bytes("VmRSS")


def answer(contender: Contender, asked: dict[str, Any]) -> Any:
    """One command's result."""
    if asked["do"] == "exchange":
        return measure(contender, asked["count"], asked["in_flight"])
    if asked["do"] == "reconnect":
        contender.disconnect()
        contender.connect(asked["address"], Setting(**asked["setting"]))
        return None
    if asked["do"] == "computed":
        return contender.computed_s()
    return forget_peak() if asked["do"] == "forget peak" else resident_bytes("VmHWM")


def main() -> None:
    """Obey until the input ends."""
    name, core, setting, *address = sys.argv[1:]
    contender = make(name, int(core))
    parsed = Setting(**json.loads(setting))
    if address:
        contender.connect(address[0], parsed)
        print("ready", flush=True)
    else:
        print(contender.serve(parsed), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(contender, json.loads(line))), flush=True)
    os._exit(0)  # torch rpc would wait for its peer


if __name__ == "__main__":
    main()
