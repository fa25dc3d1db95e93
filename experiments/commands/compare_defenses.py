"""`unsmash compare-defenses`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from defenses import DefenseError
from experiments.commands.options import DataDir, Overrides
from experiments.commands.progress import progress
from experiments.commands.study import study as run_study
from experiments.equal_cost.comparison import write_comparison
from experiments.equal_cost.strengths import DROPS, STRENGTHS
from experiments.equal_cost.tuning import Plan, tune_all
from experiments.record import read_records
from experiments.report.html import write_report
from experiments.report.reproduce import of_study
from experiments.scenario import Named, ScenarioError
from experiments.study import Study, read_study
from split_models.checkpoints import write_atomically


def compare_defenses(
    overrides: Overrides = None,
    base: Annotated[
        str, typer.Option(help="The study whose data, network, cut, attacks and seeds are used.")
    ] = "compare-defenses",
    only: Annotated[list[str] | None, typer.Option("--defense", help="Compare only these; may be given often.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Bisections of a defense's strength for each drop, at most.")] = 7,
    tuning_seeds: Annotated[int, typer.Option(min=1, help="Trainings on which strengths are chosen.")] = 2,
    first_tuning_seed: Annotated[int, typer.Option(min=0, help="The first of these; the others follow it.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="The small size of the study: shows that it runs.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the tuned study, records and report.")] = Path(
        "runs/compare-defenses"
    ),
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at once; default: one a core.")] = None,
) -> None:
    """Tune every defense to accuracy drops of 1, 3 and 5 points, attack all, and say which leaves least.

    Strengths are found by bisection, on seeds and on images that are not among those reported. They are written to
    tuned.toml, which `unsmash study` runs again. The same command goes on where an earlier one stopped.
    """
    unknown = [name for name in only or [] if name not in STRENGTHS]
    if unknown:
        raise DefenseError(f"cannot tune {unknown[0]!r}; use one of: {', '.join(STRENGTHS)}")
    study, console = read_study(base, overrides or [], quick), Console()
    plan = _plan(study, range(first_tuning_seed, first_tuning_seed + tuning_seeds), steps)
    chosen, notes = _tuned(plan, only or list(STRENGTHS), out, data_dir, workers, console)
    path = out / "tuned.toml"
    write_atomically(path, of_study(_tuned_study(study, chosen)).toml.encode())
    failed = _run(path, out, data_dir, workers)
    content = write_comparison(out, read_records(out), chosen, plan, notes)
    write_report(out)
    for said in [*(text for one in content["verdicts"] for text in one["sentences"]), *content["findings"]]:
        console.print(escape(said), soft_wrap=True, highlight=False)
    if failed:
        raise typer.Exit(failed)


def _plan(study: Study, seeds: range, steps: int) -> Plan:
    scenarios = [scenario for scenario, _ in study.scenarios]
    first = scenarios[0]
    if len(first.cuts) > 1 or len({scenario.key("data", "model") for scenario in scenarios}) < len(scenarios):
        raise ScenarioError(
            f"{study.name}: expected one cut and nothing varied but seeds, because strengths are tuned for one cut; "
            "choose with --set, as in --set \"cuts=['relu2']\""
        )
    if not first.data.tuning:
        raise ScenarioError(f"{study.name}: expected images to tune on, got none; give some: --set data.tuning=500")
    if both := sorted({scenario.seed for scenario in scenarios} & set(seeds)):
        raise ScenarioError(
            f"{study.name}: seed {both[0]} is among those reported and those tuned with; change --first-tuning-seed, "
            'or --set "study.seeds=[100,101,102]"'
        )
    return Plan(first.model_dump(mode="json"), tuple(seeds), steps)


def _tuned(
    plan: Plan, names: list[str], folder: Path, data_dir: Path | None, workers: int | None, console: Console
) -> tuple[dict[float, dict[str, dict[str, Any]]], dict[str, Any]]:
    """For each drop the defenses by name, as tables; and what tuning said."""
    chosen: dict[float, dict[str, dict[str, Any]]] = {drop: {} for drop in DROPS}
    notes: dict[str, Any] = {"skipped": {}, "tuning_costs": {}}
    with progress(console, "tuning", len(names)) as (say, finished):
        lanes = workers or len(os.sched_getaffinity(0))
        for name, found in tune_all(plan, names, folder, data_dir, say, lanes):
            if isinstance(found, str):
                notes["skipped"][name] = found
            else:
                notes["tuning_costs"][name] = found.costs
                for drop, table in found.chosen.items():
                    chosen[drop][name] = table
                if not found.chosen:
                    notes["skipped"][name] = "its weakest setting costs too much already"
            if name in notes["skipped"]:
                console.print(f"[yellow]left out[/] {name}: {escape(notes['skipped'][name])}", highlight=False)
            finished(f"tuning {name}")
    in_order = {drop: {name: found[name] for name in names if name in found} for drop, found in chosen.items()}
    return in_order, notes


def _tuned_study(study: Study, chosen: dict[float, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    entries = {Named.model_validate(table).label: table for found in chosen.values() for table in found.values()}
    return {
        **study.table,
        "name": "equal-cost",
        "description": "Defenses tuned to equal accuracy drops",
        "defenses": [{"name": "none"}, *entries.values()],
    }


def _run(path: Path, folder: Path, data_dir: Path | None, workers: int | None) -> int:
    """Run the tuned study; returns the exit status that failed trials ask for."""
    try:
        run_study(str(path), out=folder, data_dir=data_dir, workers=workers)
    except typer.Exit as ending:
        return ending.exit_code
    return 0
