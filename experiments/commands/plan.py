"""`unsmash plan`: which cuts and defenses satisfy a latency, an accuracy and a leakage."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from experiments.commands.cuts import ModelName, Repeats, Threads, made
from experiments.planner import Link, Option, Wishes, evidence, options, read_evidence
from experiments.record import Record
from experiments.report.plan_page import conclusion, leaked, one_seed_note, peeks, write_plan
from experiments.roles import torch_threads
from split_models.tensor_spec import TensorSpec


class Measured(StrEnum):
    """How leakage is measured; higher always leaks more."""

    ssim = "ssim"
    psnr_db = "psnr_db"
    identification = "identification"


def plan(
    model: ModelName,
    records: Annotated[Path, typer.Option(help="Folder of a run, or of several: the evidence.")],
    bandwidth: Annotated[float, typer.Option(min=1e-6, help="Between owner and server, in Mbit/s each way.")],
    round_trip: Annotated[float, typer.Option(min=0, help="Of an empty message, in ms.")] = 0.0,
    latency: Annotated[float | None, typer.Option(min=0, help="Target: at most so many ms an inference.")] = None,
    accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="Floor, as a fraction.")] = None,
    leakage: Annotated[float | None, typer.Option(help="Ceiling, in the measure chosen.")] = None,
    measure: Annotated[Measured, typer.Option(help="What leakage is measured in.")] = Measured.ssim,
    owner_slowdown: Annotated[float, typer.Option(min=1e-6, help="Owner's time relative to this machine's.")] = 1.0,
    repeats: Repeats = 15,
    threads: Threads = 1,
    out: Annotated[Path | None, typer.Option(help="The page with the plot; default plan.html in --records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output instead of a table.")] = False,
) -> None:
    """Which cuts and defenses satisfy a latency target, an accuracy floor and a leakage ceiling?

    Latency of one inference is predicted from times measured here, the bytes of the activation, bandwidth and round
    trip. Accuracy and leakage come from records; leakage is that of the strongest attacker, with a 95 % interval over
    seeds and victims. Its mean has to be below the ceiling; an interval that ends above is remarked. Ends with exit
    status 1 if nothing satisfies all wishes.
    """
    found = read_evidence(records, model)
    name, link, wishes = found[0].dataset["name"], Link(bandwidth, round_trip), Wishes(latency, accuracy, leakage)
    answers = _answers(model, found, link, wishes, measure, owner_slowdown, repeats, threads)
    path, pictures = out or records / "plan.html", peeks(records, found, answers)
    page = write_plan(path, model, name, answers, link, wishes, measure.value, pictures)
    console = Console()
    if as_json:
        typer.echo(json.dumps([_fields(answer) for answer in answers]))
    else:
        console.print(_table(answers, measure))
        console.print(conclusion(answers), soft_wrap=True, highlight=False, markup=False)
        if note := one_seed_note(answers):
            console.print(note, soft_wrap=True, highlight=False, markup=False)
        console.print(f"plot: {page}", soft_wrap=True, highlight=False, markup=False)
    if all(answer.misses for answer in answers):
        raise typer.Exit(1)


def _answers(
    model: str,
    found: list[Record],
    link: Link,
    wishes: Wishes,
    measure: Measured,
    owner_slowdown: float,
    repeats: int,
    threads: int,
) -> list[Option]:
    dataset, errors = found[0].dataset, Console(stderr=True)
    input_spec = TensorSpec(tuple(dataset["input_shape"]), low=0.0, high=1.0)
    network = made(model, input_spec, dataset["classes"])
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bars, torch_threads(threads):
        bar = bars.add_task("measuring", total=1.0)
        return options(
            evidence(found, measure.value),
            network,
            input_spec,
            dataset["classes"],
            link,
            wishes,
            owner_slowdown=owner_slowdown,
            repeats=repeats,
            report=lambda done: bars.update(bar, completed=done),
        )


def _fields(option: Option) -> dict[str, Any]:
    entry, leakage = option.evidence, option.evidence.leakage
    return {
        "cut": entry.cut,
        "defense": entry.defense.label,
        "latency_ms": option.latency_ms,
        "owner_ms": option.owner_ms,
        "wire_ms": option.wire_ms,
        "server_ms": option.server_ms,
        "bytes_up": option.bytes_up,
        "accuracy": entry.accuracy,
        "leakage": leakage and leakage.mean,
        "leakage_low": leakage and leakage.low,
        "leakage_high": leakage and leakage.high,
        "attacker": entry.attacker,
        "seeds": entry.seeds,
        "misses": option.misses,
        "remark": option.remark,
        "on_front": option.on_front,
        "records": entry.keys,
    }


def _table(answers: list[Option], measure: Measured) -> Table:
    title = "● satisfies every wish, ◐ by the mean of its leakage alone, ○ does not; ► on the Pareto front"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "cut · defense"):
        table.add_column(heading)
    for heading in ("latency\nms", "accuracy", f"worst\n{measure.value}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("by", "misses", "records"):
        table.add_column(heading, overflow="fold")
    for option in answers:
        entry = option.evidence
        table.add_row(
            ("○" if option.misses else "◐" if option.remark else "●") + ("►" if option.on_front else ""),
            escape(option.label),
            f"{option.latency_ms:.1f}",
            f"{entry.accuracy:.1%}",
            "unknown" if entry.leakage is None else leaked(entry.leakage),
            entry.attacker,
            ", ".join(option.misses) or option.remark,
            " ".join(entry.keys),
            style="" if not option.misses else "dim",
        )
    return table
