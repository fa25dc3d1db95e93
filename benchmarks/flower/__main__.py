"""Simulate 10, 100 and 1,000 owners on one machine: time for each owner and round, and memory."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.wire.__main__ import circumstances, table_of, write_record
from experiments.provenance import provenance
from experiments.training.federated import simulate
from experiments.training.scenario import read_training_scenario

RECORD = Path("experiments/reproductions/training/growth.json")
IMAGES_EACH = 10  # per owner, so that an owner's work is the same however many there are


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flower", description=__doc__)
    parser.add_argument("--owners", nargs="+", type=int, default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=2, help="the first one has the start of the engine in it")
    parser.add_argument("--workers", type=int, default=2, help="owners that run at once")
    parser.add_argument("--data-dir", type=Path, help="folder that holds mnist/; default UNSMASH_DATA")
    parser.add_argument("--record", type=Path, default=RECORD, help="where the record goes")
    arguments = parser.parse_args()
    results = []
    for owners in arguments.owners:
        sizes = [f"data.train={IMAGES_EACH * owners}", "data.test=1000", "data.name=mnist", "server.transcript_mb=16"]
        settings = [*sizes, f"owners.count={owners}", f"rounds={arguments.rounds}", "model.batch_size=10"]
        scenario = read_training_scenario("train-splitfed-v2", settings)
        with tempfile.TemporaryDirectory() as folder:
            record = simulate(scenario, Path(folder), arguments.data_dir, 1.0, arguments.workers, lambda done: None)
        last = record.rounds[-1]
        results.append(
            {
                "owners": owners,
                "failed": last["failed"],
                "round_s": last["seconds"],
                "s_each_owner": last["seconds"] / owners,
                "s_within_an_owner": last["owner_seconds"] / owners,
                "bytes_up_each": last["bytes_up"] / owners,
                "leading_mb": record.peak_memory_mb,
                "split_server_mb": record.server_memory_mb,
            }
        )
        said = {"command": "python -m benchmarks.flower", "circumstances": circumstances(), "provenance": provenance()}
        write_record(arguments.record, {**said, "results": results})  # after each, for the last takes the longest
    Console(width=130).print(table_of("growth", results))


if __name__ == "__main__":
    main()
