"""The asking end of a session over gRPC: pipelining, time-outs, reconnecting."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from types import TracebackType

from parties.channel import WireCost
from parties.in_process import check_next_id
from parties.messages import Hello, ProtocolViolation, Role, SessionRefused, TensorMessage, WireError
from parties.wire.control import check_hello
from parties.wire.decoder import IncreasingIds
from parties.wire.frames import check_outgoing
from parties.wire.layout import Layout, Rules
from parties.wire.limits import Limits
from parties.wire.reconnect import connect_with_backoff
from parties.wire.security import ClientSecurity
from parties.wire.stream import SessionStream, StreamLost
from parties.wire.watchdog import Watchdog

CLOSING_S = 2.0


class PendingReply:
    """A request that was sent; its reply is read when somebody asks for it."""

    def __init__(self, channel: GrpcChannel, message: TensorMessage, layout: Layout) -> None:
        self._channel = channel
        self.request: tuple[TensorMessage, Layout] | None = (message, layout)
        self.request_id = message.request_id
        self.sent_at = time.perf_counter()
        self.resends = 0
        self.outcome: TensorMessage | Exception | None = None

    def done(self) -> bool:
        """Whether the reply, or the error instead of it, is in."""
        return self.outcome is not None

    def settle(self, outcome: TensorMessage | Exception) -> None:
        """Called once, by the channel."""
        self.request, self.outcome = None, outcome

    def result(self) -> TensorMessage:
        """Wait for the reply; the channel's request time-out bounds how long.

        Raises:
            WireError: the peer is gone, broke the protocol, or refused this request.
        """
        self._channel.wait_for(self)
        if isinstance(self.outcome, TensorMessage):
            return self.outcome
        raise self.outcome or WireError("this request was neither answered nor failed")


class GrpcChannel:
    """An open session with the server at `address`.

    A lost connection is opened again with a back-off. Unanswered requests are then sent again where that is
    harmless: in inference sessions. Query sessions reconnect between requests only, because a query may have
    been counted; training sessions never, because a step may have been taken.

    Args:
        address: host:port.
        hello: who asks, and for what.
        limits: this end's bounds.
        security: this end's credentials; without any, only servers on this machine are spoken to.

    Raises:
        SessionRefused: with the server's text.
        WireError: the server cannot be reached within `limits.open_timeout_s`.
    """

    def __init__(
        self, address: str, hello: Hello, *, limits: Limits | None = None, security: ClientSecurity | None = None
    ) -> None:
        try:
            check_hello(hello)
        except ProtocolViolation as violation:
            raise SessionRefused(str(violation)) from None
        self._address, self._hello = address, hello
        self._limits, self._security = limits or Limits(), security or ClientSecurity()
        self.cost = WireCost()
        self._unanswered: deque[PendingReply] = deque()
        self._lock = threading.RLock()  # state below, and the order in which requests are sent
        self._reading = threading.Lock()  # whoever holds it reads for all
        self._turn = threading.Condition(self._lock)  # those who wait for their reply, or for reading
        self._followers = 0
        self._closing = threading.Event()
        self._broken: Exception | None = None
        self._check_id = IncreasingIds()
        self._stream: SessionStream | None = self._connect(self._limits.open_timeout_s)
        self.terms = self._stream.terms
        self._rules = Rules.for_requests(self.terms, hello.wire_dtype, self._limits)
        self._watchdog = Watchdog(self._check_deadline, self._limits.request_timeout_s)

    def call(self, message: TensorMessage) -> TensorMessage:
        """Send one request and wait for its reply.

        Raises:
            WireError: the peer is gone, broke the protocol, or refused this request.
        """
        return self.submit(message).result()

    def submit(self, message: TensorMessage) -> PendingReply:
        """Send one request; waits while `limits.max_in_flight` are unanswered.

        Leave the message's tensors unchanged until the reply is in: they are read, and read again
        should they have to be sent again.

        Raises:
            WireError: the message does not fit the terms, or the session is over.
        """
        layout = check_outgoing(message, self._rules)
        while True:
            with self._lock:
                if len(self._unanswered) < self._limits.max_in_flight:
                    return self._send(message, layout)
                oldest = self._unanswered[0]
            self.wait_for(oldest)

    def _send(self, message: TensorMessage, layout: Layout) -> PendingReply:
        if self._broken:
            raise self._broken
        check_next_id(self._check_id, message)
        stream, alone = self._stream, not self._unanswered
        if stream is not None and stream.over and alone:
            self._drop_stream(StreamLost(f"lost {self._address}"))
            stream = None
        if stream is None:
            stream = self._stream = self._reconnect()
        pending = PendingReply(self, message, layout)
        self._unanswered.append(pending)
        self.cost.requests += 1
        stream.send(message, layout, alone)
        return pending

    def wait_for(self, pending: PendingReply) -> None:
        """Return when `pending` is settled. Whoever waits first reads for all; there is no reading thread,
        for handing each reply from one to another would cost more than reading it."""
        while pending.outcome is None:
            if self._reading.acquire(blocking=False):
                try:
                    while pending.outcome is None:
                        self._read_one()
                finally:
                    self._reading.release()
                    with self._lock:
                        if self._followers:
                            self._turn.notify_all()
            else:
                self._follow(pending)

    def _follow(self, pending: PendingReply) -> None:
        with self._turn:
            if pending.outcome is None and self._reading.locked():
                self._followers += 1
                self._turn.wait()
                self._followers -= 1

    def _read_one(self) -> None:
        stream = self._stream
        try:
            if stream is None:
                raise StreamLost(f"lost {self._address}")
            self._settle_oldest(*stream.receive())
        except (WireError, SessionRefused) as error:
            self._recover(stream, error)

    def _settle_oldest(self, request_id: int, outcome: TensorMessage | Exception) -> None:
        with self._lock:
            self._check_reply_id(request_id)  # once more: somebody may have closed the channel
            pending = self._unanswered.popleft()
            self.cost.seconds += time.perf_counter() - pending.sent_at
            pending.settle(outcome)
            if self._followers:
                self._turn.notify_all()

    def _check_reply_id(self, request_id: int) -> None:
        oldest = self._unanswered[0].request_id if self._unanswered else None
        if request_id != oldest:
            raise ProtocolViolation(f"{self._address}: expected a reply to request {oldest}, got one to {request_id}")

    def _check_deadline(self) -> None:
        with self._lock:
            stream, oldest = self._stream, self._unanswered[0] if self._unanswered else None
        limit_s = self._limits.request_timeout_s
        if stream and oldest and time.perf_counter() - oldest.sent_at > limit_s:
            stream.cancel(
                WireError(
                    f"{self._address} did not answer request {oldest.request_id} within "
                    f"{limit_s} s; send smaller batches or raise request_timeout_s"
                )
            )

    def _recover(self, stream: SessionStream | None, error: Exception) -> None:
        """The stream failed: send what was unanswered again on another one, or fail it."""
        with self._lock:
            if stream is not self._stream:
                return
            self._drop_stream(error)
            if isinstance(error, StreamLost) and self._hello.role is Role.TRAINING:
                error = WireError(f"{error}; a training session cannot go on, open another channel")
            if not (isinstance(error, StreamLost) and self._hello.role is Role.INFERENCE):
                if isinstance(error, ProtocolViolation) or self._hello.role is Role.TRAINING:
                    self._broken = error
                self._fail_all(error)
                return
            try:
                self._stream = self._reconnect()
            except (WireError, SessionRefused) as failed:
                self._fail_all(failed)
                return
            self._resend(error)

    def _resend(self, error: Exception) -> None:
        unanswered, self._unanswered = self._unanswered, deque()
        for pending in unanswered:
            pending.resends += 1
            if pending.resends > self._limits.max_resends or pending.request is None or self._stream is None:
                pending.settle(error)
                continue
            pending.sent_at = time.perf_counter()
            self._unanswered.append(pending)
            self._stream.send(*pending.request)

    def _reconnect(self) -> SessionStream:
        if self._hello.role is Role.TRAINING:
            raise WireError(f"lost {self._address}, and a training session cannot go on; open another channel")
        stream = self._connect(self._limits.reconnect_within_s)
        if stream.terms != self.terms:
            stream.cancel(WireError("the terms changed"))
            self._broken = WireError(f"{self._address} came back with other terms than before; open another channel")
            raise self._broken
        return stream

    def _connect(self, within_s: float) -> SessionStream:
        def attempt(timeout_s: float) -> SessionStream:
            return SessionStream(
                self._address, self._hello, self._limits, self._security, self.cost, self._check_reply_id, timeout_s
            )

        return connect_with_backoff(attempt, self._limits, within_s, self._closing)

    def _drop_stream(self, why: Exception) -> None:
        if self._stream is not None:
            self._stream.cancel(why if isinstance(why, WireError) else WireError(str(why)))
            self._stream = None

    def _fail_all(self, error: Exception) -> None:
        while self._unanswered:
            self._unanswered.popleft().settle(error)

    def close(self) -> None:
        """End the session; calling it twice is harmless."""
        self._closing.set()
        self._watchdog.stop()
        closed = WireError("this channel is closed; open another one")
        reads = self._reading.acquire(blocking=False)
        try:
            with self._lock:
                stream, self._stream = self._stream, None
                self._broken = closed
                idle = not self._unanswered
                self._fail_all(closed)
            if stream is not None:
                stream.finish(CLOSING_S) if reads and idle else stream.cancel(closed)
        finally:
            if reads:
                self._reading.release()

    def __enter__(self) -> GrpcChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._watchdog.stop()
