"""Frames against a slow and obvious reference, for any message and any bytes."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.messages import Kind, ProtocolViolation, TensorMessage, WireError
from parties.wire import layout
from parties.wire.decoder import HOT_NUMBERS, Decoder, all_finite
from parties.wire.frames import check_outgoing, encode
from parties.wire.layout import CHUNK_BYTES, HEADER_BYTES, WHOLE_BYTES, Rules
from split_models.tensor_spec import DTYPES, TensorSpec

CODES = {"float32": 1, "float16": 2, "bfloat16": 3, "float64": 4, "int64": 5, "uint8": 6}

shapes = st.lists(st.integers(1, 5), max_size=5).map(tuple)
specs = st.builds(TensorSpec, shapes, st.sampled_from(sorted(DTYPES)))
spec_lists = st.lists(specs, min_size=1, max_size=4).map(tuple)
wire_dtypes = st.sampled_from(["float32", "float16", "bfloat16"])
request_ids = st.integers(0, 2**64 - 1)


def rules_for(kind: Kind, of: tuple[TensorSpec, ...], wire_dtype: str, limit: int = 1 << 40) -> Rules:
    return Rules({kind: of}, wire_dtype, 1 << 20, limit, check_finite=False)


def tensors_for(of: tuple[TensorSpec, ...], batches: list[int], seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        (torch.rand(batch, *spec.shape, generator=generator) * 100).to(spec.torch_dtype)
        for spec, batch in zip(of, batches, strict=True)
    )


def reference_bytes(message: TensorMessage, wire_dtype: str) -> bytes:
    """The whole message as the format's description has it, written one number at a time."""
    headers, payloads = b"", b""
    for index, tensor in enumerate(message.tensors):
        name = str(tensor.dtype).removeprefix("torch.")
        narrows = wire_dtype != "float32" and name in ("float32", "float64") and tensor.ndim > 1
        sent = wire_dtype if narrows else name
        flat = tensor.to(DTYPES[sent]).reshape(-1)
        if sent == "bfloat16":
            payload = b"".join(struct.pack("<f", number)[2:] for number in flat.float().tolist())
        else:
            letter = {"float32": "f", "float16": "e", "float64": "d", "int64": "q", "uint8": "B"}[sent]
            payload = b"".join(struct.pack("<" + letter, number) for number in flat.tolist())
        sizes = [*tensor.shape, *[0] * (8 - tensor.ndim)]
        headers += b"UST1" + bytes(
            [message.kind, CODES[sent], CODES[name], tensor.ndim, index, len(message.tensors), 0, 0]
        )
        headers += struct.pack("<Q", len(payload)) + b"".join(struct.pack("<I", size) for size in sizes)
        headers += bytes(4) + struct.pack("<Q", 0 if index else message.request_id)
        payloads += payload + bytes(-len(payload) % 8)
    return headers + payloads


@given(kind=st.sampled_from(Kind), of=spec_lists, wire_dtype=wire_dtypes, request_id=request_ids, data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_message_is_written_as_described_and_read_back(
    kind: Kind, of: tuple[TensorSpec, ...], wire_dtype: str, request_id: int, data: st.DataObject
) -> None:
    batches = [data.draw(st.integers(1, 4)) for _ in of]
    message = TensorMessage(request_id, kind, tensors_for(of, batches, data.draw(st.integers(0, 99))))
    rules = rules_for(kind, of, wire_dtype)
    sent = list(encode(message, rules))
    assert b"".join(sent) == reference_bytes(message, wire_dtype)
    decoder = Decoder(rules)
    read = None
    for piece in sent:
        assert read is None
        read = decoder.feed(piece)
    assert read is not None
    assert (read.request_id, read.kind) == (request_id, kind)
    assert not decoder.halfway
    for got, tensor, spec in zip(read.tensors, message.tensors, of, strict=True):
        narrowed = wire_dtype != "float32" and spec.dtype in ("float32", "float64") and spec.shape
        expected = tensor.to(DTYPES[wire_dtype]).to(tensor.dtype) if narrowed else tensor
        assert torch.equal(got, expected)
        assert got.dtype == tensor.dtype


@pytest.mark.parametrize("wire_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "size",  # of the first tensor; the others take 48 bytes
    [
        *(CHUNK_BYTES - 48, CHUNK_BYTES, WHOLE_BYTES - 56, WHOLE_BYTES - 48, WHOLE_BYTES - 40, WHOLE_BYTES),
        *(2 * CHUNK_BYTES - 48, 2 * CHUNK_BYTES - 40, 2 * WHOLE_BYTES, 3 * WHOLE_BYTES + 12),
    ],
)
def test_around_the_size_of_a_piece_nothing_is_lost(wire_dtype: str, size: int) -> None:
    of = (TensorSpec((size // DTYPES[wire_dtype].itemsize,)), TensorSpec((), "int64"), TensorSpec((3,), "uint8"))
    rules = rules_for(Kind.TRAIN_STEP, of, wire_dtype)
    message = TensorMessage(1, Kind.TRAIN_STEP, tensors_for(of, [1, 5, 2], 0))
    sent = list(encode(message, rules))
    assert (len(sent) == 1) is (size + 48 <= WHOLE_BYTES)
    assert [len(piece) for piece in sent[1:-1]] == [CHUNK_BYTES] * len(sent[1:-1])
    assert all(len(piece) <= WHOLE_BYTES + 3 * HEADER_BYTES for piece in sent)
    decoder = Decoder(rules)
    *unfinished, read = [decoder.feed(piece) for piece in sent]
    assert set(unfinished) <= {None}
    assert read is not None
    for got, tensor, spec in zip(read.tensors, message.tensors, of, strict=True):
        expected = tensor.to(DTYPES[wire_dtype]).float() if spec.dtype == "float32" else tensor
        assert torch.equal(got, expected)


@pytest.mark.parametrize("wire_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("at", [0, HOT_NUMBERS - 1, HOT_NUMBERS, CHUNK_BYTES // 4, CHUNK_BYTES // 2 + 6])
def test_one_number_that_is_not_finite_is_found_anywhere_in_a_large_tensor(wire_dtype: str, at: int) -> None:
    of = (TensorSpec((CHUNK_BYTES // 2 + 7,)),)
    tensor = torch.zeros(1, *of[0].shape)
    tensor[0, at] = torch.nan
    sent = encode(
        TensorMessage(1, Kind.ACTIVATION, (tensor,)), Rules({Kind.ACTIVATION: of}, wire_dtype, 1, 1 << 30, False)
    )
    decoder = Decoder(Rules({Kind.ACTIVATION: of}, wire_dtype, 1, 1 << 30, check_finite=True))
    with pytest.raises(ProtocolViolation, match="finite"):
        for piece in sent:
            decoder.feed(piece)


@given(st.lists(st.one_of(st.binary(max_size=300), st.just(b"UST1" + bytes(60))), max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_message_or_a_violation(pieces: list[bytes]) -> None:
    decoder = Decoder(rules_for(Kind.ACTIVATION, (TensorSpec((4,)),), "float32"))
    try:
        for piece in pieces:
            decoder.feed(piece)
    except ProtocolViolation as violation:
        assert "expected" in str(violation)


@given(data=st.data(), of=spec_lists, wire_dtype=wire_dtypes)
@settings(max_examples=200, deadline=None)
def test_one_changed_header_bit_is_noticed_or_means_another_batch_or_id(
    data: st.DataObject, of: tuple[TensorSpec, ...], wire_dtype: str
) -> None:
    kind = Kind.TRAIN_STEP
    rules = rules_for(kind, of, wire_dtype)
    whole = next(encode(TensorMessage(9, kind, tensors_for(of, [2] * len(of), 0)), rules))
    bit = data.draw(st.integers(0, HEADER_BYTES * len(of) * 8 - 1))
    broken = bytearray(whole)
    broken[bit // 8] ^= 1 << bit % 8
    if HEADER_BYTES - 8 <= bit // 8 < HEADER_BYTES:
        read = Decoder(rules).feed(bytes(broken))
        assert read is not None
        assert read.request_id != 9
    else:
        with pytest.raises(ProtocolViolation):
            Decoder(rules).feed(bytes(broken))


@given(batch=st.integers(0, 2**32 - 1), claimed=st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_nothing_is_allocated_for_what_a_header_claims(batch: int, claimed: int) -> None:
    rules = rules_for(Kind.ACTIVATION, (TensorSpec((1024,)),), "float32", limit=1 << 20)
    header = layout.HEADER.pack(layout.MAGIC, Kind.ACTIVATION, 1, 1, 2, 0, 1, 0, claimed, batch, 1024, *[0] * 6, 0, 1)
    decoder = Decoder(rules)
    with pytest.raises(ProtocolViolation):
        decoder.feed(header)
    assert decoder._targets == []


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=40),
    st.sampled_from(["float32", "float64", "float16", "bfloat16"]),
)
@settings(max_examples=300, deadline=None)
def test_finiteness_is_judged_exactly(numbers: list[float], dtype: str) -> None:
    tensor = torch.tensor(numbers).to(DTYPES[dtype])
    assert all_finite(tensor) == bool(torch.isfinite(tensor).all())


def test_the_finite_check_of_small_messages_agrees_with_the_general_one() -> None:
    rules = Rules({Kind.ACTIVATION: (TensorSpec((4,)),)}, "float32", 9, 1 << 20, check_finite=True)
    for value in (3e38, 1e-45, -3e38, 0.0, np.nan, np.inf, -np.inf):
        tensor = torch.tensor([[0.0, 1.0, value, 1.0]])
        pieces = encode(TensorMessage(1, Kind.ACTIVATION, (tensor,)), rules)
        if np.isfinite(value):
            read = Decoder(rules).feed(next(pieces))
            assert read is not None
            assert torch.equal(read.tensor, tensor)
        else:
            with pytest.raises(ProtocolViolation, match="finite"):
                Decoder(rules).feed(next(pieces))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("bad", [0, 1])
def test_in_a_message_of_one_piece_each_tensor_is_judged(dtype: str, bad: int) -> None:
    of = (TensorSpec((3,), dtype=dtype), TensorSpec((2,), dtype="int64"), TensorSpec((5,), dtype=dtype))
    rules = Rules({Kind.TRAIN_STEP: of}, "float32", 8, 1 << 20, check_finite=True)
    largest = torch.finfo(of[0].torch_dtype).max  # its square overflows, and yet it is finite
    tensors = [torch.full((2, *spec.shape), 1, dtype=spec.torch_dtype) for spec in of]
    tensors[0][1, 2] = tensors[2][0, 0] = largest
    (piece,) = encode(TensorMessage(1, Kind.TRAIN_STEP, tuple(tensors)), rules)
    found = Decoder(rules).feed(piece)
    assert found is not None
    assert all(torch.equal(sent, got) for sent, got in zip(tensors, found.tensors, strict=True))
    tensors[2 * bad][1, 1] = torch.nan
    (piece,) = encode(TensorMessage(1, Kind.TRAIN_STEP, tuple(tensors)), rules)
    with pytest.raises(ProtocolViolation, match="finite"):
        Decoder(rules).feed(piece)


def test_what_was_allowed_once_allows_nothing_else_and_is_forgotten_in_time() -> None:
    rules = rules_for(Kind.ACTIVATION, (TensorSpec((3,)),), "float32")
    for batch in range(1, 2 * layout.REMEMBERED):
        check_outgoing(TensorMessage(1, Kind.ACTIVATION, (torch.zeros(batch, 3),)), rules)
        assert len(rules.known_looks) <= layout.REMEMBERED
    for message in (
        TensorMessage(1, Kind.LOGITS, (torch.zeros(1, 3),)),
        TensorMessage(1, Kind.ACTIVATION, (torch.zeros(1, 4),)),
        TensorMessage(1, Kind.ACTIVATION, (torch.zeros(1, 3, dtype=torch.float64),)),
        TensorMessage(1, Kind.ACTIVATION, (torch.zeros(1, 3), torch.zeros(1, 3))),
        TensorMessage(1 << 64, Kind.ACTIVATION, (torch.zeros(1, 3),)),
    ):
        for _ in range(2):
            with pytest.raises(WireError):
                check_outgoing(message, rules)


def test_the_committed_stubs_are_what_the_proto_says(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    root = Path(__file__).parents[3]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I.",
            f"--python_out={tmp_path}",
            f"--pyi_out={tmp_path}",
            "parties/wire/control.proto",
        ],
        cwd=root,
        check=True,
    )
    for name in ("control_pb2.py", "control_pb2.pyi"):
        fresh = (tmp_path / "parties/wire" / name).read_text()
        assert fresh == (root / "parties/wire" / name).read_text(), "run make stubs and commit the result"
