"""How a message of tensors looks as bytes.

One message is one 64-byte header for each of its tensors, then their payloads, each padded to a multiple
of eight bytes. It travels in pieces: the first holds the headers and up to `CHUNK_BYTES` of payload, every
further one exactly `CHUNK_BYTES` except the last. All integers and all payloads are little-endian.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from parties.messages import Kind, ProtocolViolation, TensorMessage, Terms, WireError
from parties.wire.limits import Limits
from split_models.tensor_spec import DTYPES, TensorSpec

if sys.byteorder != "little":
    raise ImportError("the wire carries little-endian tensors, and this machine is big-endian")

CHUNK_BYTES = 512 * 1024
"""Payload of one piece: small enough to stay in cache while it is copied, and to bound what gRPC
allocates before anything could be checked."""

MAX_DIMS = 8
MAX_TENSORS = 8
MAGIC = b"UST1"
ALIGNMENT = 8

# magic; kind, wire dtype, dtype, dimensions, index, count; zero; request id, payload bytes; sizes; zero
HEADER = struct.Struct(f"<4s6BHQQ{MAX_DIMS}II")
HEADER_BYTES = HEADER.size

WIRE_DTYPES = ("float32", "float16", "bfloat16")
"""What a session may ask for. The 16-bit ones narrow wider floats on the wire only; nothing is widened."""

DTYPE_CODES = {"float32": 1, "float16": 2, "bfloat16": 3, "float64": 4, "int64": 5, "uint8": 6}
DTYPE_NAMES = {code: name for name, code in DTYPE_CODES.items()}
if set(DTYPE_CODES) != set(DTYPES):
    raise ImportError(f"every boundary dtype needs a code on the wire, missing: {set(DTYPES) - set(DTYPE_CODES)}")


def wire_dtype_of(spec: TensorSpec, wire_dtype: str) -> str:
    """The dtype that tensors of `spec` have on the wire of a session that asked for `wire_dtype`.

    Only floats wider than a 16-bit wire dtype change; one number a sample, such as a loss, never does,
    because it costs precision and saves nothing.
    """
    narrows = wire_dtype in ("float16", "bfloat16") and spec.dtype in ("float32", "float64")
    return wire_dtype if narrows and spec.shape else spec.dtype


@dataclass(frozen=True)
class Rules:
    """What one direction of one session may carry; both ends of it hold the same."""

    kinds: Mapping[Kind, tuple[TensorSpec, ...]]
    wire_dtype: str
    max_batch: int
    max_message_bytes: int
    check_finite: bool

    @classmethod
    def for_requests(cls, terms: Terms, wire_dtype: str, limits: Limits) -> Rules:
        """What the opener of a session may send."""
        return cls(terms.requests, wire_dtype, terms.max_batch, limits.max_message_bytes, limits.check_finite)

    @classmethod
    def for_replies(cls, terms: Terms, wire_dtype: str, limits: Limits) -> Rules:
        """What the opener of a session may be sent."""
        return cls(terms.replies, wire_dtype, terms.max_batch, limits.max_message_bytes, limits.check_finite)

    def names(self) -> str:
        """The kinds of message allowed, for error messages."""
        return ", ".join(kind.name for kind in self.kinds) or "nothing"


def padded(length: int) -> int:
    """`length` rounded up so that the next payload starts aligned."""
    return -(-length // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class _Part:
    """One tensor's place in the payload of a message."""

    flat: Tensor
    wire: torch.dtype
    start: int
    length: int

    def slice(self, start: int, stop: int) -> list[memoryview | bytes]:
        """The bytes of this part between two offsets of the whole payload, padding included."""
        size = self.wire.itemsize
        first, last = max(start - self.start, 0), min(stop - self.start, self.length)
        found: list[memoryview | bytes] = []
        if first < last:
            numbers = self.flat[first // size : last // size]
            found.append(numbers.to(self.wire).view(torch.uint8).numpy().data)
        end = self.start + self.length
        padding = min(stop, self.start + padded(self.length)) - max(start, end)
        if padding > 0:
            found.append(bytes(padding))
        return found


def check_outgoing(message: TensorMessage, rules: Rules) -> None:
    """Refuse to send what the peer would have to refuse.

    Raises:
        WireError: the message does not fit the session's terms.
    """
    specs = rules.kinds.get(message.kind)
    if specs is None:
        raise WireError(f"this session carries {rules.names()}, not {message.kind.name}; open one with that role")
    if len(message.tensors) != len(specs):
        raise WireError(f"{message.kind.name}: expected {len(specs)} tensors, got {len(message.tensors)}")
    if not 0 <= message.request_id < 1 << 64:
        raise WireError(f"expected a request id of 64 bits without a sign, got {message.request_id}")
    total = 0
    for index, (tensor, spec) in enumerate(zip(message.tensors, specs, strict=True)):
        shape, where = tuple(tensor.shape), f"{message.kind.name} tensor {index}"
        if shape[1:] != spec.shape or tensor.ndim != len(spec.shape) + 1:
            raise WireError(f"{where}: expected shape (N, {', '.join(map(str, spec.shape))}), got {shape}")
        if tensor.dtype != spec.torch_dtype:
            raise WireError(f"{where}: expected dtype {spec.dtype}, got {tensor.dtype}; convert it with .to()")
        if not 1 <= shape[0] <= rules.max_batch:
            raise WireError(f"{where}: expected 1 to {rules.max_batch} samples, got {shape[0]}; split the batch")
        total += tensor.numel() * DTYPES[wire_dtype_of(spec, rules.wire_dtype)].itemsize
    if total > rules.max_message_bytes:
        raise WireError(
            f"{message.kind.name}: {total} bytes are over the limit of "
            f"{rules.max_message_bytes}; send smaller batches or raise max_message_bytes on "
            "both ends"
        )


def encode(message: TensorMessage, rules: Rules) -> Iterator[bytes]:
    """The pieces of `message`, made one at a time as they are asked for.

    Tensors are read while pieces are made: leave them unchanged until the last one.

    Raises:
        WireError: the message does not fit `rules`; before the first piece.
    """
    check_outgoing(message, rules)
    headers, parts, start = [], [], 0
    for index, (tensor, spec) in enumerate(zip(message.tensors, rules.kinds[message.kind], strict=True)):
        wire = wire_dtype_of(spec, rules.wire_dtype)
        part = _Part(
            tensor.detach().cpu().contiguous().view(-1), DTYPES[wire], start, tensor.numel() * DTYPES[wire].itemsize
        )
        sizes = (*tensor.shape, *(0,) * (MAX_DIMS - tensor.ndim))
        headers.append(
            HEADER.pack(
                MAGIC,
                message.kind,
                DTYPE_CODES[wire],
                DTYPE_CODES[spec.dtype],
                tensor.ndim,
                index,
                len(message.tensors),
                0,
                message.request_id,
                part.length,
                *sizes,
                0,
            )
        )
        parts.append(part)
        start += padded(part.length)
    return _pieces(b"".join(headers), parts, start)


def _pieces(headers: bytes, parts: list[_Part], total: int) -> Iterator[bytes]:
    for start in range(0, total, CHUNK_BYTES):
        stop = min(start + CHUNK_BYTES, total)
        found = [view for part in parts for view in part.slice(start, stop)]
        yield b"".join([headers, *found] if start == 0 else found)


def check_terms(terms: Terms) -> None:
    """Terms that frames can carry: not too many tensors a message, nor dimensions a tensor.

    Raises:
        ProtocolViolation: naming the kind of message that cannot be carried.
    """
    for kind, specs in (*terms.requests.items(), *terms.replies.items()):
        if not 1 <= len(specs) <= MAX_TENSORS or any(len(spec.shape) >= MAX_DIMS for spec in specs):
            raise ProtocolViolation(
                f"{kind.name}: expected 1 to {MAX_TENSORS} tensors of fewer than "
                f"{MAX_DIMS} dimensions a sample, got {[spec.shape for spec in specs]}"
            )
    if not 1 <= terms.max_batch < 1 << 32:
        raise ProtocolViolation(f"expected max_batch of 1 to {(1 << 32) - 1}, got {terms.max_batch}")
