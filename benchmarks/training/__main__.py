"""Measure split training beside monolithic training on the same cores: turn by turn, ratios of medians."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.training.worker import CUTS
from benchmarks.wire.__main__ import circumstances, table_of, write_record
from experiments.provenance import provenance
from parties.processes import Parties
from parties.tuning import share_of_cores

MODULE = "benchmarks.training.worker"
RECORD = Path("experiments/reproductions/training/speed.json")
SAMPLES = {"lenet": 4096, "sixconv": 512}
"""Of one turn: about as long for either network."""


@dataclass(frozen=True)
class Way:
    """One way to train across the split."""

    row: str
    owners: int = 1
    micro_batches: int = 1
    wire_dtype: str = "float32"
    threads: int = 1

    @property
    def protocol(self) -> str:
        """Several owners at once have a copy of the server's layers each."""
        return "splitfed_v1" if self.owners > 1 else "vanilla"


def ways(cores: int) -> list[Way]:
    """What is compared with monolithic training on all cores."""
    return [
        Way("one owner, a thread a party"),
        Way("one owner, 2 micro-batches", micro_batches=2),
        Way("one owner, 4 micro-batches", micro_batches=4),
        Way("one owner, float16 on the wire", wire_dtype="float16"),
        Way("one owner, all threads in both", threads=cores),
        Way("one owner, all threads, 2 micro-batches", micro_batches=2, threads=cores),
        Way("four owners", owners=4),
    ]


def monolithic(cores: int) -> dict[str, tuple[str, int]]:
    """Ways to train in one process, as process and threads: which of them is the fastest depends on the network."""
    return {
        "alone, one thread": ("alone-one", 1),
        "alone, all threads": ("alone-all", cores),
        "alone, all threads, as torch comes": ("alone-untuned", cores),  # its threads spin while they wait
    }


class Measured:
    """One way to train, ready to be timed again and again."""

    def __init__(self, parties: Parties, number: int, way: Way, network: str, batch: int, steps: int) -> None:
        self._parties, self._samples = parties, way.owners * steps * batch
        self.owners = [f"owner-{number}-{owner}" for owner in range(way.owners)]
        server = f"server-{number}"
        names = (server, *self.owners)
        for place, name in enumerate(names):
            parties.start("party", name, share_of_cores(place, len(names)) if way.threads == 1 else None)
        serving = {"name": network, "protocol": way.protocol, "owners": self.owners, "threads": way.threads}
        address = parties.ask({server: ("begin", serving)})[server]
        begin = {
            "name": network,
            "protocol": way.protocol,
            "address": address,
            "batch": batch,
            "steps": steps,
            "micro_batches": way.micro_batches,
            "wire_dtype": way.wire_dtype,
            "threads": way.threads,
        }
        parties.ask(dict.fromkeys(self.owners, ("begin", begin)))

    def rate(self) -> float:
        """Samples a second of all owners together."""
        seconds = self._parties.ask(dict.fromkeys(self.owners, ("round", {})))
        return float(self._samples / max(seconds.values()))


def measure(
    network: str, batch: int, rounds: int, samples: int, chosen: Sequence[Way], cores: int
) -> list[dict[str, Any]]:
    """All ways and monolithic training in turn, A B C A B C; medians over the turns, ratios to the fastest alone."""
    rates: dict[str, list[float]] = defaultdict(list)
    steps = max(1, samples // batch)
    with tempfile.TemporaryDirectory() as logs, Parties(MODULE, Path(logs)) as parties:
        alone = monolithic(cores)
        for name, threads in alone.values():
            parties.start("party", name)
            parties.ask({name: ("begin", {"name": network, "batch": batch, "steps": steps, "threads": threads})})
        measured = {
            way: Measured(parties, number, way, network, batch, max(1, steps // way.owners))
            for number, way in enumerate(chosen)
        }
        for turn in range(rounds + 1):  # the first turn warms everybody up
            found = {row: steps * batch / parties.ask({name: ("round", {})})[name] for row, (name, _) in alone.items()}
            found |= {way.row: ready.rate() for way, ready in measured.items()}
            if turn:
                for row, rate in found.items():
                    rates[row].append(rate)
    fastest = max(statistics.median(rates[row]) for row in alone)
    return [
        {
            "network": f"{network} cut at {CUTS[network]}",
            "batch": batch,
            "row": row,
            "samples_per_s": statistics.median(found),
            "ratio_to_monolithic": statistics.median(found) / fastest,
            "turns": len(found),
        }
        for row, found in rates.items()
    ]


def main() -> None:
    """Measure what was asked for."""
    cores = len(os.sched_getaffinity(0))
    rows = [way.row for way in ways(cores)]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=CUTS, default=list(CUTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256])
    parser.add_argument(
        "--rows", nargs="+", choices=rows, default=rows, help="what to compare with monolithic training"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns that everybody gets")
    parser.add_argument("--samples", type=int, help="images of one turn; by default as many as take about a second")
    parser.add_argument("--record", type=Path, default=RECORD, help="where the record goes")
    arguments = parser.parse_args()
    chosen = [way for way in ways(cores) if way.row in arguments.rows]
    results = []
    for network in arguments.networks:
        for batch in arguments.batches:
            found = measure(network, batch, arguments.rounds, arguments.samples or SAMPLES[network], chosen, cores)
            Console(width=130).print(table_of(f"{network}, batch {batch}", found))
            results += found
    record = {
        "command": "python -m benchmarks.training",
        "circumstances": circumstances(),
        "provenance": provenance(),
        "results": results,
    }
    write_record(arguments.record, record)
    Console().print(f"record: {arguments.record}")


if __name__ == "__main__":
    main()
