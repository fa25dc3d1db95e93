"""How many sessions a server holds, and of whom."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from parties.messages import SessionRefused
from parties.wire.limits import Limits


class Admission:
    """Counts open sessions; every admitted one has to be released once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._by_party: Counter[str] = Counter()
        self._opening = 0
        self._ids = itertools.count(1)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """While a peer has not yet said who it is.

        Raises:
            SessionRefused: too many others are in the same state.
        """
        with self._lock:
            if self._opening >= self._limits.max_opening:
                raise SessionRefused(
                    f"{self._opening} others are opening sessions here; try again in a moment, or raise max_opening"
                )
            self._opening += 1
        try:
            yield
        finally:
            with self._lock:
                self._opening -= 1

    def admit(self, party: str) -> int:
        """The id of a new session of `party`.

        Raises:
            SessionRefused: the server, or this party's share of it, is full.
        """
        limits = self._limits
        with self._lock:
            if self._by_party.total() >= limits.max_sessions:
                raise SessionRefused(
                    f"all {limits.max_sessions} sessions of this server are taken; try "
                    f"again later, or raise max_sessions"
                )
            if self._by_party[party] >= limits.max_sessions_per_party:
                raise SessionRefused(
                    f"{party!r} already has {limits.max_sessions_per_party} sessions "
                    f"here; close one, or raise max_sessions_per_party"
                )
            self._by_party[party] += 1
            return next(self._ids)

    def release(self, party: str) -> None:
        """A session of `party` has ended."""
        with self._lock:
            self._by_party[party] -= 1
            if not self._by_party[party]:
                del self._by_party[party]

    @property
    def open_sessions(self) -> int:
        """How many sessions are open now."""
        with self._lock:
            return self._by_party.total()
