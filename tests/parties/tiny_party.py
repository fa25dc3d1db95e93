"""A party that does next to nothing, for tests of processes: `python -m tests.parties.tiny_party ROLE NAME`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from parties.processes import obey


class Expected(Exception):
    """An error that the party foresees."""


def fail(text: str, expected: bool) -> None:
    raise Expected(text) if expected else RuntimeError(text)


def die(number: int) -> None:
    sys.stderr.write("".join(f"line {n}\n" for n in range(30)) + "last words\n")
    sys.stderr.flush()
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(status: int) -> None:
    os._exit(status)


def doze(seconds: float) -> None:
    time.sleep(seconds)


def chatter() -> str:
    print("this is for the log")  # noqa: T201
    os.write(1, b"and so is this\n")
    return "said"


def methods(report: Callable[[float], None]) -> Mapping[str, Callable[..., Any]]:
    def work(seconds: float) -> str:
        for step in range(4):
            report(step / 4)
            time.sleep(seconds / 4)
        return "done"

    if sys.argv[1] == "slow":
        time.sleep(1.5)
    return {
        "echo": lambda value: value,
        "pid": os.getpid,
        "fail": fail,
        "die": die,
        "leave": leave,
        "chatter": chatter,
        "work": work,
        "doze": doze,
    }


def main() -> None:
    role = sys.argv[1]
    if role == "stubborn":  # neither listens nor obeys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(1, b'{"result": %d}\n' % os.getpid())
        while True:
            time.sleep(60)
    if role == "half":  # dies in the middle of a long answer
        os.write(1, b'{"result": [1, 2')
        os.kill(os.getpid(), signal.SIGKILL)
    with contextlib.suppress(KeyboardInterrupt):
        obey(methods, (Expected,))


if __name__ == "__main__":
    main()
