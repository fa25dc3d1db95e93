"""Results of a hosting run: tables in the terminal, and one page without network access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Group
from rich.table import Table
from rich.text import Text

from attacks.output_attack import Access
from experiments.hosting.record import PRIVATE, Figures, HostRecord
from experiments.record import pictures_path
from experiments.report.gallery import data_uri
from experiments.statistics import Summary
from split_models.checkpoints import load_tensors, write_atomically

COLUMNS = {"accuracy": 2, "precision": 2, "recall": 2, "mcc": 2}
PICTURE_COLUMNS = {"identified": 2, "ssim": 2, "psnr_db": 1, "mse": 4}
REPORT = "report.html"
SHOWN = 12  # pictures of a part, evenly spread over its victims


Line = tuple[str, str, list[str], str]
"""Name, part, figures and queries, as tables show them."""


@dataclass(frozen=True)
class Wall:
    """One part's pictures: private ones, then what each attack found, as data URIs."""

    part: str
    strips: list[tuple[str, list[str]]]


def hosting_tables(records: Sequence[HostRecord]) -> Group:
    """What no leak is and what the most could be, then a table a defense, with 95 % intervals."""
    columns = _columns(records[0])
    floors = _table("without the model", columns, _floor_lines(records[0]), [])
    tables = (_table(f"{r.defense}   {_worth(r)}", columns, _lines(r), _refused(r)) for r in records)
    return Group(floors, *tables)


def write_hosting_report(folder: Path, records: Sequence[HostRecord], pictures: bool | None = None) -> Path:
    """Write one self-contained page beside the records; returns its path.

    Args:
        folder: of the run, where its pictures are.
        records: of all defenses.
        pictures: embed pictures; None does it where the data sets allow it.
    """
    templates = PackageLoader("experiments", "report")
    environment = Environment(
        loader=templates, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    style = (resources.files("experiments") / "report" / "report.css").read_text()
    shown = bool(records[0].dataset.get("shareable")) if pictures is None else pictures
    page = environment.get_template("hosting.html").render(
        records=[
            {
                "record": record,
                "utility": _worth(record),
                "lines": _lines(record),
                "refused": _refused(record),
                "walls": _walls(folder, record) if shown else [],
            }
            for record in records
        ],
        floors=_floor_lines(records[0]),
        scenario=records[0].scenario,
        served=_served(records[0]),
        granted=_granted(records[0]),
        dataset=records[0].dataset,
        of_pictures=_of_pictures(records[0]),
        withheld=_of_pictures(records[0]) and not shown,
        columns=list(_columns(records[0])),
        style=Markup(style),  # the package's own
    )
    write_atomically(folder / REPORT, page.encode())
    return folder / REPORT


def _served(record: HostRecord) -> str:
    """What each customer gets, in words."""
    host = record.scenario["host"]
    if not record.explained:
        return str(host["answers"])
    size = "×".join(map(str, record.explained))
    return f"{host['answers']}, and on asking why, a {host['explanation']} explanation of {size}"


def _granted(record: HostRecord) -> list[str]:
    """What the attacker got; nobody gets an explanation of a host that explains nothing."""
    grants = record.scenario["threat_model"]["grants"]
    return [grant for grant in grants if record.explained or grant != Access.EXPLANATIONS]


def _of_pictures(record: HostRecord) -> bool:
    return "data" in record.scenario


def _columns(record: HostRecord) -> dict[str, int]:
    return PICTURE_COLUMNS if _of_pictures(record) else COLUMNS


def _walls(folder: Path, record: HostRecord) -> list[Wall]:
    """Pictures of a record by part; none where the file is gone."""
    path = pictures_path(folder, record.key)
    if not path.exists():
        return []
    images, walls = load_tensors(path)[0], []
    for name, private in images.items():
        if not name.startswith(PRIVATE):
            continue
        part = name.removeprefix(PRIVATE)
        chosen = torch.linspace(0, len(private) - 1, min(SHOWN, len(private))).round().long()
        rows = [("private", private)]
        rows += [(a.label, images[f"{a.label} · {part}"]) for a in record.attacks if f"{a.label} · {part}" in images]
        walls.append(Wall(part, [(label, [data_uri(image) for image in found[chosen]]) for label, found in rows]))
    return walls


def _table(title: str, columns: dict[str, int], lines: Sequence[Line], refused: Sequence[str]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", title_style="")
    for name in ("", "", *columns, "queries"):
        table.add_column(name, overflow="fold")  # a narrow terminal still shows every digit
    for name, part, figures, queries in lines:
        table.add_row(Text(name), part, *figures, queries)
    for name in refused:
        table.add_row(Text(name), "refused")
    return table


def _lines(record: HostRecord) -> list[Line]:
    columns = _columns(record)
    return [
        (attack.label, part, _texts(figures, columns), "" if number else str(attack.queries))
        for attack in record.attacks
        for number, (part, figures) in enumerate(attack.inferred.items())
    ]


def _floor_lines(record: HostRecord) -> list[Line]:
    """Guesses without the model: they are the same under every defense."""
    return [
        (_floor_name(name), part, _texts(figures, _columns(record)), "")
        for name, parts in record.floors.items()
        for part, figures in parts.items()
    ]


def _floor_name(name: str) -> str:
    if name == "ideal":
        return "ceiling: fitted to the secret"
    return name if name.startswith("ceiling") else f"floor: {name}"


def _texts(figures: Figures, columns: dict[str, int]) -> list[str]:
    return [_interval(figures[name], digits) if name in figures else "" for name, digits in columns.items()]


def _refused(record: HostRecord) -> list[str]:
    return [f"{attack.label}: {attack.reason}" for attack in record.attacks if attack.status == "refused"]


def _worth(record: HostRecord) -> str:
    """What the answers are worth, without the defense and with it, and how far they moved."""
    utility = record.utility
    parts = [
        f"{name.replace('_', ' ')} {utility.plain[name]:.3f} → {value:.3f}" for name, value in utility.served.items()
    ]
    if utility.distortion is not None:
        parts.append(f"distortion {utility.distortion:.3f}")
    return ", ".join(parts)


def _interval(summary: Summary, digits: int) -> str:
    return f"{summary.mean:.{digits}f} ({summary.low:.{digits}f}–{summary.high:.{digits}f})"
