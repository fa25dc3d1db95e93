"""How an endpoint is asked, the same for both transports: what it raises never shows its insides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from parties.channel import Endpoint, WorksAfterwards
from parties.messages import (
    PROTOCOL_VERSION,
    Hello,
    ProtocolViolation,
    QueryBudgetExhausted,
    Session,
    SessionRefused,
    TensorMessage,
    Terms,
    WireError,
)
from parties.wire.control import printable
from parties.wire.frames import encode
from parties.wire.layout import Rules, check_terms

log = logging.getLogger(__name__)

_TYPED = (ProtocolViolation, QueryBudgetExhausted, WireError)


def open_session(endpoint: Endpoint, hello: Hello) -> Terms:
    """Ask `endpoint` for a session.

    Raises:
        SessionRefused: with the endpoint's own text, or a general one where it failed.
    """
    if hello.protocol_version != PROTOCOL_VERSION:
        raise SessionRefused(
            f"expected protocol version {PROTOCOL_VERSION}, got {hello.protocol_version}; "
            f"install the same version of unsmash on both ends"
        )
    try:
        terms = endpoint.open(hello)
        check_terms(terms)
    except SessionRefused as refused:
        raise SessionRefused(printable(str(refused))) from None
    except Exception:
        log.exception("opening a session for %s failed", hello.party)
        raise SessionRefused("the server failed while opening the session; its log says why") from None
    return terms


def answer(endpoint: Endpoint, session: Session, message: TensorMessage, rules: Rules) -> Iterator[bytes]:
    """The pieces of the endpoint's reply to one request, checked against `rules`.

    An endpoint that has more to do is asked for it when the last piece is out.

    Raises:
        WireError: as the asker has to see it; `QueryBudgetExhausted` and `ProtocolViolation` keep their type.
    """
    try:
        reply = endpoint.answer(session, message)
    except WireError as error:
        typed = next(kind for kind in _TYPED if isinstance(error, kind))
        raise typed(printable(str(error))) from None
    except Exception:
        log.exception("answering request %d of session %d failed", message.request_id, session.id)
        raise WireError(f"the server failed on request {message.request_id}; its log says why") from None
    try:
        if reply.request_id != message.request_id:
            raise WireError(f"expected a reply to request {message.request_id}, got one to {reply.request_id}")
        pieces = encode(reply, rules)
    except Exception:
        log.exception("the reply to request %d of session %d does not fit its terms", message.request_id, session.id)
        raise WireError(f"the server failed on request {message.request_id}; its log says why") from None
    # To ask for the protocol by isinstance would take longer than to encode a small reply.
    after: Callable[[Session], None] | None = getattr(endpoint, WorksAfterwards.after.__name__, None)
    return pieces if after is None else _and_then(pieces, after, session)


def _and_then(pieces: Iterator[bytes], after: Callable[[Session], None], session: Session) -> Iterator[bytes]:
    yield from pieces
    after(session)


def close_session(endpoint: Endpoint, session: Session) -> None:
    """Tell `endpoint` that a session is over; what it raises is logged, for nobody is left to be told."""
    try:
        endpoint.close(session)
    except Exception:
        log.exception("closing session %d failed", session.id)
