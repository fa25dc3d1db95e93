"""Cells of a paper that are trials of a scenario, run with the parties in one process, through the same codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.papers.paper import Cell, Measured, Workplace
from experiments.record import Record
from experiments.runner import run
from experiments.scenario import Scenario
from experiments.statistics import Summary, over_seeds


def run_trials(table: Mapping[str, Any], place: Workplace) -> dict[str, Record]:
    """Run a scenario, given as its TOML file would read; records by trial label. Targets are kept in `place`."""
    # A paper's attackers are those of its rows: whether they know the defense is said there.
    threat_model = {"unaware_too": False, **table.get("threat_model", {})}
    scenario = Scenario.model_validate(
        {"name": "paper", "transport": "in-process", **table, "threat_model": threat_model}
    )
    total, done = len(list(scenario.trials())), 0

    def say(lane: int, step: str, fraction: float) -> None:
        place.report(done / total)

    records = {}
    for trial, record, _ in run(scenario, place.folder / "trials", place.data_dir, say):
        records[trial.label] = record
        done += 1
        place.report(done / total)
    return records


def leaked(record: Record, attack: int = 0) -> Measured:
    """What one attack of a record got out of each victim, with the accuracy that the network has left."""
    found = record.attacks[attack].leakage
    assert found is not None, record.attacks[attack].reason
    return {"accuracy": record.utility.accuracy_defended, **found.per_victim}


def pooled(measured: Sequence[Measured], figures: Sequence[str]) -> dict[str, Summary]:
    """Figures of one row from its cells, one a seed: a mean with its interval over seeds, then victims."""
    return {
        figure: over_seeds([values if isinstance(values := cell[figure], list) else [values] for cell in measured])
        for figure in figures
    }


def by_seed(measured: Mapping[Cell, Measured], row: str, column: str) -> list[Measured]:
    """What was measured of one row and column, in the order of seeds."""
    return [
        values
        for cell, values in sorted(measured.items(), key=lambda item: item[0].seed)
        if (cell.row, cell.column) == (row, column)
    ]
