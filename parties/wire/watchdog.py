"""A thread that looks at deadlines now and then: gRPC has none for a single request of a stream."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable

log = logging.getLogger(__name__)


class Watchdog:
    """Calls the method `look` about eight times in `shortest_timeout_s`, at most every 10 ms.

    It does not keep the object of that method alive, and ends with it.
    """

    def __init__(self, look: Callable[[], None], shortest_timeout_s: float) -> None:
        self._look = weakref.WeakMethod(look)
        self._every_s = min(max(shortest_timeout_s / 8, 0.01), 1.0)
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="unsmash-watchdog", daemon=True).start()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            look = self._look()
            if look is None:
                return
            try:
                look()
            except Exception:
                log.exception("a watchdog failed")
            del look

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
