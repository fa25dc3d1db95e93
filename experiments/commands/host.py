"""`unsmash host`, and `unsmash run` for scenarios of hosted models."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape

from defenses import DefenseError
from defenses.on_outputs import make_output_defense
from defenses.output_defense import OutputDefense
from experiments.commands.hand import Certificate, Insecure, Key
from experiments.commands.progress import progress
from experiments.hosting.record import read_host_records
from experiments.hosting.report import hosting_tables, write_hosting_report
from experiments.hosting.runner import run_hosting
from experiments.hosting.scenario import read_host_scenario
from experiments.overrides import parse_value
from parties.explanations import Explanation
from parties.hosted_model import load_hosted
from parties.model_host import HostError, ModelHost, Offer
from parties.query_ledger import QueryLedger
from parties.wire.drain import serve_until_told
from parties.wire.security import ServerSecurity, read_tokens
from parties.wire.server import GrpcServer
from split_models.answers import Answers
from split_models.randomness import generator_for


def host(
    model: Annotated[Path, typer.Argument(help="A checkpoint of a whole model, or a scikit-learn .skops file.")],
    listen: Annotated[str, typer.Option(help="host:port; port 0 takes a free one.")] = "127.0.0.1:50052",
    answers: Annotated[Answers | None, typer.Option(help="What customers get; default: scores, or the value.")] = None,
    defenses: Annotated[
        list[str] | None,
        typer.Option("--defense", metavar="NAME[:KEY=VALUE,…]", help="A step of the output pipeline; in this order."),
    ] = None,
    explanation: Annotated[Explanation, typer.Option(help="Served beside predictions.")] = Explanation.NONE,
    weights: Annotated[bool, typer.Option("--weights", help="Hand the model itself to customers.")] = False,
    customers: Annotated[
        list[str] | None, typer.Option("--customer", metavar="NAME=BUDGET", help="Who may ask, and about how many.")
    ] = None,
    default_budget: Annotated[int | None, typer.Option(min=0, help="Of customers not named; none: refused.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Where queries are counted; default: beside the model.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Inputs of one request.")] = 1024,
    seed: Annotated[int | None, typer.Option(help="Of random defenses; default: unpredictable.")] = None,
    certificate: Certificate = None,
    key: Key = None,
    customers_ca: Annotated[Path | None, typer.Option(help="Customers need a certificate of this authority.")] = None,
    tokens: Annotated[Path | None, typer.Option(help='JSON file {"customer": "token"}; they need theirs.')] = None,
    insecure: Insecure = False,
) -> None:
    """Host a model: answer customers' inputs, count their queries. Ends with Ctrl-C or SIGTERM.

    As in:  unsmash host steak.safetensors --answers label --customer alice=1000 --defense rounding:step=0.01
    """
    hosted = load_hosted(model)
    torch.set_num_threads(1)  # a session's thread computes; several sessions share the cores
    offer = Offer(
        answers or hosted.forms()[-1], [_step(text) for text in defenses or []], explanation, weights, max_batch
    )
    security = ServerSecurity(certificate, key, customers_ca, read_tokens(tokens) if tokens else {}, insecure)
    counted = QueryLedger(ledger or model.with_suffix(".ledger"), _budgets(customers or []), default_budget)
    randomness = int.from_bytes(os.urandom(8), "little") if seed is None else seed
    console = Console(highlight=False, soft_wrap=True)
    try:
        endpoint = ModelHost(hosted, offer, counted, generator_for(randomness, "output defenses"))
        server = GrpcServer(endpoint, listen, security=security)
        console.print(f"hosting {hosted.name} with {offer.answers.value} at {server.address}; Ctrl-C ends it")
        if weights and offer.pipeline:
            console.print("[yellow]doubt[/] customers get the weights too, and no defense acts on those")
        if explanation is not Explanation.NONE and offer.pipeline:
            console.print("[yellow]doubt[/] explanations are of the bare model, and no defense acts on those")
        serve_until_told(server)
        for name, used in sorted(counted.used().items()):
            console.print(f"{name}: {used} queries, {counted.left(name)} left", markup=False)
    finally:
        counted.close()


def run_host_scenario(
    scenario: str, overrides: list[str], out: Path | None, data_dir: Path | None, fresh: bool, console: Console
) -> None:
    """`unsmash run` for a scenario of a hosted model."""
    chosen = read_host_scenario(scenario, overrides)
    folder = out or Path("runs") / chosen.name
    with progress(console, chosen.name, len(chosen.defenses)) as (say, finished):
        for defense, reused in run_hosting(chosen, folder, data_dir, functools.partial(say, 0), fresh):
            finished(defense.label + (" (was there already)" if reused else ""))
    records = read_host_records(folder)
    console.print(hosting_tables(records))
    for record in records:
        for warning in record.warnings:
            console.print(f"[yellow]doubt[/] {escape(record.defense)}: {escape(warning)}")
    report = write_hosting_report(folder, records)
    console.print(f"records: {folder / 'records'}\nreport:  {report}", soft_wrap=True, highlight=False, markup=False)


def _step(text: str) -> OutputDefense:
    name, _, rest = text.partition(":")
    pairs = [setting.partition("=") for setting in rest.split(",") if setting]
    if any(not equals for _, equals, _ in pairs):
        raise DefenseError(f"expected --defense NAME:KEY=VALUE,…, got {text!r}")
    made = make_output_defense(name, {key.strip(): parse_value(value.strip()) for key, _, value in pairs})
    if made.learns:
        raise DefenseError(f"{name} learns from data before it acts; use it in a scenario with `unsmash run`")
    return made


def _budgets(texts: list[str]) -> dict[str, int]:
    pairs = [text.rpartition("=") for text in texts]
    if wrong := [text for text, (name, _, number) in zip(texts, pairs, strict=True) if not (name and number.isdigit())]:
        raise HostError(f"expected --customer NAME=BUDGET with a whole number, got {wrong[0]!r}")
    return {name: int(number) for name, _, number in pairs}
