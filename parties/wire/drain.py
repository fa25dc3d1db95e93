"""Stopping in order when the system asks a server process to end."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from parties.wire.server import GRACE_S, GrpcServer


def serve_until_told(server: GrpcServer, grace_s: float = GRACE_S) -> None:
    """Start `server` and return when SIGTERM or SIGINT has come and every session has ended in order.

    Requests that are being answered are finished; inference owners reconnect elsewhere or later, and send
    again what was not answered. A second signal ends the process at once. For main threads only.
    """
    told = threading.Event()

    def tell(number: int, frame: FrameType | None) -> None:
        told.set()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, tell)
    server.start()
    told.wait()
    server.stop(grace_s)
