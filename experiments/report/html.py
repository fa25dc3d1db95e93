"""One self-contained HTML file for a run: opens from disk, asks the network for nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from experiments.equal_cost.comparison import read_comparison, shown
from experiments.record import MANIFEST, Record, read_records
from experiments.report import comparisons, figure, gallery, plots, reproduce, tables, wording
from experiments.report.pooling import alike, pooled
from split_models.checkpoints import write_atomically

REPORT = "report.html"

FEW = 4
"""Trials up to which every one is told in words; those of larger studies are folded away."""


def write_report(folder: Path, *, pictures: bool | None = None) -> Path:
    """Write `report.html` into the folder of a run and return its path.

    `pictures` says whether private images and reconstructions are embedded; None embeds them only if every
    record's data set is marked as shareable.

    Raises:
        RecordError: the folder holds no run, or a record cannot be read.
        CheckpointError: a file of pictures is broken.
    """
    records = read_records(folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    embed = _shareable(records) if pictures is None else pictures
    unfinished, study = len(manifest["keys"]) - len(records), manifest.get("study")
    page = render(folder, str(manifest["scenario"]), records, embed, unfinished, study, manifest.get("skipped", []))
    path = folder / REPORT
    write_atomically(path, page.encode())
    return path


def render(
    folder: Path,
    name: str,
    every: Sequence[Record],
    pictures: bool,
    unfinished: int = 0,
    study: Mapping[str, Any] | None = None,
    skipped: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as text; pictures are read from below `folder` when they are embedded.

    Records that differ in their seed alone are shown as one. `study` is the table of a study, `skipped` what it left
    out, as labels with reasons.
    """
    records = pooled(every)
    again = reproduce.of_study(study) if study else reproduce.of_scenario(reproduce.scenario_of(name, every))
    labels, floors = tables.attack_labels(records), tables.floor_names(records)
    return (
        environment()
        .get_template("report.html")
        .render(
            css=inline("report.css"),
            js=inline("report.js"),
            name=name,
            description=again.description,
            records=records,
            skipped=skipped,
            **_over_trials(folder, every, records, pictures),
            cuts=tables.by_cut(records),
            unfinished=unfinished,
            labels=labels,
            floors=floors,
            rows={record.key: tables.result_rows(record, labels, floors) for record in records},
            readings=tables.reading_rows(records),
            warnings=tables.warnings(records),
            attacks=tables.attack_summaries(records),
            panels=figure.panels(records),
            galleries=gallery.galleries(folder, records, pictures),
            glimpse=gallery.glimpse(folder, records) if pictures else [],
            pictures=pictures,
            shareable=_shareable(records),
            granted=records[0].threat_model.get("grants", []),
            query_budget=records[0].threat_model.get("query_budget", 0),
            timing_names=list(dict.fromkeys(name for record in records for name in record.timing)),
            scenario_toml=again.toml,
            command=again.command,
        )
    )


def _over_trials(folder: Path, every: Sequence[Record], records: Sequence[Record], pictures: bool) -> dict[str, Any]:
    """What compares trials with each other, of which a run may have few and a study many."""
    return {
        "every": every,
        "seeds": len(alike(every)[0]),
        "depths": plots.keyed(plots.depth_plots(folder, records, pictures), "depth"),
        "tradeoffs": plots.keyed(plots.tradeoff_plots(folder, records, pictures), "tradeoff"),
        "comparisons": comparisons.comparisons(every),
        "worths": comparisons.worths(every),
        "equal_cost": read_comparison(folder, [record.key for record in every]),
        "folded": len(records) > FEW,
    }


def _shareable(records: Sequence[Record]) -> bool:
    # A record that does not say is treated as private.
    return all(record.dataset.get("shareable") is True for record in records)


def environment() -> Environment:
    """What the project's pages are made with: templates of this package, everything escaped."""
    environment = Environment(
        loader=PackageLoader("experiments", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "shown": shown,
        "percent": wording.percent,
        "count": wording.count,
        "plural": wording.plural,
        "size": wording.size,
        "seconds": wording.seconds,
        "readable": tables.readable,
        "breakable": _breakable,
        "floor_name": lambda key: gallery.FLOORS.get(key, key.replace("_", " ")),
    }
    environment.filters |= filters
    environment.globals |= {
        "verdict": wording.verdict,
        "finding": wording.finding,
        "plural": wording.plural,
        "capabilities": wording.CAPABILITIES,
        "chart_width": plots.WIDTH,
        "chart_left": plots.LEFT,
        "chart_right": plots.RIGHT,
        "chart_bottom": plots.BOTTOM,
        "drops": comparisons.DROPS,
        "figure_width": figure.WIDTH,
        "figure_sides": (figure.LEFT, figure.RIGHT),
    }
    return environment


def _breakable(text: str) -> Markup:
    """Escaped, with places to break a line after underscores: names of attacks are long."""
    return escape(text).replace("_", Markup("_<wbr>"))


def inline(name: str) -> Markup:
    """A file of this package as it stands: ours, so not escaped."""
    return Markup((resources.files("experiments.report") / name).read_text(encoding="utf-8"))
