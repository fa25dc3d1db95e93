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
