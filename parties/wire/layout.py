"""Which headers a message has, and where its tensors lie among its bytes.

One message is one 64-byte header for each of its tensors, then their payloads, each padded to a multiple
of eight bytes. Up to `WHOLE_BYTES` of payload travel in one piece. What is longer travels in several: each has
`CHUNK_BYTES` of payload except the last, and the first has the headers too. All integers and all payloads are
little-endian.

Within a session a message's headers follow from its kind, the batch size of each tensor and its request
id alone: there is exactly one right way to write them, so checking them is comparing bytes.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from parties.messages import Kind, ProtocolViolation, Terms
from parties.wire.limits import Limits
from split_models.tensor_spec import DTYPES, TensorSpec

if sys.byteorder != "little":
    raise ImportError("the wire carries little-endian tensors, and this machine is big-endian")

WHOLE_BYTES = 1 << 20
"""Payload of the largest piece, and with it what gRPC allocates before anything could be checked."""

CHUNK_BYTES = WHOLE_BYTES - 2048
"""Payload of one piece of many. Smaller ones cost more than they gain by overlapping, larger ones leave the cache
before they are copied. gRPC reads into blocks of 64 KiB that hold a little less: of a whole MiB the last bytes would be
read by themselves, at a sixth of a long message's time."""

MAX_DIMS = 8
MAX_TENSORS = 8
MAGIC = b"UST1"
ALIGNMENT = 8
REMEMBERED = 256

# magic; kind, wire dtype, dtype, dimensions, index, count; zero; payload bytes; sizes; zero; request id.
# The id is in the first header of a message only, so that all else can be compared at once.
HEADER = struct.Struct(f"<4s6BHQ{MAX_DIMS}IIQ")
HEADER_BYTES = HEADER.size
ID_BYTES = 8
ID_AT = HEADER_BYTES - ID_BYTES

WIRE_DTYPES = ("float32", "float16", "bfloat16")
"""What a session may ask for. The 16-bit ones narrow wider floats on the wire only; nothing is widened."""

DTYPE_CODES = {"float32": 1, "float16": 2, "bfloat16": 3, "float64": 4, "int64": 5, "uint8": 6}
NUMPY_DTYPES = {name: np.dtype(name) for name in DTYPE_CODES if name != "bfloat16"}
if set(DTYPE_CODES) != set(DTYPES):
    raise ImportError(f"boundary dtypes without a code on the wire: {set(DTYPES) - set(DTYPE_CODES)}")


def wire_dtype_of(spec: TensorSpec, wire_dtype: str) -> str:
    """The dtype that tensors of `spec` have on the wire of a session that asked for `wire_dtype`.

    Only floats wider than a 16-bit wire dtype change; one number a sample, such as a loss, never does,
    because it costs precision and saves nothing.
    """
    narrows = wire_dtype in ("float16", "bfloat16") and spec.dtype in ("float32", "float64")
    return wire_dtype if narrows and spec.shape else spec.dtype


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one tensor lies in the payload of its message."""

    shape: tuple[int, ...]
    wire: torch.dtype
    original: torch.dtype
    start: int
    length: int
    numpy: np.dtype[Any] | None  # of the wire, where numpy has it
    padding: bytes  # after it

    @property
    def end(self) -> int:
        """The first byte after it, and after its padding."""
        return self.start + self.length + len(self.padding)


@dataclass(frozen=True, slots=True)
class Layout:
    """One way that a message may look: everything but its request id and its numbers."""

    kind: Kind
    head: bytes  # the first header up to the request id
    tail: bytes  # the further headers
    slots: tuple[Slot, ...]
    header_bytes: int  # before the payload
    payload: int
    whole: bool  # in one piece, which is the common case and the quick one


Looks = tuple[Kind, tuple[tuple[torch.Size, torch.dtype], ...]]
"""Of a message: its kind, and the shapes and dtypes of its tensors."""


def remember(known: dict[Any, Layout], key: object, layout: Layout) -> None:
    """Keep a layout for the next time; a peer must not fill our memory with batch sizes."""
    if len(known) >= REMEMBERED:
        known.clear()
    known[key] = layout


class Rules:
    """What one direction of one session may carry; both ends of it hold the same.

    Args:
        kinds: the kinds of message, each with the specs of its tensors.
        wire_dtype: what the opener asked for.
        max_batch: the most samples of one tensor.
        max_message_bytes: the largest payload.
        check_finite: whether NaN and infinity are refused.
    """

    def __init__(
        self,
        kinds: Mapping[Kind, tuple[TensorSpec, ...]],
        wire_dtype: str,
        max_batch: int,
        max_message_bytes: int,
        check_finite: bool,
    ) -> None:
        self.kinds, self.wire_dtype, self.max_batch = kinds, wire_dtype, max_batch
        self.max_message_bytes, self.check_finite = max_message_bytes, check_finite
        self._layouts: dict[tuple[Kind, tuple[int, ...]], Layout] = {}
        self.known_looks: dict[Looks, Layout] = {}  # what was found to be allowed to be sent

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

    def layout(self, kind: Kind, batches: tuple[int, ...]) -> Layout:
        """How a message of `kind` looks with so many samples in each of its tensors.

        Raises:
            ProtocolViolation: too many samples or bytes.
        """
        layout = self._layouts.get((kind, batches))
        if layout is None:
            layout = self._lay_out(kind, batches)
            remember(self._layouts, (kind, batches), layout)
        return layout

    def _lay_out(self, kind: Kind, batches: tuple[int, ...]) -> Layout:
        slots: list[Slot] = []
        headers = b""
        for index, (spec, batch) in enumerate(zip(self.kinds[kind], batches, strict=True)):
            if not 1 <= batch <= self.max_batch:
                raise ProtocolViolation(
                    f"{kind.name} tensor {index}: expected 1 to {self.max_batch} samples, got {batch}; split the batch"
                )
            wire = wire_dtype_of(spec, self.wire_dtype)
            start = slots[-1].end if slots else 0
            length = batch * spec.elements * DTYPES[wire].itemsize
            padding = bytes(-length % ALIGNMENT)  # so that the next one starts aligned
            shape = (batch, *spec.shape)
            slots.append(Slot(shape, DTYPES[wire], spec.torch_dtype, start, length, NUMPY_DTYPES.get(wire), padding))
            sizes = (batch, *spec.shape, *(0,) * (MAX_DIMS - 1 - len(spec.shape)))
            headers += HEADER.pack(
                MAGIC,
                kind,
                DTYPE_CODES[wire],
                DTYPE_CODES[spec.dtype],
                len(spec.shape) + 1,
                index,
                len(batches),
                0,
                length,
                *sizes,
                0,
                0,
            )
        payload = slots[-1].end
        if payload > self.max_message_bytes:
            raise ProtocolViolation(
                f"{kind.name}: expected at most {self.max_message_bytes} bytes, got "
                f"{payload}; send smaller batches, or raise max_message_bytes on both "
                "ends"
            )
        return Layout(
            kind,
            headers[:ID_AT],
            headers[HEADER_BYTES:],
            tuple(slots),
            len(headers),
            payload,
            whole=payload <= WHOLE_BYTES,
        )


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
        if any(size >= 1 << 32 for spec in specs for size in spec.shape):
            raise ProtocolViolation(f"{kind.name}: expected dimensions below {1 << 32}")
    if not 1 <= terms.max_batch < 1 << 32:
        raise ProtocolViolation(f"expected max_batch of 1 to {(1 << 32) - 1}, got {terms.max_batch}")
