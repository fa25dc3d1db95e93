"""A run or a study in one small file: pooled figures with intervals, comparisons, where it comes from; no victims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.record import MANIFEST, Leakage, ReadingOutcome, Record
from experiments.report.comparisons import comparisons, worths
from experiments.report.pooling import alike, measured, pooled, within
from experiments.report.reproduce import of_scenario, of_study, scenario_of
from experiments.statistics import Summary, cross_fitted, over_seeds
from split_models.checkpoints import write_atomically

DIGITS = 5


def write_summary(records: Sequence[Record], folder: Path, path: Path) -> None:
    """Write the summary of the records of a run's folder as JSON."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    study = manifest.get("study")
    again = of_study(study) if study else of_scenario(scenario_of(str(manifest["scenario"]), records))
    content = {
        "name": manifest["scenario"],
        "description": again.description,
        "command": again.command,
        "toml": again.toml,
        "trials": len(records),
        "unfinished": len(manifest["keys"]) - len(records),
        "skipped": manifest.get("skipped", []),
        "seconds": round(sum(record.timing.get("trial", 0.0) for record in records)),
        "commits": sorted({str(record.provenance.get("commit")) for record in records}),
        "versions": records[0].provenance.get("versions", {}),
        "threat_model": records[0].threat_model,
        "rows": [_row(one, group) for one, group in zip(pooled(records), alike(records), strict=True)],
        "comparisons": [asdict(one) for one in comparisons(records)],
        "worths": [asdict(one) for one in worths(records)],
    }
    write_atomically(path, _text(content).encode())


def _text(content: Mapping[str, Any]) -> str:
    """JSON with a line for each entry of each list, so that two summaries can be compared line by line."""
    parts = []
    for key, value in content.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in value) + "\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _row(whole: Record, group: Sequence[Record]) -> dict[str, Any]:
    """One cut under one defense; `strongest` is cross-fitted: what leaks most, chosen on other seeds or victims."""
    columns = measured(group)
    fitted = cross_fitted(columns) if columns else None
    return {
        "cut": whole.cut,
        "defense": whole.defense,
        "dataset": whole.dataset.get("name"),
        "seeds": [record.scenario["seed"] for record in group],
        "victims": len(whole.victims),
        "accuracy": round(whole.utility.accuracy, DIGITS),
        "accuracy_defended": round(whole.utility.accuracy_defended, DIGITS),
        "bytes_per_image": whole.cost.bytes_per_image,
        "strongest": {"ssim": _summary(within("ssim", over_seeds(fitted.columns))), "chosen": fitted.chosen}
        if fitted
        else None,
        "attacks": {one.label: _leakage(one.leakage) if one.leakage else one.reason for one in whole.attacks},
        "readings": {one.label: _reading(one) if one.accuracy else one.reason for one in whole.readings},
        "floors": {name: _leakage(floor) for name, floor in whole.floors.items()},
        "warnings": whole.warnings,
    }


def _leakage(leakage: Leakage) -> Mapping[str, Any]:
    return {measure: _summary(getattr(leakage, measure)) for measure in leakage.per_victim}


def _reading(one: ReadingOutcome) -> Mapping[str, Any]:
    """How often it is right, and the area under its curve, beside the floor; with several seeds over seeds."""
    return {
        "secret": one.secret,
        "values": one.values,
        "floor": round(one.majority, DIGITS),
        "right": one.accuracy and _summary(one.accuracy),
        "auc": one.auc and _summary(one.auc),
    }


def _summary(summary: Summary) -> dict[str, float]:
    figures = {"mean": summary.mean, "low": summary.low, "high": summary.high}
    figures |= {f"p{p}": figure for p, figure in summary.percentiles.items()}
    return {name: round(figure, DIGITS) for name, figure in figures.items()}
