"""From pieces of bytes back to a message, checking everything before anything is allocated for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parties.messages import Kind, ProtocolViolation, TensorMessage
from parties.wire.buffers import buffers
from parties.wire.layout import (
    CHUNK_BYTES,
    HEADER,
    HEADER_BYTES,
    ID_AT,
    MAGIC,
    MAX_DIMS,
    MAX_TENSORS,
    Layout,
    Rules,
    Slot,
    remember,
)

with warnings.catch_warnings():
    # torch warns once that the bytes it reads are not writable; here nobody else ever holds them.
    warnings.simplefilter("ignore")
    torch.frombuffer(b"\0", dtype=torch.uint8)
    torch.from_numpy(np.frombuffer(b"\0", dtype=np.uint8))

Array = np.ndarray[Any, Any]

HOT_NUMBERS = 128 * 1024
"""How many numbers are checked and then copied: few enough to stay in the cache in between."""


class IncreasingIds:
    """The rule for requests: every id is above the last one, so that none is answered twice."""

    def __init__(self) -> None:
        self._last = -1

    def __call__(self, request_id: int) -> None:
        if request_id <= self._last:
            raise ProtocolViolation(
                f"expected a request id above {self._last}, got {request_id}; number the requests of a session upwards"
            )
        self._last = request_id


class Decoder:
    """Reads the messages of one direction of one session, piece by piece.

    Args:
        rules: what may be sent; a piece that does not fit ends with `ProtocolViolation`.
        check_id: called with every request id before its payload is read; raises `ProtocolViolation`.
    """

    def __init__(self, rules: Rules, check_id: Callable[[int], None] | None = None) -> None:
        self._rules = rules
        self._check_id = check_id or IncreasingIds()
        self._known: dict[bytes, Layout] = {}  # one-tensor headers that were checked already
        self._layout: Layout | None = None
        self._request_id = self._received = 0
        self._targets: list[Tensor | None] = []

    @property
    def halfway(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._layout is not None

    def feed(self, piece: bytes) -> TensorMessage | None:
        """Take the next piece; the message it completes, or None.

        Raises:
            ProtocolViolation: the piece does not fit; this decoder must not be used again.
        """
        if self._layout is not None:
            return self._go_on(piece, 0, self._layout)
        # A line of Python costs several times as much just after a thread was woken as in a loop: few lines for most.
        layout = self._known.get(piece[:ID_AT]) or self._read_headers(piece)
        request_id = self._request_id = int.from_bytes(piece[ID_AT:HEADER_BYTES], "little")
        offset = layout.header_bytes
        if layout.whole:
            if len(piece) != offset + layout.payload:
                raise _wrong_size(layout.payload, len(piece) - offset)
            self._check_id(request_id)
            tensors = tuple([self._read(piece, slot, offset + slot.start) for slot in layout.slots])
            return TensorMessage(request_id, layout.kind, tensors)
        if len(piece) != offset + CHUNK_BYTES:
            raise _wrong_size(CHUNK_BYTES, len(piece) - offset)
        self._check_id(request_id)
        self._layout, self._targets, self._received = layout, [None] * len(layout.slots), 0
        return self._go_on(piece, offset, layout)

    def _go_on(self, piece: bytes, offset: int, layout: Layout) -> TensorMessage | None:
        body, expected = len(piece) - offset, min(CHUNK_BYTES, layout.payload - self._received)
        if body != expected:
            raise _wrong_size(expected, body)
        for index, slot in enumerate(layout.slots):
            self._fill(index, slot, piece, offset)
        self._received += body
        return self._finish(layout) if self._received == layout.payload else None

    def _read_headers(self, piece: bytes) -> Layout:
        """The only layout that these headers can mean, if they are exactly what it asks for."""
        if len(piece) < HEADER_BYTES:
            raise ProtocolViolation(f"expected a header of {HEADER_BYTES} bytes, got {len(piece)}")
        magic, number = piece[: len(MAGIC)], piece[len(MAGIC)]
        if magic != MAGIC:
            raise ProtocolViolation(
                "expected a tensor frame, got something else; check that both ends run the same version"
            )
        if number not in self._rules.kinds:
            raise ProtocolViolation(f"expected a message of kind {self._rules.names()}, got kind {number}")
        kind = Kind(number)
        count = len(self._rules.kinds[kind])
        if len(piece) < count * HEADER_BYTES:
            raise ProtocolViolation(
                f"{kind.name}: expected {count} headers of {HEADER_BYTES} bytes, got {len(piece)} bytes"
            )
        fields = [HEADER.unpack_from(piece, index * HEADER_BYTES) for index in range(count)]
        layout = self._rules.layout(kind, tuple(found[_BATCH] for found in fields))
        if (piece[:ID_AT], piece[HEADER_BYTES : count * HEADER_BYTES]) != (layout.head, layout.tail):
            raise ProtocolViolation(_difference(layout, fields))
        if count == 1:
            remember(self._known, piece[:ID_AT], layout)
        return layout

    def _read(self, piece: bytes, slot: Slot, offset: int) -> Tensor:
        """A tensor where it lies, or cast from there."""
        array: Array | None = None
        if slot.numpy is None:
            count = slot.length // slot.wire.itemsize
            numbers = torch.frombuffer(piece, dtype=slot.wire, offset=offset, count=count).view(slot.shape)
        else:  # which takes less than torch's own call
            array = np.ndarray(slot.shape, slot.numpy, piece, offset)
            numbers = torch.from_numpy(array)
        if slot.wire is not slot.original:
            numbers, array = numbers.to(slot.original), None
        self._check_finite(numbers, array)
        return numbers

    def _fill(self, index: int, slot: Slot, piece: bytes, offset: int) -> None:
        """Copy what `piece` holds of one tensor; a whole one that needs no cast is not even copied."""
        first = max(self._received - slot.start, 0)
        last = min(self._received + len(piece) - offset - slot.start, slot.length)
        if first >= last:
            return
        size = slot.wire.itemsize
        target = self._targets[index]
        if target is None:
            target = self._targets[index] = buffers.take(slot.length // size, slot.original)
        into = target[first // size : last // size]
        count, start = (last - first) // size, offset + slot.start + first - self._received
        if slot.wire is slot.original and slot.numpy is not None:
            self._copy(np.frombuffer(piece, slot.numpy, count, start), into.numpy())
        else:
            into.copy_(torch.frombuffer(piece, dtype=slot.wire, count=count, offset=start))
            self._check_finite(into)

    def _copy(self, source: Array, target: Array) -> None:
        """Check and copy a little at a time, so that it comes from memory once."""
        for start in range(0, len(source), HOT_NUMBERS):
            part = source[start : start + HOT_NUMBERS]
            self._check_finite(torch.from_numpy(part), part)
            target[start : start + HOT_NUMBERS] = part

    def _check_finite(self, numbers: Tensor, array: Array | None = None) -> None:
        if self._rules.check_finite and not all_finite(numbers, array):
            raise ProtocolViolation(
                f"request {self._request_id}: expected finite values, got NaN or "
                "infinity; where float16 is too narrow for them, open the session "
                "with bfloat16"
            )

    def _finish(self, layout: Layout) -> TensorMessage:
        pairs = zip(self._targets, layout.slots, strict=True)
        tensors = tuple([target.view(slot.shape) for target, slot in pairs if target is not None])
        self._layout, self._targets = None, []
        return TensorMessage(self._request_id, layout.kind, tensors)


def all_finite(numbers: Tensor, array: Array | None = None) -> bool:
    """Whether a contiguous tensor, which `array` views if it is given, holds neither NaN nor infinity."""
    # A sum of squares is finite only if every term is, and the fastest pass there is; it may overflow
    # where all terms are finite, so its word is final only in that direction.
    if numbers.dtype is torch.float32 or numbers.dtype is torch.float64:
        array = numbers.numpy() if array is None else array
        if math.isfinite(np.vdot(array, array)):  # numpy's call costs less than torch's
            return True
    elif not numbers.dtype.is_floating_point:
        return True
    low, high = torch.aminmax(numbers)  # NaN in, NaN out
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _wrong_size(expected: int, got: int) -> ProtocolViolation:
    return ProtocolViolation(f"expected a piece with {expected} bytes of payload, got {got}")


_FIELDS = (
    "magic",
    "kind",
    "dtype on the wire",
    "dtype",
    "number of dimensions",
    "tensor's position",
    "number of tensors",
    "zero",
    "payload bytes",
    *(f"size {index}" for index in range(MAX_DIMS)),
    "zero",
    "zero",
)
_BATCH = _FIELDS.index("size 0")
if len(HEADER.unpack(bytes(HEADER_BYTES))) != len(_FIELDS) or MAX_TENSORS > 255:
    raise ImportError("the names of the header's fields do not match the header")


def _difference(layout: Layout, found: list[tuple[int, ...]]) -> str:
    """The first field that is not what the session's terms make it."""
    complete = layout.head + bytes(8) + layout.tail
    for index, fields in enumerate(found):
        wanted = HEADER.unpack_from(complete, index * HEADER_BYTES)
        checked = fields if index else (*fields[:-1], 0)  # the request id is checked by its own rule
        for name, value, expected in zip(_FIELDS, checked, wanted, strict=True):
            if value != expected:
                return f"{layout.kind.name} tensor {index}: expected {name} {expected}, got {value}"
    return f"{layout.kind.name}: its headers are not canonical"
