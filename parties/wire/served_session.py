"""The answering end of one session."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import grpc

from parties.channel import Endpoint
from parties.messages import Hello, ProtocolViolation, Session, SessionRefused, TensorMessage, WireError
from parties.wire import control
from parties.wire.admission import Admission
from parties.wire.answering import answer, close_session, open_session
from parties.wire.decoder import Decoder
from parties.wire.layout import Rules
from parties.wire.limits import Limits
from parties.wire.security import ServerSecurity

log = logging.getLogger(__name__)


class ServedSession:
    """Reads one peer's stream, asks the endpoint, sends its replies; touches no other session."""

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        security: ServerSecurity,
        admission: Admission,
        context: grpc.ServicerContext,
    ) -> None:
        self._endpoint, self._limits, self._security = endpoint, limits, security
        self._admission, self._context = admission, context
        self._who = control.printable(context.peer())
        self._deadline: float | None = None
        self._waits_for = ""
        self._between_requests = False
        self._draining = False

    def run(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces to send to the peer while reading what it sends."""
        session: Session | None = None
        hello: Hello | None = None
        self._wait_for("a hello", self._limits.open_timeout_s)
        try:
            with self._admission.opening():
                hello = self._read_hello(next(requests, b""))
            session_id = self._admission.admit(hello.party)
            try:
                session = Session(session_id, hello, open_session(self._endpoint, hello))
                yield control.pack_accepted(session.id, session.terms)
                yield from self._serve(session, requests)
            finally:
                if session is not None:
                    close_session(self._endpoint, session)
                self._admission.release(hello.party)
        except (SessionRefused, ProtocolViolation) as error:
            log.warning("%s: %s", self._who, error)
            self._wait_for("its last message to be read", self._limits.open_timeout_s)
            yield control.pack_failure(error)

    def _read_hello(self, piece: bytes) -> Hello:
        hello = control.unpack_hello(control.unpack(piece))
        self._who = f"{hello.party} at {self._who}"
        self._security.check_party(hello.party, self._context)
        if self._draining:
            raise SessionRefused("this server is stopping; try again later")
        return hello

    def _serve(self, session: Session, requests: Iterator[bytes]) -> Iterator[bytes]:
        decoder = Decoder(Rules.for_requests(session.terms, session.hello.wire_dtype, self._limits))
        replies = Rules.for_replies(session.terms, session.hello.wire_dtype, self._limits)
        self._rest()
        for piece in requests:
            begins, self._between_requests = self._between_requests, False
            message = decoder.feed(piece)
            if message is None:
                if begins:
                    self._wait_for("the rest of a message", self._limits.request_timeout_s)
                continue
            yield from self._answer(session, message, replies)
            del message, piece  # nothing of a message outlives it while the session rests
            if self._draining:
                yield control.pack_close("the server is stopping")
                return
            self._rest()

    def _answer(self, session: Session, message: TensorMessage, replies: Rules) -> Iterator[bytes]:
        self._deadline = None  # the endpoint takes its time; the asker has a time-out of its own
        try:
            pieces = answer(self._endpoint, session, message, replies)
        except ProtocolViolation:
            raise
        except WireError as error:
            pieces = iter([control.pack_failure(error, message.request_id)])
        self._wait_for("its reply to be read", self._limits.request_timeout_s)
        return pieces

    def _wait_for(self, what: str, timeout_s: float) -> None:
        self._waits_for, self._deadline = what, time.monotonic() + timeout_s

    def _rest(self) -> None:
        self._wait_for("a request", self._limits.idle_timeout_s)
        self._between_requests = True
        if self._draining:  # since the last look; whoever drains looks in the other order
            self._context.cancel()

    def end_if_overdue(self) -> None:
        """End the session if its peer has kept it waiting for too long; any thread may call this."""
        deadline = self._deadline
        if deadline is not None and time.monotonic() > deadline:
            log.warning("%s: waited too long for %s; session ended", self._who, self._waits_for)
            self._deadline = None
            self._context.cancel()

    def drain(self) -> None:
        """End the session now if nothing is being answered, or else after that; any thread may call this."""
        self._draining = True
        if self._between_requests:
            self._context.cancel()
