"""A serving and an asking process of one contender, each on a core of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from functools import cached_property
from types import TracebackType
from typing import Any

from benchmarks.wire.contender import Setting


class Worker:
    """One process that obeys lines of JSON; nobody waits for it before it is asked."""

    def __init__(self, name: str, core: int, setting: Setting, *address: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.wire.worker", name, str(core), json.dumps(asdict(setting)), *address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @cached_property
    def said(self) -> str:
        """Its first line: where it serves, or that it is ready."""
        return self._read()

    def _read(self) -> str:
        if self._process.stdout is None or not (line := self._process.stdout.readline()):
            raise RuntimeError("a worker of the benchmark ended; see its message above")
        return line.strip()

    def ask(self, do: str, **arguments: Any) -> Any:
        """What the process answers to one command."""
        if self.said and self._process.stdin is not None:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        return json.loads(self._read())

    def end(self) -> None:
        """Close its input, which ends it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(20)


class Pair:
    """Both ends; the first core asks, the last one serves. The asking one starts on entering."""

    def __init__(self, name: str, setting: Setting) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        self.name, self.setting = name, setting
        self.server = Worker(name, self._cores[-1], setting)

    def exchange(self, count: int, in_flight: int = 1) -> list[float]:
        """Seconds a request."""
        seconds: list[float] = self.owner.ask("exchange", count=count, in_flight=in_flight)
        return seconds

    def reconnect(self) -> None:
        """Go on over another connection."""
        self.owner.ask("reconnect", address=self.server.said, setting=asdict(self.setting))

    def computed_s(self) -> float:
        """Seconds that both ends have spent on anything but carrying, since they connected or serve."""
        return float(sum(end.ask("computed") for end in (self.owner, self.server)))

    def peak_copies(self, count: int) -> tuple[float, float]:
        """By how many payloads the memory of both ends peaks above rest: (asking, serving)."""
        ends = (self.owner, self.server)
        before = [end.ask("forget peak") for end in ends]
        self.exchange(count)
        grown = [(end.ask("peak") - rest) / self.setting.size for end, rest in zip(ends, before, strict=True)]
        return grown[0], grown[1]

    def __enter__(self) -> Pair:
        self.owner = Worker(self.name, self._cores[0], self.setting, self.server.said)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.owner.end()
        self.server.end()
