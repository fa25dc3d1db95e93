"""Measure the cells of a paper in processes of their own; each result is kept at once, so all of it can be resumed."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.lanes import in_lanes
from experiments.papers.paper import COMMIT, Cell, Measured, Paper, PaperError, Plan, Row
from experiments.provenance import provenance
from parties.processes import Parties
from split_models.checkpoints import write_atomically

Say = Callable[[int, str, float], None]
"""Told by each lane, from 0, which step is under way and which fraction of it, in [0, 1], is done."""


def measure(
    paper: Paper,
    plan: Plan,
    folder: Path,
    data_dir: Path | None,
    say: Say,
    workers: int = 1,
    fresh: bool = False,
    only: Sequence[str] = (),
) -> Iterator[tuple[Cell, bool]]:
    """Measure what is not there yet; yields each group's cells as they are done, and whether they were there already.

    `only` are patterns as of a shell, one of which a cell's `COLUMN · ROW` has to match; none at all means every cell.

    Raises:
        PaperError: no cell matches.
        PartyError: a measuring process died or failed; what was measured until then stays.
    """
    cells = matching(paper, plan, only)
    missing = [cell for cell in cells if fresh or not cell_path(folder, plan, cell).exists()]
    yield from ((cell, True) for cell in cells if cell not in missing)
    groups = [list(group) for _, group in groupby(sorted(missing, key=paper.group), key=paper.group)]
    lanes = min(workers, len(groups))
    with contextlib.ExitStack() as stack:
        crews = [stack.enter_context(Parties("experiments.papers.worker", folder / "logs")) for _ in range(lanes)]
        for lane, crew in enumerate(crews):
            crew.start(paper.name, f"lane-{lane}")

        def one(lane: int, group: list[Cell]) -> None:
            for cell in group:
                step = f"{cell.label} · seed {cell.seed}"
                say(lane, step, 0.0)
                arguments = {
                    "cell": asdict(cell),
                    "plan": asdict(plan),
                    "folder": str(folder),
                    "data_dir": str(data_dir) if data_dir else None,
                }
                command = {f"lane-{lane}": ("measure", arguments)}
                crews[lane].ask(command, report=partial(_pass_on, say, lane, step))

        for group, _ in in_lanes(groups, lanes, one):
            yield from ((cell, False) for cell in group)


def matching(paper: Paper, plan: Plan, only: Sequence[str]) -> list[Cell]:
    """The cells of a plan whose `COLUMN · ROW` matches one of the patterns; all of them where there is no pattern.

    Raises:
        PaperError: none matches.
    """
    cells = paper.cells(plan)
    found = [cell for cell in cells if not only or any(fnmatch(cell.label, pattern) for pattern in only)]
    if not found:
        names = "; ".join(dict.fromkeys(cell.label for cell in cells))
        raise PaperError(f"no cell matches {', '.join(only)}; patterns are of: {names}")
    return found


def adopt(paper: Paper, plan: Plan, folder: Path, record: Path) -> None:
    """Take from an earlier record what a folder lacks, so that some cells can be measured again beside the others.

    Raises:
        PaperError: the file is no record of this paper and data set.
    """
    try:
        content = json.loads(record.read_bytes())
        cells = {Cell(one["seed"], one["row"], one["column"]): one["measured"] for one in content["cells"]}
        about, commit = (content["paper"], content["plan"]["dataset"]), content["provenance"]["commit"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PaperError(f"{record} is no record of a reproduction ({error})") from error
    if about != (paper.name, plan.dataset):
        raise PaperError(f"{record}: expected a record of {paper.name} on {plan.dataset}, got {about[0]} on {about[1]}")
    for cell in paper.cells(plan):
        path = cell_path(folder, plan, cell)
        if cell in cells and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({COMMIT: commit, **cells[cell]}).encode())


def _pass_on(say: Say, lane: int, step: str, party: str, fraction: float) -> None:
    say(lane, step, fraction)


def cell_path(folder: Path, plan: Plan, cell: Cell) -> Path:
    """Where a cell's result is kept; a quick one and one on another data set are other results."""
    return folder / f"{plan.dataset}{'-quick' if plan.quick else ''}" / f"{cell.key}.json"


def results(paper: Paper, plan: Plan, folder: Path) -> dict[Cell, Measured]:
    """What has been measured of a plan so far."""
    paths = {cell: cell_path(folder, plan, cell) for cell in paper.cells(plan)}
    return {cell: json.loads(path.read_bytes()) for cell, path in paths.items() if path.exists()}


def write_comparison(paper: Paper, plan: Plan, folder: Path) -> tuple[list[Row], Path]:
    """Write the record of a reproduction: published beside measured, with what every cell gave."""
    measured = results(paper, plan, folder)
    rows = list(paper.rows(plan, measured))
    content = {
        "paper": paper.name,
        "citation": paper.citation,
        "plan": asdict(plan),
        "notes": paper.notes(plan),
        "rows": [{**asdict(row), "measured": {k: v.model_dump() for k, v in row.measured.items()}} for row in rows],
        "cells": [{**asdict(cell), "measured": _rounded(values)} for cell, values in measured.items()],
        "provenance": provenance(),
    }
    path = folder / f"{paper.name}-{plan.dataset}{'-quick' if plan.quick else ''}.json"
    write_atomically(path, (_figures_in_lines(json.dumps(content, indent=1)) + "\n").encode())
    return rows, path


def _figures_in_lines(text: str) -> str:
    """JSON with what holds nothing but numbers on one line, which takes half the bytes and can be read."""
    numbers = r'\[[^][{}"]*\]|\{(?:\s*"[^"\s]*": [-+.\w]+,?)*\s*\}'
    return re.sub(numbers, lambda found: "".join(found[0].split()), text)


def _rounded(value: Any) -> Any:
    """Five digits are more than any figure is worth, and keep a record small."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return {key: _rounded(item) for key, item in value.items()} if isinstance(value, dict) else value
