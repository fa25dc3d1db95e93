"""A gRPC server for one endpoint: sessions in, each on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import grpc

from parties.channel import Endpoint
from parties.messages import WireError
from parties.wire.admission import Admission
from parties.wire.limits import Limits
from parties.wire.options import METHOD_NAME, SERVICE, server_options
from parties.wire.security import ServerSecurity
from parties.wire.served_session import ServedSession
from parties.wire.session_threads import SessionThreads
from parties.wire.watchdog import Watchdog

log = logging.getLogger(__name__)

GRACE_S = 10.0
CLOSING_S = 2.0
"""For what is over, or cut off, to be told to peers and to the endpoint."""
REFUSING = 8
"""Streams that are being told why they are refused."""


class GrpcServer:
    """Serves `endpoint` at `listen`.

    Args:
        endpoint: whoever answers; its methods are called by many threads, for one session by one at a time.
        listen: host:port; port 0 takes a free one, see `address`.
        limits: this end's bounds.
        security: this end's credentials; without any, only this machine is served.

    Raises:
        WireError: the port is taken, the address is not of this machine, or `security` does not allow it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        listen: str = "127.0.0.1:0",
        *,
        limits: Limits | None = None,
        security: ServerSecurity | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._limits, self._security = limits or Limits(), security or ServerSecurity()
        self._admission = Admission(self._limits)
        self._sessions: set[ServedSession] = set()
        self._lock = threading.Lock()
        self._draining = False
        streams = self._limits.max_sessions + self._limits.max_opening + REFUSING
        self._server = grpc.server(
            SessionThreads(), options=server_options(self._limits), maximum_concurrent_rpcs=streams
        )
        handlers = {METHOD_NAME: grpc.stream_stream_rpc_method_handler(self._session)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = self._bind(listen)

    def _bind(self, listen: str) -> str:
        credentials = self._security.credentials(listen)
        try:
            port = (
                self._server.add_insecure_port(listen)
                if credentials is None
                else self._server.add_secure_port(listen, credentials)
            )
        except RuntimeError:
            raise WireError(
                f"cannot listen on {listen}: the port is taken, or the address is not of this "
                f"machine; choose another port, or port 0 for a free one"
            ) from None
        return f"{listen.rpartition(':')[0]}:{port}"

    def _session(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        session = ServedSession(self._endpoint, self._limits, self._security, self._admission, context)
        with self._lock:
            self._sessions.add(session)
            if self._draining:
                session.drain()
        try:
            yield from session.run(requests)
        finally:
            with self._lock:
                self._sessions.discard(session)

    @property
    def open_sessions(self) -> int:
        """How many sessions are open now."""
        return self._admission.open_sessions

    def start(self) -> None:
        """Begin to accept sessions."""
        limits = self._limits
        shortest_s = min(limits.open_timeout_s, limits.request_timeout_s, limits.idle_timeout_s)
        self._watchdog = Watchdog(self._check_deadlines, shortest_s)
        self._server.start()

    def _check_deadlines(self) -> None:
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.end_if_overdue()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Accept nothing new, finish the requests that are being answered, and end every session.

        Args:
            grace_s: how long those requests may take; what is left then is cut off.
        """
        with self._lock:
            self._draining = True
            sessions = list(self._sessions)
        stopped = self._server.stop(grace_s)
        for session in sessions:
            session.drain()
        self._wait_for_sessions(grace_s)
        stopped.wait(CLOSING_S)
        self._server.stop(None)  # a frozen peer keeps its connection, although no session is left
        self._wait_for_sessions(CLOSING_S)  # cut-off sessions still tell their endpoint
        self._watchdog.stop()

    def _wait_for_sessions(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while self._sessions and time.monotonic() < deadline:
            time.sleep(0.005)

    def __enter__(self) -> GrpcServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
