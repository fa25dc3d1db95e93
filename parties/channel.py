"""One call for two transports: in-process and gRPC channels behind the same protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from parties.messages import Hello, Session, TensorMessage, Terms


class Endpoint(Protocol):
    """Whoever answers sessions: a compute server, an owner's query endpoint, a model host."""

    def open(self, hello: Hello) -> Terms:
        """Accept a session and say what it may carry.

        Raises:
            SessionRefused: with a message that says what the opener has to change.
        """
        ...

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        """The reply to one checked request; called by one thread at a time for a session."""
        ...

    def close(self, session: Session) -> None:
        """The session has ended, in order or not."""
        ...


class WorksAfterwards(Protocol):
    """An endpoint with work that its asker need not wait for."""

    def after(self, session: Session) -> None:
        """A reply is on its way; called by the thread that answered, before the session's next request."""
        ...


@dataclass
class WireCost:
    """What one session has cost so far; bytes count whole frames, headers included."""

    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0


class Reply(Protocol):
    """A request that was sent."""

    def result(self) -> TensorMessage:
        """Wait for its reply.

        Raises:
            WireError: the peer is gone, broke the protocol, or refused this request.
        """
        ...


class Channel(Protocol):
    """The asking end of one open session."""

    terms: Terms
    cost: WireCost

    def call(self, message: TensorMessage) -> TensorMessage:
        """Send one request and wait for its reply.

        Raises:
            WireError: the peer is gone, broke the protocol, or refused this request.
        """
        ...

    def submit(self, message: TensorMessage) -> Reply:
        """Send one request and go on; leave its tensors unchanged until the reply is in.

        Raises:
            WireError: the message does not fit the terms, or the session is over.
        """
        ...

    def close(self) -> None:
        """End the session; calling it twice is harmless."""
        ...
