"""Parties as operating-system processes: start, ask, watch and stop them.

A party reads one JSON command a line from its standard input and answers with JSON lines. When the input ends,
because whoever started it is gone, it ends as well: no orphan survives, however its parent died.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NoReturn

Report = Callable[[str, float], None]
"""Told which party has done which fraction in [0, 1] of what it was asked."""

ORPHANED = 70  # exit status of a party whose parent is gone
LOG_LINES = 12


class PartyError(Exception):
    """A party has died or failed; the message names it and quotes the end of its log."""


class Party:
    """One running process; made and owned by `Parties`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        inbox: queue.Queue[tuple[Party, str]],
        cores: Set[int] | None,
    ) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            # A session of its own: Ctrl-C reaches the parent alone, which then stops its parties in order.
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True
            )
        if cores is not None:
            with contextlib.suppress(ProcessLookupError):  # it has died, which is told where it is asked
                os.sched_setaffinity(self.process.pid, cores)
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def _read(self, inbox: queue.Queue[tuple[Party, str]]) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            inbox.put((self, line))
        inbox.put((self, ""))

    def send(self, command: Mapping[str, Any]) -> None:
        """Write one command; a party that is gone is noticed when its answer is waited for."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()

    def log_tail(self) -> str:
        """The last lines that the party wrote to its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"


class Parties:
    """A group of processes that live and end together; a context manager.

    Args:
        module: what each runs, as `python -m module role name`.
        logs: the folder for one log file a party.
    """

    def __init__(self, module: str, logs: Path) -> None:
        self._module, self._logs = module, logs
        self._inbox: queue.Queue[tuple[Party, str]] = queue.Queue()
        self._parties: dict[str, Party] = {}

    def start(self, role: str, name: str, cores: Set[int] | None = None) -> None:
        """Start one more party, on these cores or on any; it is ready when it answers its first command."""
        command = [sys.executable, "-m", self._module, role, name]
        self._parties[name] = Party(name, command, self._logs / f"{name}.log", self._inbox, cores)

    def alive(self, name: str) -> bool:
        """Whether a party of this group runs."""
        return name in self._parties and self._parties[name].process.poll() is None

    def ask(
        self,
        commands: Mapping[str, tuple[str, dict[str, Any]]],
        *,
        timeout_s: float = 3600.0,
        report: Report = lambda name, fraction: None,
    ) -> dict[str, Any]:
        """Send each named party a method with its arguments, all at once, and wait for all results.

        Raises:
            PartyError: any party of the group has died or reported an error, or time is up; the group is stopped.
        """
        try:
            return self._gather(commands, timeout_s, report)
        except PartyError:
            # Others may still be at work: what they answer later must not be taken for an answer to something else.
            self.stop()
            raise

    def _gather(
        self, commands: Mapping[str, tuple[str, dict[str, Any]]], timeout_s: float, report: Report
    ) -> dict[str, Any]:
        if gone := sorted(set(commands) - set(self._parties)):
            raise PartyError(f"{', '.join(gone)} does not run; start a new group of parties")
        for name, (method, arguments) in commands.items():
            self._parties[name].send({"method": method, "arguments": arguments})
        results: dict[str, Any] = {}
        while len(results) < len(commands):
            try:
                party, line = self._inbox.get(timeout=timeout_s)
            except queue.Empty:
                late = ", ".join(sorted(set(commands) - set(results)))
                raise PartyError(f"{late} said nothing for {timeout_s:g} s; see the logs in {self._logs}") from None
            answer = self._parsed(party, line)
            if "progress" in answer:
                report(party.name, float(answer["progress"]))
            else:
                results[party.name] = answer["result"]
        return results

    def _parsed(self, party: Party, line: str) -> dict[str, Any]:
        if not line.endswith("\n"):  # the end, or what a party had said of an answer when it died
            raise PartyError(f"{party.name} {_how_it_ended(party.process.wait())}; its log ends:\n{party.log_tail()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PartyError(f"{party.name}: {answer['error']}")
        return answer

    def stop(self, grace_s: float = 2.0) -> None:
        """End every party: ask, wait, terminate, wait, kill. Nothing is left running."""
        parties = list(self._parties.values())  # a thread that asks may find them gone, and stop them as well
        for party in parties:
            with contextlib.suppress(OSError):
                party.process.stdin.close()  # type: ignore[union-attr]
        for escalate in (lambda p: None, subprocess.Popen.terminate, subprocess.Popen.kill):
            for party in parties:
                if party.process.poll() is None:
                    escalate(party.process)
            for party in parties:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    party.process.wait(timeout=grace_s)
        self._parties.clear()

    def __enter__(self) -> Parties:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended early with exit status {status}"


def obey(
    make_methods: Callable[[Callable[[float], None]], Mapping[str, Callable[..., Any]]],
    expected: tuple[type[Exception], ...],
    at_end: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Run as a party: answer commands from standard input until it ends, then exit.

    `make_methods` gets a callable to report progress with, and returns the methods by name: each takes the arguments
    of a command and returns something that JSON can hold. Errors of the `expected` types are answered with their
    message alone, others leave their traceback in the log as well. `at_end` is called on a thread of its own once the
    input has ended.
    """
    # Whatever prints by accident goes to the log, not between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    commands: queue.Queue[str] = queue.Queue()
    busy = threading.Event()

    def read() -> None:
        for line in sys.stdin:
            commands.put(line)
        at_end()
        # Nobody is left to hear an answer, also to a command that was not begun yet; and other threads (a gRPC
        # server's) must not delay the end.
        os._exit(ORPHANED if busy.is_set() or not commands.empty() else 0)

    threading.Thread(target=read, daemon=True).start()
    methods = make_methods(lambda fraction: _say(answers, {"progress": fraction}))
    while True:
        line = commands.get()
        busy.set()
        command = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"result": methods[command["method"]](**command["arguments"])}
        except expected as error:
            answer = {"error": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        busy.clear()  # before the answer is out: whoever has it may close the input at once
        _say(answers, answer)


def _say(answers: Any, answer: Mapping[str, Any]) -> None:
    try:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    except BrokenPipeError:
        os._exit(ORPHANED)
