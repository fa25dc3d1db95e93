"""Trying again, later and later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from parties.wire.limits import Limits
from parties.wire.stream import SessionStream, StreamLost


def connect_with_backoff(
    attempt: Callable[[float], SessionStream], limits: Limits, within_s: float, give_up: threading.Event
) -> SessionStream:
    """The first stream that `attempt` opens; it is called with the seconds it may take.

    Raises:
        SessionRefused: the server was reached and said no.
        StreamLost: it was not reached within `within_s`; with the last reason.
    """
    deadline = time.monotonic() + within_s
    wait_s = limits.first_backoff_s
    while True:
        try:
            return attempt(max(min(limits.open_timeout_s, deadline - time.monotonic()), 0.01))
        except StreamLost as lost:
            left_s = deadline - time.monotonic()
            if left_s <= wait_s or give_up.wait(wait_s):
                raise StreamLost(f"{lost} (tried for {within_s} s)") from None
        wait_s = min(2 * wait_s, limits.longest_backoff_s)
