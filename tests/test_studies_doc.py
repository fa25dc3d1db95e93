"""What docs/studies.md says of the bundled studies is what their committed summaries say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "studies.md").read_text()
ATTACKS = ("regularized_inversion", "inverse_network", "shadow_model")


def _ssim(summary: dict[str, float]) -> str:
    return f"{summary['mean']:.2f} ({summary['low']:.2f}–{summary['high']:.2f})"


def _cut(row: dict[str, Any]) -> str:
    attacks = [_ssim(row["attacks"][name]["ssim"]) for name in ATTACKS]
    return f"| {row['cut']} | {row['bytes_per_image']:,} | {' | '.join([*attacks, _ssim(row['strongest']['ssim'])])} |"


def _worth(worth: dict[str, Any]) -> str:
    name = "none" if worth["name"] == "none" else worth["name"].replace("_", " ")
    return f"| {name} | {worth['strengths']} | {' | '.join([*worth['at'], worth['area']])} |"


TABLES = {"where-to-cut": ("rows", _cut), "defenses": ("worths", _worth)}
COMMITTED = [name for name in TABLES if (ROOT / "experiments" / "reproductions" / "studies" / f"{name}.json").exists()]


@pytest.mark.parametrize("name", COMMITTED)
def test_every_figure_comes_from_the_committed_summary(name: str) -> None:
    path = f"experiments/reproductions/studies/{name}.json"
    found = json.loads((ROOT / path).read_text())
    assert found["unfinished"] == 0 and not found["skipped"]
    assert not any("+" in commit for commit in found["commits"]), "from a clean commit"
    said = re.search(rf"<!-- summary: {re.escape(path)} -->\n(.*?)\n\n", PAGE, re.DOTALL)
    assert said, f"docs/studies.md has no table of {path}"
    entries, row = TABLES[name]
    assert said[1].splitlines()[2:] == [row(entry) for entry in found[entries]]


def equal_cost_rows(found: dict[str, Any]) -> list[str]:
    """A row a defense: what the strongest attack makes of it, and what it really costs, at each drop."""
    cells: dict[str, list[str]] = {}
    for place, verdict in enumerate(found["verdicts"]):
        for standing in verdict["standings"]:
            row = cells.setdefault(standing["name"].replace("_", " "), ["–"] * len(found["verdicts"]))
            row[place] = f"{_ssim(standing['ssim'])}, {100 * standing['cost']['mean']:.1f}"
    return [f"| {name} | {' | '.join(row)} |" for name, row in sorted(cells.items())]


def test_defenses_at_equal_cost_are_what_the_committed_record_says() -> None:
    folder = "experiments/reproductions/compare-defenses"
    found = json.loads((ROOT / folder / "equal-cost.json").read_text())
    assert "+" not in found["provenance"]["commit"], "from a clean commit"
    page = (ROOT / "docs" / "defenses.md").read_text()
    said = re.search(rf"<!-- record: {re.escape(folder)} -->\n(.*?)\n\n", page, re.DOTALL)
    assert said, f"docs/defenses.md has no table of {folder}"
    assert said[1].splitlines()[2:] == equal_cost_rows(found)
