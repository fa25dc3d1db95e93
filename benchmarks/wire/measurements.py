"""What is measured: contenders side by side, memory, whole steps, many owners."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain, product
from typing import Any

import numpy as np

from benchmarks.wire.contender import Setting
from benchmarks.wire.many_owners import OWNERS
from benchmarks.wire.pair import Pair

SIZES = {"4 KB": 4 << 10, "64 KB": 64 << 10, "400 KB": 400 << 10, "1 MB": 1 << 20, "16 MB": 16 << 20}
IN_FLIGHT = (1, 4)
BATCHES = (1, 64, 256)
WARM_UP = 5
LEAST, MOST = 4, 400  # exchanges in one turn
SETTLE_S = 0.1
"""How long a new connection is used before it is measured: in its first moments exchanges may be a third quicker (raw
TCP) or slower (ours) than they stay."""

STEPS = 4480  # samples through one kind of step, so that a busy moment does not decide
Results = list[dict[str, Any]]

ROWS = (
    "raw TCP",
    "unary protobuf, untuned",
    "bare gRPC stream",
    "ours",
    "ours, fp16",
    "ours, TLS",
    "ours, fp16, TLS",
    "pyzmq",
    "torch rpc",
)


def contenders(size: int, certificates: str) -> dict[str, tuple[str, Setting]]:
    """Everything that is measured at one size, by the name of its row."""
    settings = {
        "ours, fp16": Setting(size, "float16"),
        "ours, TLS": Setting(size, certificates=certificates),
        "ours, fp16, TLS": Setting(size, "float16", certificates),
    }
    return {row: (row.partition(",")[0], settings.get(row, Setting(size))) for row in ROWS}


def compare(size: int, connections: int, turn_s: float, certificates: str, rows: Sequence[str]) -> Results:
    """Contenders at one size, turn by turn, so that a busy moment hits all alike; `rows` has raw TCP in it.

    Everybody connects anew for every turn of about `turn_s` seconds, because TCP settles at another speed on every
    connection. The figure is the median over all turns, its `middle_half` the quartiles of the turns' medians, all as
    multiples of raw TCP's median.
    """
    samples: dict[tuple[str, int], list[list[float]]] = defaultdict(list)  # turn by turn
    with ExitStack() as stack:
        wanted = {row: what for row, what in contenders(size, certificates).items() if row in rows}
        pairs = {row: Pair(*what) for row, what in wanted.items()}  # their servers start side by side
        for pair in pairs.values():
            stack.enter_context(pair)
        seconds = {row: _warmed_up(pair) for row, pair in pairs.items()}
        for connection in range(connections):
            for row, pair in pairs.items():
                _settle(pair, connection, seconds[row])
            for row, in_flight in product(pairs, IN_FLIGHT):
                count = int(min(max(turn_s / seconds[row], LEAST), MOST))
                samples[row, in_flight].append(pairs[row].exchange(count, in_flight))
    limits = {in_flight: _median(samples["raw TCP", in_flight]) for in_flight in IN_FLIGHT}
    return [
        {
            "row": row,
            "bytes": size,
            "in_flight": in_flight,
            "median_s": (median := _median(turns)),
            "ratio_to_raw_tcp": median / limits[in_flight],
            "middle_half": (np.quantile(list(map(np.median, turns)), (0.25, 0.75)) / limits[in_flight]).tolist(),
            "samples": sum(map(len, turns)),
        }
        for (row, in_flight), turns in samples.items()
    ]


def _median(turns: list[list[float]]) -> float:
    return statistics.median(chain.from_iterable(turns))


def _warmed_up(pair: Pair) -> float:
    """How many seconds an exchange takes about, when both processes have done some."""
    pair.exchange(WARM_UP)
    return statistics.median(pair.exchange(WARM_UP))


def _settle(pair: Pair, connection: int, seconds: float) -> None:
    """Go over to another connection, the first one excepted, and use it before it is measured."""
    if connection:
        pair.reconnect()
    pair.exchange(max(WARM_UP, int(SETTLE_S / seconds)))


def measure_memory(size: int) -> Results:
    """By how many payloads each end's memory peaks above rest while tensors of `size` are carried."""
    found = []
    for wire_dtype in ("float32", "float16"):
        with Pair("ours", Setting(size, wire_dtype)) as pair:
            asking, serving = pair.peak_copies(20)
        found.append({"wire_dtype": wire_dtype, "bytes": size, "asking_copies": asking, "serving_copies": serving})
    return found


def measure_steps(connections: int) -> Results:
    """Whole steps of every kind."""
    kinds = product(("inference step", "training step"), BATCHES, ("float32", "float16"))
    return [measure_step(name, Setting(batch, wire_dtype), connections) for name, batch, wire_dtype in kinds]


def measure_step(name: str, setting: Setting, connections: int) -> dict[str, Any]:
    """Mean seconds of a whole step over so many connections, and the share that is not computing on either end.

    `middle_half` has the quartiles of the connections' shares.
    """
    count = max(round(STEPS / max(setting.size, 16) / connections), 1)
    taken, computed = [], []
    with Pair(name, setting) as pair:
        seconds = _warmed_up(pair)
        for connection in range(connections):
            _settle(pair, connection, seconds)
            before = pair.computed_s()
            taken.append(statistics.mean(pair.exchange(count)))
            computed.append((pair.computed_s() - before) / count)
    shares = 1 - np.array(computed) / np.array(taken)
    return {
        "step": name,
        "batch": setting.size,
        "wire_dtype": setting.wire_dtype,
        "mean_s": statistics.mean(taken),
        "transport_share": 1 - sum(computed) / sum(taken),
        "middle_half": np.quantile(shares, (0.25, 0.75)).tolist(),
        "steps": count * connections,
    }


def measure_many_owners(size: int, requests: int) -> Results:
    """All owners at once: requests a second, and how far apart the first and the last of them end."""
    with Pair("many owners", Setting(size)) as pair:
        pair.exchange(1)
        (seconds,) = pair.exchange(1)  # one exchange is one request of every owner
        pair.owner.ask("exchange", count=requests, in_flight=2)
        (mean_s,) = pair.exchange(requests, in_flight=2)
        spread_s = pair.owner.ask("computed")
    return [
        {
            "owners": OWNERS,
            "bytes": size,
            "requests_each": requests,
            "one_round_s": seconds,
            "requests_per_s": OWNERS / mean_s,
            "spread_of_ends": spread_s / (mean_s * requests),
        }
    ]
