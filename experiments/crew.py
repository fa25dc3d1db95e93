"""The parties of a run behind one call: processes of their own, or objects in the runner's process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from experiments.roles import OwnerRole, ServerRole
from experiments.transports import InProcessTransport
from parties.processes import Parties, Report

SERVER = "server"
Commands = Mapping[str, tuple[str, dict[str, Any]]]


class Crew(Protocol):
    """Sends commands to named parties and gathers their results."""

    def ask(self, commands: Commands, *, report: Report = ...) -> dict[str, Any]:
        """Send each named party a method with its arguments; all results by name."""
        ...


class InProcessCrew:
    """The same roles as objects, asked one after another; their channels use the same codec."""

    def __init__(self, owners: list[str]) -> None:
        self._report: Report = lambda name, fraction: None
        transport = InProcessTransport()
        self._roles: dict[str, OwnerRole | ServerRole] = {name: OwnerRole(name, transport) for name in owners}
        self._roles[SERVER] = ServerRole(SERVER, transport, lambda fraction: self._report(SERVER, fraction))

    def ask(self, commands: Commands, *, report: Report = lambda name, fraction: None) -> dict[str, Any]:
        """Send each named party a method with its arguments; all results by name."""
        self._report = report
        return {name: getattr(self._roles[name], method)(**args) for name, (method, args) in commands.items()}


@contextmanager
def assembled(transport: str, owners: list[str], logs: Path) -> Iterator[Crew]:
    """Start the parties of a run and stop them at its end, whatever happens in between.

    Processes start at once, but are only waited for with their first command, so they load while a target trains.
    """
    if transport == "in-process":
        yield InProcessCrew(owners)
        return
    with Parties("experiments.party", logs) as parties:
        for name in owners:
            parties.start("owner", name)
        parties.start("server", SERVER)
        yield parties
