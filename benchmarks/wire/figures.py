"""Records of the wire as tables on a page: `python -m benchmarks.wire.figures docs/wire.md` brings them up to date."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.wire.measurements import IN_FLIGHT, SIZES

Record = dict[str, Any]


def figures_of(record: Record) -> str:
    """Ratios by size, then whole steps, memory and many owners, as Markdown."""
    found = record["circumstances"]
    about = (
        f"CPython {found['python']}, grpcio {found['grpcio']}, torch {found['torch']}, {found['cores']} cores, "
        f"TCP's congestion control {found.get('tcp', 'unknown')}; times raw TCP."
    )
    tables = [_ratios(record["compare"], in_flight) for in_flight in IN_FLIGHT]
    tables += [_steps(record["steps"])] if "steps" in record else []
    tables += [_rest(record)] if "owners" in record else []
    return "\n\n".join([about, *tables])


def _ratios(results: list[Record], in_flight: int) -> str:
    ratios = {
        (found["row"], found["bytes"]): _with_spread(found) for found in results if found["in_flight"] == in_flight
    }
    raw = {
        found["bytes"]: found["median_s"]
        for found in results
        if (found["row"], found["in_flight"]) == ("raw TCP", in_flight)
    }
    rows = [["raw TCP, in µs", *(f"{raw[size] * 1e6:,.0f}" for size in SIZES.values())]]
    for row in dict.fromkeys(row for row, _ in ratios if row != "raw TCP"):
        rows.append([row, *(ratios[row, size] for size in SIZES.values())])
    return _table([f"{in_flight} in flight", *SIZES], rows)


def _with_spread(found: Record) -> str:
    low, high = found["middle_half"]
    return f"{found['ratio_to_raw_tcp']:.2f} ({low:.1f}–{high:.1f})"


def _steps(results: list[Record]) -> str:
    rows = [
        [
            f"{found['step']}, batch {found['batch']}, {found['wire_dtype']}",
            f"{found['mean_s'] * 1e3:.1f}",
            f"{found['transport_share']:.0%} ({low:.0%}–{high:.0%})",
        ]
        for found in results
        for low, high in [found["middle_half"]]
    ]
    return _table(["whole step", "ms", "not computing"], rows)


def _rest(record: Record) -> str:
    rows = [
        [
            f"peak memory above rest, copies of a 16 MB tensor, {found['wire_dtype']}: asking, serving",
            f"{found['asking_copies']:.2f}, {found['serving_copies']:.2f}",
        ]
        for found in record["memory"]
    ]
    for found in record["owners"]:
        rows.append([f"{found['owners']} owners at once, 64 KB: requests a second", f"{found['requests_per_s']:,.0f}"])
        rows.append(
            ["between the first and the last of them to end, of the whole time", f"{found['spread_of_ends']:.0%}"]
        )
    return _table(["", ""], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(page: str) -> str:
    """`page` with the figures of every record that a comment in it names, `<!-- figures: RECORD -->`."""

    def figures(found: re.Match[str]) -> str:
        return f"{found[1]}{figures_of(json.loads(Path(found[2]).read_text()))}\n{found[3]}"

    return re.sub(r"(<!-- figures: (\S+) -->\n).*?(<!-- end -->)", figures, page, flags=re.DOTALL)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(filled(path.read_text()))
