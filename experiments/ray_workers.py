"""Workers of a study on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from experiments.export.extras import ExportError, wanted
from experiments.worker import Worker
from parties.processes import PartyError


class RayWorkers:
    """One Ray actor a lane, each with one CPU; a context manager.

    Every machine of the cluster needs this package at the same version, and the study's folder and the data directory
    under the same path. Ray passes Python objects between its own processes: use a cluster that nobody else reaches.

    Args:
        address: of a cluster's head, as `host:port`; "local" starts a Ray of one's own on this machine.

    Raises:
        ExportError: ray is not installed, or nobody answers at the address.
    """

    def __init__(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = wanted("ray", "ray")
        self._actors: dict[int, Any] = {}
        try:
            self._ray.init(
                address=address, include_dashboard=False if address == "local" else None, log_to_driver=False
            )
        except Exception as error:  # a Ray that takes too long to start raises nothing more telling
            self._ray.shutdown()
            reason = str(error).splitlines()[0]
            raise ExportError(f"no Ray cluster at {address!r} ({reason}); start one with `ray start --head`") from error

    @property
    def lanes(self) -> int:
        """Trials that the cluster can run at once."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def ask(self, lane: int, arguments: dict[str, Any], report: Callable[[float], None]) -> dict[str, Any]:
        """Run `Worker.trial` with these arguments; after a PartyError the lane has a new worker."""
        if lane not in self._actors:
            self._actors[lane] = self._ray.remote(num_cpus=1)(Worker).remote(_unheard)
        try:
            answer: dict[str, Any] = self._ray.get(self._actors[lane].trial.remote(**arguments))
        except self._ray.exceptions.RayError as error:
            self._ray.kill(self._actors.pop(lane))
            raise PartyError(f"Ray worker {lane} failed: {str(error).splitlines()[0]}") from error
        report(1.0)
        return answer

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()


def _unheard(fraction: float) -> None:
    """Progress within a trial does not travel over Ray."""
