"""The typed messages around the tensors, between our dataclasses and protobuf, checked on the way in."""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError

from parties.messages import (
    Hello,
    Kind,
    ProtocolViolation,
    QueryBudgetExhausted,
    Role,
    SessionRefused,
    Terms,
    WireError,
)
from parties.wire import control_pb2 as pb
from parties.wire.layout import WIRE_DTYPES, check_terms
from split_models.tensor_spec import SpecError, TensorSpec

MAGIC = b"USC1"
MAX_CONTROL_BYTES = 64 * 1024
MAX_TEXT = 2000
PARTY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.@-]{0,99}")

_CODES: dict[type[Exception], pb.FailureCode] = {
    SessionRefused: pb.REFUSED,
    ProtocolViolation: pb.VIOLATION,
    QueryBudgetExhausted: pb.BUDGET_EXHAUSTED,
    WireError: pb.FAILED,
}
_ERRORS = {code: error for error, code in _CODES.items()}


def printable(text: str) -> str:
    """A peer's text made safe for a log and a terminal: one line, printable, of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_TEXT])


def is_control(piece: bytes) -> bool:
    """Whether a piece at the start of a message is a typed message rather than tensors."""
    return piece.startswith(MAGIC)


def pack(control: pb.Control) -> bytes:
    """One typed message as a piece."""
    serialized: bytes = control.SerializeToString()
    return MAGIC + serialized


def unpack(piece: bytes) -> pb.Control:
    """The typed message in a piece.

    Raises:
        ProtocolViolation: it is none, or longer than any can be.
    """
    if not is_control(piece) or len(piece) > MAX_CONTROL_BYTES:
        raise ProtocolViolation(
            f"expected a control message of at most {MAX_CONTROL_BYTES} bytes, "
            f"got {len(piece)} bytes; check that the peer is of the same version"
        )
    control = pb.Control()
    try:
        control.ParseFromString(piece[len(MAGIC) :])
    except DecodeError:
        raise ProtocolViolation("expected a control message, got bytes that are none") from None
    return control


def _pack_spec(spec: TensorSpec) -> pb.TensorSpec:
    return pb.TensorSpec(shape=spec.shape, dtype=spec.dtype, low=spec.low, high=spec.high)


def _unpack_spec(spec: pb.TensorSpec) -> TensorSpec:
    try:
        return TensorSpec(
            tuple(spec.shape),
            spec.dtype,
            spec.low if spec.HasField("low") else None,
            spec.high if spec.HasField("high") else None,
        )
    except SpecError as error:
        raise ProtocolViolation(f"expected a valid tensor spec: {error}") from None


def pack_hello(hello: Hello) -> bytes:
    """The piece that asks for a session."""
    return pack(
        pb.Control(
            open=pb.Open(
                protocol_version=hello.protocol_version,
                party=hello.party,
                role=hello.role,
                model=hello.model,
                model_digest=hello.model_digest,
                cut=hello.cut,
                sample=_pack_spec(hello.sample),
                wire_dtype=hello.wire_dtype,
            )
        )
    )


def check_hello(hello: Hello) -> Hello:
    """Return `hello` if every field could be meant.

    Raises:
        ProtocolViolation: a field that no correct opener sends.
    """
    if not PARTY_NAME.fullmatch(hello.party):
        raise ProtocolViolation(
            "expected a party name of 1 to 100 letters, digits, blanks or _.@- , "
            f"starting with a letter or a digit, got {printable(hello.party)!r}"
        )
    for name, text in (("model", hello.model), ("model_digest", hello.model_digest), ("cut", hello.cut)):
        if len(text) > 200 or not text.isprintable():
            raise ProtocolViolation(f"expected a {name} of at most 200 printable characters, got {len(text)}")
    if hello.wire_dtype not in WIRE_DTYPES:
        raise ProtocolViolation(
            f"expected a wire dtype of {', '.join(WIRE_DTYPES)}, got {printable(hello.wire_dtype)!r}"
        )
    return hello


def unpack_hello(control: pb.Control) -> Hello:
    """What a peer that asks for a session says about itself.

    Raises:
        ProtocolViolation: it asks for something else, or in a way that cannot be meant.
    """
    if control.WhichOneof("body") != "open":
        raise ProtocolViolation("expected the first message of a session to open it")
    said = control.open
    if said.role not in list(Role):
        raise ProtocolViolation(f"expected a role of {[int(role) for role in Role]}, got {said.role}")
    return check_hello(
        Hello(
            said.party,
            Role(said.role),
            said.model,
            said.model_digest,
            said.cut,
            _unpack_spec(said.sample),
            said.wire_dtype,
            said.protocol_version,
        )
    )


def pack_accepted(session: int, terms: Terms) -> bytes:
    """The piece that answers an accepted hello."""

    def packed(kinds: dict[Kind, tuple[TensorSpec, ...]]) -> list[pb.MessageSpec]:
        return [pb.MessageSpec(kind=kind, tensors=map(_pack_spec, specs)) for kind, specs in kinds.items()]

    return pack(
        pb.Control(
            accepted=pb.Accepted(
                session=session,
                requests=packed(terms.requests),
                replies=packed(terms.replies),
                max_batch=terms.max_batch,
            )
        )
    )


def unpack_accepted(accepted: pb.Accepted) -> Terms:
    """The terms of an accepted session.

    Raises:
        ProtocolViolation: terms that no session can have.
    """

    def unpacked(kinds: list[pb.MessageSpec]) -> dict[Kind, tuple[TensorSpec, ...]]:
        for spec in kinds:
            if spec.kind not in list(Kind):
                raise ProtocolViolation(f"expected a kind of {[int(kind) for kind in Kind]}, got {spec.kind}")
        return {Kind(spec.kind): tuple(map(_unpack_spec, spec.tensors)) for spec in kinds}

    terms = Terms(unpacked(list(accepted.requests)), unpacked(list(accepted.replies)), accepted.max_batch)
    check_terms(terms)
    return terms


def pack_failure(error: Exception, request_id: int | None = None) -> bytes:
    """The piece that carries a typed error: of one request, or of the session where it has no id."""
    code = _CODES.get(type(error), pb.FAILED)
    return pack(pb.Control(failure=pb.Failure(code=code, text=printable(str(error)), request_id=request_id)))


def unpack_failure(failure: pb.Failure) -> Exception:
    """The typed error that a peer reported; an unknown code is a plain `WireError`."""
    return _ERRORS.get(failure.code, WireError)(printable(failure.text))


def pack_close(reason: str) -> bytes:
    """The piece with which a server that is stopping ends a session in order."""
    return pack(pb.Control(close=pb.Close(reason=reason)))
