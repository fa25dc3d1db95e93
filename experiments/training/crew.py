"""The parties of a training as processes that can be lost and started again one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from parties.processes import Parties
from parties.tuning import share_of_cores

SERVER = "server"
MODULE = "experiments.training.party"
Report = Callable[[str, float], None]
BEGINNING_S = 300.0  # a party that loads its libraries and its data is not late


class TrainingCrew:
    """One group of processes a party, so that the end of one does not end the others; a context manager.

    Args:
        begin: what each party is told first, by its name.
        patience_s: how long a party may say nothing.
    """

    def __init__(self, begin: dict[str, dict[str, Any]], logs: Path, patience_s: float, report: Report) -> None:
        self._begin, self._logs, self._patience_s, self._report = begin, logs, patience_s, report
        self._groups: dict[str, Parties] = {}
        self._starting = {name: threading.RLock() for name in begin}  # two that miss a party must not both start it
        self.begun: dict[str, dict[str, Any]] = {}

    def start(self, *names: str) -> None:
        """Start parties, anew if they run, and tell each what to begin with, all at once.

        Raises:
            PartyError: a party cannot begin.
        """
        self.all_at_once(self._start, names)

    def _start(self, name: str) -> None:
        with self._starting[name]:
            self._stop(name)
            group = self._groups[name] = Parties(MODULE, self._logs)
            cores = share_of_cores(list(self._begin).index(name), len(self._begin))
            group.start("server" if name == SERVER else "owner", name, cores)
            self.begun[name] = self._ask(name, "begin", self._begin[name], max(self._patience_s, BEGINNING_S))

    def ask(self, name: str, method: str, **arguments: Any) -> Any:
        """One party's answer.

        Raises:
            PartyError: it failed, died, or said nothing for too long; it does not run any more.
        """
        return self._ask(name, method, arguments, self._patience_s)

    def _ask(self, name: str, method: str, arguments: dict[str, Any], patience_s: float) -> Any:
        group = self._groups[name]
        return group.ask({name: (method, arguments)}, timeout_s=patience_s, report=self._report)[name]

    def all_at_once(self, what: Callable[[str], Any], names: tuple[str, ...]) -> list[Any]:
        """Do something with several parties at the same time; the first error, once all are done."""
        with ThreadPoolExecutor(len(names)) as pool:
            futures = [pool.submit(what, name) for name in names]
        return [future.result() for future in futures]

    def together(self, what: Callable[[str], Any], names: tuple[str, ...]) -> list[Any]:
        """Do something that takes all of them; the first that fails ends the others, which would wait for it in vain.

        Raises:
            PartyError: that first failure.
        """
        with ThreadPoolExecutor(len(names)) as pool:
            futures = {pool.submit(what, name): name for name in names}
            done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((future for future in done if future.exception()), None)
            for future in waiting if failed else ():
                self._stop(futures[future])
        return [failed.result()] if failed else [future.result() for future in futures]

    def server_address(self) -> str:
        """Where owners find the server, which is started again if it is gone.

        Raises:
            PartyError: it cannot begin.
        """
        self.ensure(SERVER)
        return str(self.begun[SERVER]["address"])

    def alive(self, name: str) -> bool:
        """Whether a party runs."""
        return name in self._groups and self._groups[name].alive(name)

    def _stop(self, name: str) -> None:
        group = self._groups.pop(name, None)
        if group is not None:
            group.stop()

    def ensure(self, name: str) -> None:
        """Start a party unless it runs.

        Raises:
            PartyError: it cannot begin.
        """
        with self._starting[name]:
            if not self.alive(name):
                self._start(name)

    def __enter__(self) -> TrainingCrew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        names = tuple(self._groups)
        if names:
            self.all_at_once(self._stop, names)
