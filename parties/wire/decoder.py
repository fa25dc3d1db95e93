"""From pieces of bytes back to a message, checking everything before anything is allocated for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from parties.messages import Kind, ProtocolViolation, TensorMessage
from parties.wire.frames import (
    CHUNK_BYTES,
    DTYPE_CODES,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    MAX_DIMS,
    MAX_TENSORS,
    Rules,
    padded,
    wire_dtype_of,
)
from split_models.tensor_spec import DTYPES, TensorSpec

with warnings.catch_warnings():
    # torch warns once that the bytes it reads are not writable; here nobody else ever holds them.
    warnings.simplefilter("ignore")
    torch.frombuffer(b"\0", dtype=torch.uint8)


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


@dataclass
class _Slot:
    """Where one tensor goes, and which bytes of the message's payload it comes from."""

    shape: tuple[int, ...]
    wire: torch.dtype
    original: torch.dtype
    start: int
    length: int
    target: Tensor | None = None


class Decoder:
    """Reads the messages of one direction of one session, piece by piece.

    Args:
        rules: what may be sent; a piece that does not fit ends with `ProtocolViolation`.
        check_id: called with every request id before its payload is read; raises `ProtocolViolation`.
    """

    def __init__(self, rules: Rules, check_id: Callable[[int], None] | None = None) -> None:
        self._rules = rules
        self._check_id = check_id or IncreasingIds()
        self._slots: list[_Slot] = []
        self._request_id, self._kind = 0, Kind.ACTIVATION
        self._received = self._total = 0

    @property
    def halfway(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._slots)

    def feed(self, piece: bytes) -> TensorMessage | None:
        """Take the next piece; the message it completes, or None.

        Raises:
            ProtocolViolation: the piece does not fit; this decoder must not be used again.
        """
        offset = 0
        if not self._slots:
            offset = self._read_headers(piece)
        body = len(piece) - offset
        expected = min(CHUNK_BYTES, self._total - self._received)
        if body != expected:
            raise ProtocolViolation(
                f"request {self._request_id}: expected a piece with {expected} bytes of payload, got {body}"
            )
        for slot in self._slots:
            self._fill(slot, piece, offset)
        self._received += body
        return self._finish() if self._received == self._total else None

    def _read_headers(self, piece: bytes) -> int:
        count = self._read_envelope(piece)
        start = 0
        slots = []
        for index, spec in enumerate(self._rules.kinds[self._kind]):
            slot = self._read_slot(piece, index, count, spec, start)
            slots.append(slot)
            start += padded(slot.length)
        if start > self._rules.max_message_bytes + count * 8:
            raise ProtocolViolation(
                f"request {self._request_id}: {start} bytes are over the limit of "
                f"{self._rules.max_message_bytes}; send smaller batches"
            )
        self._check_id(self._request_id)
        self._slots, self._received, self._total = slots, 0, start
        return HEADER_BYTES * count

    def _read_envelope(self, piece: bytes) -> int:
        """What all headers of a message share; the number of its tensors."""
        if len(piece) < HEADER_BYTES:
            raise ProtocolViolation(f"expected a header of {HEADER_BYTES} bytes, got {len(piece)}")
        count: int
        magic, kind, _, _, _, _, count, _, request_id, *_ = HEADER.unpack_from(piece)
        if magic != MAGIC:
            raise ProtocolViolation(
                "expected a tensor frame, got something else; check that both ends run the same version"
            )
        if kind not in self._rules.kinds:
            raise ProtocolViolation(f"expected a message of kind {self._rules.names()}, got kind {kind}")
        self._kind, self._request_id = Kind(kind), request_id
        expected = len(self._rules.kinds[self._kind])
        if count != expected or count > MAX_TENSORS:
            raise ProtocolViolation(f"{self._kind.name}: expected {expected} tensors, got {count}")
        if len(piece) < count * HEADER_BYTES:
            raise ProtocolViolation(f"expected {count} headers of {HEADER_BYTES} bytes, got {len(piece)} bytes")
        return count

    def _read_slot(self, piece: bytes, index: int, count: int, spec: TensorSpec, start: int) -> _Slot:
        """One header, checked against the spec of its tensor."""
        (magic, kind, wire_code, code, ndim, found_index, found_count, zero, request_id, length, *sizes, last_zero) = (
            HEADER.unpack_from(piece, index * HEADER_BYTES)
        )
        where = f"{self._kind.name} tensor {index}"
        same = (magic, kind, found_index, found_count, request_id, zero, last_zero)
        if same != (MAGIC, self._kind, index, count, self._request_id, 0, 0):
            raise ProtocolViolation(f"{where}: its header disagrees with the first one of the message")
        wire = wire_dtype_of(spec, self._rules.wire_dtype)
        if (wire_code, code) != (DTYPE_CODES[wire], DTYPE_CODES[spec.dtype]):
            raise ProtocolViolation(
                f"{where}: expected dtype {spec.dtype} sent as {wire} (codes "
                f"{DTYPE_CODES[spec.dtype]}, {DTYPE_CODES[wire]}), got codes {code}, "
                f"{wire_code}"
            )
        batch, *rest = sizes
        wanted = [*spec.shape, *(0,) * (MAX_DIMS - 1 - len(spec.shape))]
        if ndim != len(spec.shape) + 1 or rest != wanted:
            raise ProtocolViolation(
                f"{where}: expected shape (N, {', '.join(map(str, spec.shape))}), got {ndim} dimensions {tuple(sizes)}"
            )
        if not 1 <= batch <= self._rules.max_batch:
            raise ProtocolViolation(f"{where}: expected 1 to {self._rules.max_batch} samples, got {batch}")
        if length != batch * spec.elements * DTYPES[wire].itemsize:
            raise ProtocolViolation(
                f"{where}: expected {batch * spec.elements * DTYPES[wire].itemsize} "
                f"bytes for {batch} samples, got {length}"
            )
        return _Slot((batch, *spec.shape), DTYPES[wire], spec.torch_dtype, start, length)

    def _fill(self, slot: _Slot, piece: bytes, offset: int) -> None:
        """Copy what `piece` holds of one tensor; a whole one that needs no cast is not even copied."""
        first = max(self._received - slot.start, 0)
        last = min(self._received + len(piece) - offset - slot.start, slot.length)
        if first >= last:
            return
        size = slot.wire.itemsize
        source = torch.frombuffer(
            piece, dtype=slot.wire, count=(last - first) // size, offset=offset + slot.start + first - self._received
        )
        if self._rules.check_finite and slot.wire.is_floating_point:
            self._check_finite(source)
        if last - first == slot.length and slot.wire == slot.original:
            slot.target = source
            return
        if slot.target is None:
            slot.target = torch.empty(slot.length // size, dtype=slot.original)
        slot.target[first // size : last // size].copy_(source)

    def _check_finite(self, numbers: Tensor) -> None:
        low, high = torch.aminmax(numbers)  # NaN in, NaN out
        if not (math.isfinite(low.item()) and math.isfinite(high.item())):
            raise ProtocolViolation(
                f"request {self._request_id}: expected finite values, got NaN or "
                "infinity; where float16 is too narrow for the values, open the "
                "session with bfloat16"
            )

    def _finish(self) -> TensorMessage:
        tensors = tuple(slot.target.view(slot.shape) for slot in self._slots if slot.target is not None)
        self._slots = []
        return TensorMessage(self._request_id, self._kind, tensors)
