"""The figures on the page come from a committed record."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_growth_is_as_recorded() -> None:
    page = (ROOT / "docs" / "flower.md").read_text()
    found = re.search(r"<!-- record: (\S+) -->\n((?:\|.*\n)+)", page)
    assert found
    record = json.loads((ROOT / found[1]).read_text())
    assert not record["provenance"]["commit"].endswith("+")
    columns = {"owners": "d", "round_s": ".1f", "s_each_owner": ".3f", "leading_mb": ".0f", "split_server_mb": ".0f"}
    rows = [" | ".join(format(result[name], form) for name, form in columns.items()) for result in record["results"]]
    assert found[2].splitlines()[2:] == [f"| {row} |" for row in rows]
    assert all(r["failed"] == 0 for r in record["results"])
