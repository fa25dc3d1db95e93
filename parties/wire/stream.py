"""The asking end of one gRPC stream: pieces out, replies in; it knows nothing of reconnecting."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

import grpc

from parties.channel import WireCost
from parties.messages import Hello, ProtocolViolation, SessionRefused, TensorMessage, Terms, WireError
from parties.wire import control
from parties.wire import control_pb2 as pb
from parties.wire.decoder import Decoder
from parties.wire.frames import pieces_of
from parties.wire.layout import Layout, Rules
from parties.wire.limits import Limits
from parties.wire.options import METHOD, client_options
from parties.wire.security import ClientSecurity

REFUSALS = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
LOSSES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

LET_GO_S = 0.1
"""How long at most a thread steps aside until its request is out."""


class StreamLost(WireError):
    """The connection is gone, through nobody's fault: another one may do."""


class SessionStream:
    """One open session on one connection of its own.

    Args:
        check_reply_id: called with the id of every reply before its payload is read.
        open_timeout_s: from here to an accepted session.

    Raises:
        SessionRefused: with the server's text.
        StreamLost: the server cannot be reached, or went away.
        WireError: it broke the protocol.
    """

    def __init__(
        self,
        address: str,
        hello: Hello,
        limits: Limits,
        security: ClientSecurity,
        cost: WireCost,
        check_reply_id: Callable[[int], None],
        open_timeout_s: float,
    ) -> None:
        self._address, self._cost = address, cost
        self._outbox: queue.SimpleQueue[tuple[TensorMessage, Layout, bool] | None] = queue.SimpleQueue()
        self._sent: queue.SimpleQueue[int] = queue.SimpleQueue()  # ids of requests that somebody steps aside for
        self._leaving: int | None = None  # the id of a large one
        self._why_cancelled: WireError | None = None
        self.over = False
        self._channel = self._connect(limits, security)
        method = self._channel.stream_stream(METHOD)
        self._call = method(self._outgoing(hello), metadata=security.metadata)
        self._call.add_callback(self._end)
        self._decoder: Decoder | None = None
        timer = threading.Timer(
            open_timeout_s,
            self.cancel,
            [
                StreamLost(
                    f"{address} did not open a session within {open_timeout_s:.1f} s; check that it runs and is not "
                    f"overloaded"
                )
            ],
        )
        timer.daemon = True
        timer.start()
        try:
            self.terms = self._accepted()
        except BaseException:
            self.cancel(StreamLost("the session was not opened"))
            raise
        finally:
            timer.cancel()
        self._decoder = Decoder(Rules.for_replies(self.terms, hello.wire_dtype, limits), check_reply_id)

    def _end(self) -> None:
        self.over = True
        self._outbox.put(None)

    def _connect(self, limits: Limits, security: ClientSecurity) -> grpc.Channel:
        options = [*client_options(limits), *security.options]
        credentials = security.credentials(self._address)
        if credentials is None:
            return grpc.insecure_channel(self._address, options)
        return grpc.secure_channel(self._address, credentials, options)

    def _outgoing(self, hello: Hello) -> Iterator[bytes]:
        """gRPC asks for the next piece only when the last one is on its way: nothing piles up."""
        yield control.pack_hello(hello)
        while (request := self._outbox.get()) is not None:
            message, layout, watched = request
            for piece in pieces_of(message, layout):
                self._cost.bytes_up += len(piece)
                yield piece
            if watched:
                self._sent.put(message.request_id)
            del request, message, piece

    def _accepted(self) -> Terms:
        answer = control.unpack(self._next_piece(opening=True))
        if answer.WhichOneof("body") == "failure":
            error = control.unpack_failure(answer.failure)
            raise error if isinstance(error, SessionRefused) else SessionRefused(str(error))
        if answer.WhichOneof("body") != "accepted":
            raise ProtocolViolation(f"{self._address}: expected an answer to the opening of a session")
        return control.unpack_accepted(answer.accepted)

    def send(self, message: TensorMessage, layout: Layout, alone: bool = False) -> None:
        """Queue one checked request; the caller bounds how many are unanswered.

        If it is the only one, and small, return when it is out: to get ready for the reply takes this thread a tenth
        of the round trip, and gRPC's thread cannot send meanwhile.
        """
        self._outbox.put((message, layout, alone))
        if not alone:
            return
        if layout.whole:
            self._step_aside(message.request_id)
        else:  # which takes a while: who sent it may have something else to do
            self._leaving = message.request_id

    def _step_aside(self, request_id: int) -> None:
        with contextlib.suppress(queue.Empty):  # a matter of speed alone, so not for long
            while self._sent.get(timeout=LET_GO_S) != request_id:
                pass  # one that took too long

    def receive(self) -> tuple[int, TensorMessage | Exception]:
        """The id of a request, with its reply or the typed error it got instead; blocks.

        Raises:
            StreamLost: the connection is gone or the server is stopping.
            WireError: the session is over for good.
        """
        if self._decoder is None:
            raise ProtocolViolation("this stream has no session")
        if self._leaving is not None:  # gRPC wakes whoever waits for a reply with every piece that leaves, in vain
            self._step_aside(self._leaving)
            self._leaving = None
        while True:
            piece = self._next_piece()
            if control.is_control(piece) and not self._decoder.halfway:
                return self._read_control(control.unpack(piece))
            self._cost.bytes_down += len(piece)
            message = self._decoder.feed(piece)
            if message is not None:
                return message.request_id, message

    def _read_control(self, message: pb.Control) -> tuple[int, Exception]:
        body = message.WhichOneof("body")
        if body == "close":
            raise StreamLost(f"{self._address} ended the session: {control.printable(message.close.reason)}")
        if body != "failure":
            raise ProtocolViolation(f"{self._address}: expected a reply, got a control message of kind {body}")
        error = control.unpack_failure(message.failure)
        if not message.failure.HasField("request_id"):
            raise error
        return message.failure.request_id, error

    def _next_piece(self, opening: bool = False) -> bytes:
        try:
            return next(self._call)  # type: ignore[no-any-return]
        except StopIteration:
            raise self._why_cancelled or StreamLost(f"{self._address} ended the session") from None
        except grpc.RpcError as error:
            raise self._why_cancelled or self._explain(error, opening) from None

    def _explain(self, error: grpc.RpcError, opening: bool) -> Exception:
        code, details = error.code(), control.printable(error.details() or "")
        if opening and code in REFUSALS:
            return SessionRefused(f"{self._address} refuses sessions: {details or code.name}")
        if code in LOSSES:
            return StreamLost(f"lost {self._address} ({details or code.name}); check that it runs")
        return WireError(f"{self._address}: {code.name}: {details}; the session is over")

    def cancel(self, why: WireError) -> None:
        """End the stream at once; whoever waits for a reply gets `why`."""
        self._why_cancelled = self._why_cancelled or why
        self._outbox.put(None)
        self._call.cancel()
        self._channel.close()

    def finish(self, within_s: float) -> None:
        """End the session in order, and wait a moment until the server has ended it too."""
        self._outbox.put(None)
        timer = threading.Timer(within_s, self._call.cancel)
        timer.daemon = True
        timer.start()
        try:
            for _ in self._call:
                pass
        except grpc.RpcError:
            pass  # it is over either way
        finally:
            timer.cancel()
            self._channel.close()
