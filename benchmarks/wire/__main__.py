"""Measure the wire beside raw TCP, the usual way and its peers; print ratios and write a record."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.wire.measurements import (
    IN_FLIGHT,
    ROWS,
    SIZES,
    Results,
    compare,
    measure_many_owners,
    measure_memory,
    measure_steps,
)
from experiments.provenance import provenance
from parties.wire.certificates import make_test_certificates

RECORD = Path("experiments/reproductions/wire/wire.json")

console = Console(width=130)


def table_of(title: str, results: Results) -> Table:
    """One row a result, one column a figure."""
    table = Table(title=title)
    for name in results[0]:
        table.add_column(name.replace("_", " "))
    for result in results:
        table.add_row(*map(_in_print, result.values()))
    return table


def _in_print(figure: Any) -> str:
    if isinstance(figure, list):
        return " to ".join(map(_in_print, figure))
    return f"{figure:.3g}" if isinstance(figure, float) else str(figure)


def ratios_of(results: Results, in_flight: int) -> Table:
    """Contenders down, sizes across: microseconds, and how many times raw TCP that is."""
    console.print(f"Round trips with {in_flight} in flight, in µs, and how many times raw TCP that is:")
    table = Table()
    table.add_column("")
    chosen = [result for result in results if result["in_flight"] == in_flight]
    names = {size: name for name, size in SIZES.items()}
    sizes = list(dict.fromkeys(found["bytes"] for found in chosen))
    for size in sizes:
        table.add_column(names[size], justify="right")
    for row in dict.fromkeys(result["row"] for result in chosen):
        cells = {
            found["bytes"]: f"{found['median_s'] * 1e6:,.0f} (x{found['ratio_to_raw_tcp']:.2f})"
            for found in chosen
            if found["row"] == row
        }
        table.add_row(row, *(cells[size] for size in sizes))
    return table


def circumstances() -> dict[str, Any]:
    """What a reader has to know to compare the figures with others."""
    installed = {found.name: found.version for found in metadata.distributions()}
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    versions = {name: installed.get(name) for name in ("grpcio", "torch", "protobuf", "numpy", "pyzmq")}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "tcp": congestion.read_text().strip() if congestion.exists() else None,
        **versions,
    }


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(path)


def options() -> argparse.Namespace:
    """What was asked for, if that is possible here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="payloads to compare")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="what to compare with raw TCP")
    parser.add_argument("--connections", type=int, default=8, help="that everybody opens, each for one turn")
    parser.add_argument("--turn-s", type=float, default=0.1, help="seconds of one turn")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=["compare", "memory", "steps", "owners"],
        default=["compare", "memory", "steps", "owners"],
        help="parts to measure",
    )
    parser.add_argument("--record", type=Path, default=RECORD, help="where the record goes")
    arguments = parser.parse_args()
    if "pyzmq" in arguments.rows and "compare" in arguments.only and find_spec("zmq") is None:
        parser.error("expected pyzmq to be installed; pip install -e '.[bench]', or leave it out of --rows")
    return arguments


def main() -> None:
    """Measure what was asked for."""
    arguments = options()
    record: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.wire", *sys.argv[1:]]),
        "connections": arguments.connections,
        "circumstances": circumstances(),
        "provenance": provenance(),
    }
    with tempfile.TemporaryDirectory() as folder:
        certificates = make_test_certificates(Path(folder) / "certificates").ca.parent
        parts: dict[str, Callable[[], Results]] = {
            "compare": lambda: [
                result
                for size in arguments.sizes
                for result in compare(
                    SIZES[size],
                    arguments.connections,
                    arguments.turn_s,
                    str(certificates),
                    ["raw TCP", *arguments.rows],
                )
            ],
            "memory": lambda: measure_memory(SIZES["16 MB"]),
            "steps": lambda: measure_steps(arguments.connections),
            "owners": lambda: measure_many_owners(SIZES["64 KB"], 20),
        }
        for name in arguments.only:
            record[name] = parts[name]()
            tables = (
                [ratios_of(record[name], in_flight) for in_flight in IN_FLIGHT]
                if name == "compare"
                else [table_of(name, record[name])]
            )
            for table in tables:
                console.print(table)
    write_record(arguments.record, record)
    console.print(f"record: {arguments.record}")


if __name__ == "__main__":
    main()
