"""The outcome of a comparison at equal cost, as one file beside its records: for the report, for docs, for others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.equal_cost.findings import findings
from experiments.equal_cost.standing import Chosen, Standing, points, verdicts
from experiments.equal_cost.tuning import Plan
from experiments.provenance import provenance
from experiments.record import Record
from experiments.report.wording import interval, value
from experiments.statistics import Summary
from split_models.checkpoints import write_atomically

FILE, TABLE = "equal-cost.json", "equal-cost.md"


def write_comparison(
    folder: Path, records: Sequence[Record], chosen: Chosen, plan: Plan, notes: Mapping[str, Any]
) -> dict[str, Any]:
    """Judge the records of a tuned study and write what comes out into its folder; returns it.

    `notes` are what tuning said: why something was left out, and what every strength cost there.
    """
    found = verdicts(records, chosen)
    content = {
        "records": [record.key for record in records],
        "tuning_seeds": list(plan.seeds),
        "steps": plan.steps,
        "seeds": sorted({int(record.scenario["seed"]) for record in records}),
        "victims": len(records[0].victims),
        "data": records[0].dataset,
        **notes,
        "verdicts": [
            {
                "drop": verdict.drop,
                "title": f"At {points(verdict.drop)}",
                "sentences": verdict.sentences,
                "standings": [_row(one) for one in verdict.standings],
            }
            for verdict in found
        ],
        "findings": findings(records, found),
        "provenance": provenance(),
    }
    write_atomically(folder / FILE, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(folder / TABLE, markdown(content).encode())
    return content


def markdown(content: Mapping[str, Any]) -> str:
    """What came out, as it is pasted into a page: a table with all drops, then the words."""
    lines = [
        "| points | defense | costs | SSIM, worst case | label read | strongest attack |",
        "|---|---|---|---|---|---|",
    ]
    for verdict in content["verdicts"]:
        for row in verdict["standings"]:
            cells = (f"{100 * verdict['drop']:g}", row["defense"], *shown(row).values(), row["strongest"])
            lines.append(f"| {' | '.join(cells)} |")
    said = [*(text for verdict in content["verdicts"] for text in verdict["sentences"]), *content["findings"]]
    return "\n".join([*lines, "", *(f"- {text}" for text in said)]) + "\n"


def _row(one: Standing) -> dict[str, Any]:
    return {
        "name": one.name,
        "defense": one.label,
        "cost": one.cost.model_dump(exclude={"percentiles"}),
        "ssim": one.ssim.model_dump(exclude={"percentiles"}),
        "identification": one.identification.model_dump(exclude={"percentiles"}),
        "strongest": one.strongest,
        "ssim_by_seed": {str(seed): float(column.mean()) for seed, column in one.columns.items()},
    }


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """The figures of one defense at one drop, in words."""
    ssim = Summary(percentiles={}, **row["ssim"])
    return {
        "cost": f"{100 * row['cost']['mean']:.1f}",
        "ssim": f"{value('ssim', ssim.mean)} {interval('ssim', ssim)}",
        "identification": f"{value('identification', row['identification']['mean'])} %",
    }


def read_comparison(folder: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """What was written for just these records; None where a folder holds another run."""
    try:
        content: dict[str, Any] = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return content if content.get("records") == list(keys) else None
