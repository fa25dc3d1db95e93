"""`unsmash list` and `unsmash report`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attacks import ATTACKS
from attacks.attack import Attack
from attacks.on_outputs import OUTPUT_ATTACKS
from attacks.output_attack import OutputAttack
from attacks.readings import READINGS
from defenses import DEFENSES, Defense
from defenses.fitting import FITTING_DEFENSES
from defenses.fitting_defense import FittingDefense
from defenses.on_outputs import OUTPUT_DEFENSES
from defenses.output_defense import OutputDefense
from experiments.commands.tables import results_tables, study_table
from experiments.hosting.record import is_hosting_run, read_host_records
from experiments.hosting.report import hosting_tables, write_hosting_report
from experiments.papers import PAPERS
from experiments.record import read_records
from experiments.report.html import write_report
from experiments.report.pooling import pooled
from experiments.scenario import bundled
from parties.datasets import DATASETS, TABLES
from parties.protocols import PROTOCOLS
from split_models.split_model import cut_names
from split_models.zoo import ZOO, build, typical_input


class What(StrEnum):
    """What can be listed."""

    models = "models"
    datasets = "datasets"
    attacks = "attacks"
    defenses = "defenses"
    scenarios = "scenarios"
    protocols = "protocols"
    training = "training"
    studies = "studies"
    papers = "papers"


BUNDLED = {
    What.scenarios: ("scenarios", "hosting/scenarios"),
    What.training: ("training/scenarios",),
    What.studies: ("studies",),
}
"""Where what comes with the package lies, for `unsmash run`, `train` and `study`."""


def list_names(
    what: Annotated[What | None, typer.Argument(help="One kind; without it, all of them.")] = None,
) -> None:
    """What there is: models with their cuts, data sets, attacks and defenses with their settings, scenarios, papers."""
    console = Console()
    for kind in [what] if what else list(What):
        table = Table("name", "about", title=kind.value, title_justify="left", show_lines=True)
        for name, about in _rows(kind):
            table.add_row(f"[bold]{escape(name)}[/]", escape(about))
        console.print(table)


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of an `unsmash run` or `unsmash study`.")],
    pictures: Annotated[
        bool | None,
        typer.Option("--pictures/--no-pictures", help="Embed pictures; default: if the data set allows it."),
    ] = None,
) -> None:
    """Write report.html of a run or study again, and show its table."""
    console = Console()
    if is_hosting_run(folder):
        records = read_host_records(folder)
        console.print(hosting_tables(records))
        page = write_hosting_report(folder, records, pictures)
        console.print(f"report:  {page}", soft_wrap=True, highlight=False, markup=False)
        return
    trials = read_records(folder)
    whole = pooled(trials)
    console.print(results_tables(trials) if len(whole) == len(trials) else study_table(whole))
    console.print(f"report:  {write_report(folder, pictures=pictures)}", soft_wrap=True, highlight=False, markup=False)


def _rows(kind: What) -> Iterator[tuple[str, str]]:
    if kind is What.models:
        for name, factory in ZOO.items():
            cuts = cut_names(build(name, typical_input(name), 10))
            yield name, f"{_about(factory)}\ncuts, from shallow to deep: {', '.join(cuts)}"
    elif kind is What.datasets:
        for name, reader in DATASETS.items():
            yield name, _about(reader)
        for name, table in TABLES.items():
            yield name, f"{_about(table)}\na table, for hosted models"
        yield (
            "PATH.npz",
            "Your own: images (uint8, or floats in [0, 1]) or series (floats in [0, 1]), and labels from 0.",
        )
    elif kind is What.attacks:
        for name, attack in ATTACKS.items():
            yield name, _about_attack(attack)
        for name, reading in READINGS.items():
            yield name, f"{_about_attack(reading)}\na reading: finds the task's label, or an attribute"
        for name, on_outputs in OUTPUT_ATTACKS.items():
            yield name, f"{_about_attack(on_outputs)}\non outputs of a hosted model; finds: {on_outputs.goal.value}"
    elif kind is What.defenses:
        for name, defense in DEFENSES.items():
            yield name, _about_defense(defense)
        for name, on_answers in OUTPUT_DEFENSES.items():
            yield name, f"{_about_defense(on_answers)}\non outputs of a hosted model"
        for name, fitting in FITTING_DEFENSES.items():
            yield (
                name,
                f"{_about_defense(fitting)}\nwhile a table is fitted: {', '.join(sorted(fitting.suits))}",
            )
    elif kind is What.protocols:
        for name, protocol in PROTOCOLS.items():
            yield name, _about(protocol)
    elif kind is What.papers:
        for name, paper in PAPERS.items():
            yield name, f"{paper.citation}\ndata sets: {', '.join(paper.datasets)}"
    else:
        for folder in BUNDLED[kind]:
            yield from bundled(folder).items()


def _about_attack(attack: type[Attack] | type[OutputAttack]) -> str:
    settings = ", ".join(f"{key}={field.default}" for key, field in attack.Settings.model_fields.items())
    needs, uses = ", ".join(sorted(attack.requires)), ", ".join(sorted(attack.uses)) or "-"
    return f"{_about(attack)}\nneeds: {needs}; uses if granted: {uses}\nsettings: {settings or '-'}"


def _about_defense(defense: type[Defense] | type[OutputDefense] | type[FittingDefense]) -> str:
    settings = ", ".join(p for p in inspect.signature(defense.__init__).parameters if p != "self")
    return f"{_about(defense)}\nsettings: {settings or '-'}"


def _about(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
