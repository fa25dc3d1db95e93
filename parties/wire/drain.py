"""Stopping in order when the system asks a server process to end."""

from __future__ import annotations

import signal
import time
from types import FrameType

from parties.wire.server import GRACE_S, GrpcServer

LOOK_S = 0.2


def serve_until_told(server: GrpcServer, grace_s: float = GRACE_S) -> None:
    """Start `server` and return when SIGTERM or SIGINT has come and every session has ended in order.

    Requests that are being answered are finished; inference owners reconnect elsewhere or later, and send
    again what was not answered. A second signal ends the process at once. For main threads only.
    """
    told: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        told.append(number)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, tell)
    server.start()
    # Not an Event: its lock is not reentrant, and a wait without end would sleep on where another thread caught the
    # signal.
    while not told:
        time.sleep(LOOK_S)
    server.stop(grace_s)
