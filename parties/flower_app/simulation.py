"""A simulation's process: `python -m parties.flower_app.simulation flower NAME`, obeying its standard input."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from parties.flower_app.quiet import keep_quiet
from parties.memory import peak_memory_mb
from parties.messages import WireError
from parties.processes import obey
from split_models.checkpoints import load_tensors, save_tensors


def simulate(
    report: Callable[[float], None],
    folder: str,
    scratch: str,
    job: str,
    owners: int,
    rounds: int,
    fraction: float,
    workers: int,
) -> dict[str, Any]:
    """Train with so many virtual owners, whose data are in `folder`; at most `workers` of them run at once.

    Ray's own files go to `scratch`, which has a short path, for sockets are among them.
    Writes `head.safetensors`, and says what each round came to and how much memory this process took at most.
    """
    place = Path(folder)
    keep_quiet(place / "flower")
    # Only after that: Flower reads its settings when it is imported.
    from flwr.app import Context
    from flwr.serverapp import Grid
    from flwr.simulation import run_simulation

    from parties.flower_app.client import make_client_app
    from parties.flower_app.job import Job, owner_name
    from parties.flower_app.server import Federation, lead, make_server_app

    done: list[Federation] = []
    over = itertools.count(1)

    def run(grid: Grid, context: Context) -> None:
        head, _ = load_tensors(place / "initial.safetensors")
        told = Job.from_json(job)
        done.append(lead(grid, told, head, rounds, owners, lambda played: report(next(over) / rounds), fraction))

    def find(context: Context) -> tuple[str, Path]:
        name = owner_name(int(context.node_config["partition-id"]))
        return name, place / "owners" / f"{name}.safetensors"

    run_simulation(
        server_app=make_server_app(run),
        client_app=make_client_app(find),
        num_supernodes=owners,
        backend_config=_engine(workers, scratch),
    )
    if not done:
        raise WireError("Flower ended before the training did; see this party's log")
    save_tensors(place / "head.safetensors", done[0].head)
    return {"rounds": done[0].as_json(), "peak_memory_mb": peak_memory_mb()}


def _engine(workers: int, scratch: str) -> dict[str, Any]:
    """One core an owner; Flower would take two, and so run half as many at once."""
    ray = {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False, "_temp_dir": scratch}
    return {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": ray}


def _end_group() -> None:
    """End this party with all that Ray has started for it: some of that would live on for a minute or more."""
    with contextlib.suppress(ProcessLookupError):  # not started as a party: the group is not its own
        os.killpg(os.getpid(), signal.SIGKILL)


def main() -> NoReturn:
    """Be the process that the command line names until standard input ends."""

    def methods(report: Callable[[float], None]) -> Mapping[str, Callable[..., Any]]:
        return {"simulate": lambda **arguments: simulate(report, **arguments)}

    obey(methods, (WireError,), at_end=_end_group)


if __name__ == "__main__":
    main()
