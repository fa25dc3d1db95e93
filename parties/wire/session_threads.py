"""A thread for every session, which never keeps the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class SessionThreads(Executor):
    """Starts a daemon thread for each piece of work: sessions are long, and gRPC bounds their number.

    A pool's threads would hold up the end of a process whose server nobody stopped, and with one thread
    too few the next session would wait without a word.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` now."""
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name="unsmash-session", daemon=True).start()
        return future
