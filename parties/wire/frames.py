"""From a message to the pieces of bytes it travels in."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parties.messages import ProtocolViolation, TensorMessage, WireError
from parties.wire.layout import CHUNK_BYTES, ID_BYTES, Layout, Looks, Rules, Slot, remember

if TYPE_CHECKING:
    from typing_extensions import Buffer


_look = attrgetter("shape", "dtype")


def check_outgoing(message: TensorMessage, rules: Rules) -> Layout:
    """How `message` will look; refuses to send what the peer would have to refuse.

    Raises:
        WireError: the message does not fit the session's terms.
    """
    request_id, kind, tensors = message
    if not 0 <= request_id < 1 << 64:
        raise WireError(f"expected a request id of 64 bits without a sign, got {request_id}")
    # A line of Python costs several times as much just after a thread was woken as in a loop: few lines for most.
    looks = (kind, tuple(map(_look, tensors)))
    layout = rules.known_looks.get(looks)
    if layout is None:
        layout = _layout_of(looks, rules)
        remember(rules.known_looks, looks, layout)
    return layout


def _layout_of(looks: Looks, rules: Rules) -> Layout:
    kind, tensors = looks
    specs = rules.kinds.get(kind)
    if specs is None:
        raise WireError(f"this session carries {rules.names()}, not {kind.name}; open one with that role")
    if len(tensors) != len(specs):
        raise WireError(f"{kind.name}: expected {len(specs)} tensors, got {len(tensors)}")
    for index, ((shape, dtype), spec) in enumerate(zip(tensors, specs, strict=True)):
        if shape[1:] != spec.shape or len(shape) != len(spec.shape) + 1:
            raise WireError(
                f"{kind.name} tensor {index}: expected shape (N, {', '.join(map(str, spec.shape))}), got {tuple(shape)}"
            )
        if dtype != spec.torch_dtype:
            raise WireError(
                f"{kind.name} tensor {index}: expected dtype {spec.dtype}, got {dtype}; convert it with .to()"
            )
    try:
        return rules.layout(kind, tuple([shape[0] for shape, _ in tensors]))
    except ProtocolViolation as violation:
        raise WireError(str(violation)) from None


def encode(message: TensorMessage, rules: Rules) -> Iterator[bytes]:
    """The pieces of `message`, made one at a time as they are asked for.

    Tensors are read while pieces are made: leave them unchanged until the last one.

    Raises:
        WireError: the message does not fit `rules`; before the first piece.
    """
    return pieces_of(message, check_outgoing(message, rules))


def pieces_of(message: TensorMessage, layout: Layout) -> Iterator[bytes]:
    """The pieces of a message that was checked."""
    headers: list[Buffer] = [layout.head, message.request_id.to_bytes(ID_BYTES, "little"), layout.tail]
    if layout.whole:
        for numbers, slot in zip(message.tensors, layout.slots, strict=True):
            wired = numbers if slot.wire is slot.original else numbers.detach().to(slot.wire)
            headers += (_buffer_of(wired), slot.padding)
        return iter((b"".join(headers),))
    flats = [tensor.detach().cpu().contiguous().view(-1) for tensor in message.tensors]
    return _pieces(headers, layout, flats)


def _pieces(headers: list[Buffer], layout: Layout, flats: list[Tensor]) -> Iterator[bytes]:
    for start in range(0, layout.payload, CHUNK_BYTES):
        stop = min(start + CHUNK_BYTES, layout.payload)
        parts = headers if start == 0 else []
        for slot, flat in zip(layout.slots, flats, strict=True):
            if slot.start < stop and slot.end > start:
                parts = [*parts, *_between(slot, flat, start, stop)]
        yield b"".join(parts)


def _between(slot: Slot, flat: Tensor, start: int, stop: int) -> Iterator[Buffer]:
    """What lies between two offsets of the payload of one tensor, cast piece by piece, and its padding."""
    size = slot.wire.itemsize
    first, last = max(start - slot.start, 0), min(stop - slot.start, slot.length)
    if first < last:
        yield _buffer_of(flat[first // size : last // size].to(slot.wire))
    padding = min(stop, slot.end) - max(start, slot.start + slot.length)
    if padding > 0:
        yield bytes(padding)


def _buffer_of(tensor: Tensor) -> Buffer:
    if tensor.dtype is torch.bfloat16:  # numpy has none
        tensor = tensor.detach().contiguous().view(torch.int16)
    if not tensor.is_contiguous():
        tensor = tensor.contiguous()
    return tensor.numpy(force=True)  # type: ignore[return-value]  # numpy's stubs predate Buffer
