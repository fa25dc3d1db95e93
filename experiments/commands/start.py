"""`unsmash run` and `unsmash pretrain`."""

from __future__ import annotations

import io
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape

from defenses import make_defense
from experiments import runner
from experiments.commands.host import run_host_scenario
from experiments.commands.options import DataDir, Overrides, ScenarioName
from experiments.commands.progress import progress
from experiments.commands.tables import results_tables
from experiments.hosting.scenario import is_host_scenario
from experiments.record import read_records
from experiments.report.html import write_report
from experiments.roles import torch_threads
from experiments.scenario import Named, Scenario, ScenarioError, check_against_data, read_scenario
from experiments.target import Guarded, train_target, trained_with
from parties.datasets import load
from parties.datasets.dataset import partition
from split_models.checkpoints import write_atomically
from split_models.randomness import seed_for


def run(
    scenario: ScenarioName,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder for records and report; default runs/NAME.")] = None,
    data_dir: DataDir = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute again what finished earlier.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at once; default: one a core.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")] = False,
) -> None:
    """Run a scenario: train, split, send, attack, judge.

    Writes one JSON record a trial and report.html. An interrupted run goes on where it stopped when it is given again.
    """
    if is_host_scenario(scenario):
        run_host_scenario(scenario, overrides or [], out, data_dir, fresh, Console(quiet=quiet))
        return
    chosen = read_scenario(scenario, overrides or [])
    folder = out or Path("runs") / chosen.name
    console = Console(quiet=quiet)
    lanes = workers or len(os.sched_getaffinity(0)) // chosen.threads
    with progress(console, chosen.name, len(list(chosen.trials()))) as (say, finished):
        for trial, _, reused in runner.run(chosen, folder, data_dir, say, fresh, lanes):
            finished(trial.label + (" (was there already)" if reused else ""))
    records = read_records(folder)
    console.print(results_tables(records))
    refusals = {o.reason for record in records for o in record.attacks if o.reason}
    for refusal in sorted(refusals):
        console.print(f"[yellow]refused[/] {escape(refusal)}")
    for record in records:
        for warning in record.warnings:
            console.print(f"[yellow]doubt[/] {escape(record.label)}: {escape(warning)}")
    report = write_report(folder)
    console.print(f"records: {folder / 'records'}\nreport:  {report}", soft_wrap=True, highlight=False, markup=False)


def pretrain(
    scenario: ScenarioName,
    cut: Annotated[str, typer.Option(help="The layer after which the network is cut.")],
    out: Annotated[Path, typer.Option(help="Folder for head.safetensors, tail.safetensors and victims.npz.")],
    overrides: Overrides = None,
    defense: Annotated[
        str | None, typer.Option(help="Of the scenario's defenses one that trains the network or learns from it.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Train a scenario's network and write its two halves, for parties that are started by hand.

    The owner gets head.safetensors and victims.npz (held-out private inputs), the server gets tail.safetensors. With
    --defense, its name or place in the scenario from 0, the network is trained with it, and what it has learnt goes
    into defense.safetensors, which the owner gets as well.
    """
    chosen = read_scenario(scenario, [*(overrides or []), f"cuts=['{cut}']"])
    entry = _defense_of(chosen, defense)
    raw = load(chosen.data.name, data_dir)
    check_against_data(chosen, raw.input_spec, len(raw.classes))
    parts, _ = partition(raw, chosen.data.sizes, seed_for(chosen.seed, "partition"))
    console = Console()
    with progress(console, chosen.name, 1) as (say, _), torch_threads(chosen.threads):
        report = partial(say, 0, "training")
        target = train_target(chosen.model, chosen.seed, parts["train"], raw.input_spec, len(raw.classes), report)
        if entry:
            guarded = Guarded(make_defense(entry.name, entry.settings), cut)
            target = trained_with(chosen, guarded, target, parts["train"], report)
    for part, path in target.save_parts(out, cut).items():
        path.replace(out / f"{part}.safetensors")
    victims = parts["victims"]
    private = victims.images.numpy()
    kept = {"series": private} if private.ndim == 3 else {"images": np.rint(private * 255).astype(np.uint8)}
    arrays = io.BytesIO()
    np.savez(
        arrays,
        **kept,
        labels=victims.labels.numpy(),
        class_names=np.array(raw.classes),
    )
    write_atomically(out / "victims.npz", arrays.getvalue())
    console.print(
        f"{chosen.model.name} reached {target.train_accuracy:.1%} on its training part; "
        f"wrote {'defense.safetensors, ' if target.defense_state else ''}head.safetensors, tail.safetensors and "
        f"victims.npz to {out}",
        soft_wrap=True,
        highlight=False,
    )


def _defense_of(scenario: Scenario, asked: str | None) -> Named | None:
    """The entry that is meant by a name, or by a place from 0."""
    found = [entry for place, entry in enumerate(scenario.defenses) if asked in (entry.name, str(place))]
    if asked is not None and len(found) != 1:
        there = ", ".join(f"{place} ({entry.label})" for place, entry in enumerate(scenario.defenses))
        raise ScenarioError(f"--defense {asked}: expected one of the scenario's defenses, which are {there}")
    return found[0] if found else None
