"""What narrower numbers on the wire cost in accuracy: the same trainings with float32, float16 and bfloat16.

`python -m benchmarks.training.precision` trains with real processes, several seeds each, and compares seed by seed. An
interrupted measurement goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.wire.__main__ import table_of, write_record
from experiments.provenance import provenance
from experiments.statistics import compare
from experiments.training.record import TrainingRecord
from experiments.training.runner import train
from experiments.training.scenario import read_training_scenario
from parties.wire.layout import WIRE_DTYPES

RECORD = Path("experiments/reproductions/training/precision.json")
DATA = {"lenet": "mnist", "sixconv": "cifar10"}
SETTINGS = ("protocol=vanilla", "cuts=['pool1']", "model.batch_size=64", "server.transcript_mb=0")


def trained(
    network: str, dtype: str, seed: int, sizes: list[str], folder: Path, data_dir: Path | None
) -> TrainingRecord:
    """One training, or its record if it is there already."""
    chosen = [f"model.name={network}", f"data.name={DATA[network]}", f"owners.wire_dtype={dtype}", f"seed={seed}"]
    scenario = read_training_scenario("train-vanilla", [*SETTINGS, *chosen, *sizes])
    return train(scenario, folder / f"{network}-{dtype}-{seed}", data_dir)[0]


def row_of(network: str, dtype: str, found: list[TrainingRecord], plain: list[TrainingRecord]) -> dict[str, Any]:
    """Accuracies of one way over all seeds, and how they differ from those with float32."""
    accuracies, beside = ([record.accuracy.mean for record in records] for records in (found, plain))
    difference = compare([np.array([a]) for a in accuracies], [np.array([b]) for b in beside])
    last = [next(iter(record.rounds[-1].owners.values())) for record in found]
    return {
        "network": network,
        "wire_dtype": dtype,
        "seeds": len(found),
        "accuracy": float(np.mean(accuracies)),
        "minus_float32": difference.difference.mean,
        "low": difference.difference.low,
        "high": difference.difference.high,
        "p": difference.p,
        "loss": float(np.mean([owner.loss for owner in last])),
        "bytes_up_per_epoch": last[0].bytes_up,
        "accuracies": accuracies,
    }


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.precision", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=6000, help="images of each training")
    parser.add_argument("--test", type=int, default=2000, help="held-out images on which accuracy is measured")
    parser.add_argument("--rounds", type=int, default=3, help="passes over them")
    parser.add_argument("--data-dir", type=Path, help="folder that holds mnist/ and cifar10/; default UNSMASH_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/precision"), help="where the trainings go")
    parser.add_argument("--record", type=Path, default=RECORD, help="where the record goes")
    arguments = parser.parse_args()
    sizes = [f"data.train={arguments.train}", f"data.test={arguments.test}", f"rounds={arguments.rounds}"]
    seeds, console = range(arguments.first_seed, arguments.first_seed + arguments.seeds), Console(width=150)
    results = []
    for network in arguments.networks:
        found: dict[str, list[TrainingRecord]] = {dtype: [] for dtype in WIRE_DTYPES}
        for seed in seeds:  # so that an early end leaves whole comparisons
            for dtype, records in found.items():
                records.append(trained(network, dtype, seed, sizes, arguments.out, arguments.data_dir))
                console.print(f"{network} {dtype} seed {seed}: accuracy {records[-1].accuracy.mean:.2%}")
        results += [row_of(network, dtype, records, found["float32"]) for dtype, records in found.items()]
    console.print(table_of("accuracy", [{k: v for k, v in row.items() if k != "accuracies"} for row in results]))
    write_record(
        arguments.record,
        {
            "command": "python -m benchmarks.training.precision",
            "arguments": {"first_seed": arguments.first_seed, "sizes": sizes},
            "provenance": provenance(),
            "results": results,
        },
    )
    console.print(f"record: {arguments.record}")


if __name__ == "__main__":
    main()
