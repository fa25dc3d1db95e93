"""A peer that breaks every rule ends its own session and nothing else."""

from __future__ import annotations

import dataclasses
import queue
import random
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import torch

from parties.messages import PROTOCOL_VERSION, Kind, ProtocolViolation, SessionRefused, TensorMessage
from parties.wire import control
from parties.wire import control_pb2 as pb
from parties.wire.client import GrpcChannel
from parties.wire.frames import encode
from parties.wire.layout import CHUNK_BYTES, HEADER_BYTES, Rules
from parties.wire.limits import Limits
from parties.wire.options import METHOD
from parties.wire.server import GrpcServer
from split_models.tensor_spec import TensorSpec
from tests.parties.wire.endpoints import ACTIVATION, Recorder, activation, eventually, hello

LIMITS = Limits(open_timeout_s=1.0, request_timeout_s=1.0, idle_timeout_s=3.0)
LARGE = TensorSpec((64, 32, 32))


@pytest.fixture
def endpoint() -> Recorder:
    return Recorder()


@pytest.fixture
def server(endpoint: Recorder) -> Iterator[GrpcServer]:
    with GrpcServer(endpoint, limits=LIMITS) as running:
        yield running


class RawPeer:
    """Sends whatever pieces it likes."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self.outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.answers = self.channel.stream_stream(METHOD)(iter(self.outbox.get, None), timeout=20)

    def open(self, sample: TensorSpec = ACTIVATION) -> RawPeer:
        self.outbox.put(control.pack_hello(hello(sample=sample)))
        assert control.unpack(next(self.answers)).WhichOneof("body") == "accepted"
        return self

    def answer_to(self, *pieces: bytes) -> Exception:
        """The typed error that these pieces end the session with."""
        for piece in pieces:
            self.outbox.put(piece)
        failure = control.unpack(next(self.answers))
        assert failure.WhichOneof("body") == "failure"
        assert list(self.answers) == []  # nothing more comes
        self.channel.close()
        return control.unpack_failure(failure.failure)


def pieces(message: TensorMessage, spec: TensorSpec = ACTIVATION, wire_dtype: str = "float32") -> list[bytes]:
    return list(encode(message, Rules({message.kind: (spec,)}, wire_dtype, 1 << 20, 1 << 40, False)))


def changed(piece: bytes, offset: int, layout: str, value: int) -> bytes:
    return piece[:offset] + struct.pack(layout, value) + piece[offset + struct.calcsize(layout) :]


GOOD = pieces(activation(1))[0]
BAD_FRAMES = {
    "empty": b"",
    "a few bytes": b"UST1",
    "half a header": GOOD[: HEADER_BYTES // 2],
    "only a header": GOOD[:HEADER_BYTES],
    "truncated": GOOD[:-1],
    "trailing bytes": GOOD + b"\0",
    "two frames at once": GOOD + GOOD,
    "wrong magic": b"XXXX" + GOOD[4:],
    "unknown kind": changed(GOOD, 4, "<B", 200),
    "kind of another role": changed(GOOD, 4, "<B", Kind.TRAIN_STEP),
    "kind of a reply": changed(GOOD, 4, "<B", Kind.LOGITS),
    "wrong dtype on the wire": changed(GOOD, 5, "<B", 2),
    "unknown dtype": changed(GOOD, 6, "<B", 99),
    "too few dimensions": changed(GOOD, 7, "<B", 3),
    "too many dimensions": changed(GOOD, 7, "<B", 255),
    "wrong position": changed(GOOD, 8, "<B", 1),
    "more tensors": changed(GOOD, 9, "<B", 2),
    "reserved bytes": changed(GOOD, 10, "<H", 1),
    "longer than it is": changed(GOOD, 12, "<Q", 1 << 40),
    "length of minus one": changed(GOOD, 12, "<q", -1),
    "no samples": changed(GOOD, 20, "<I", 0),
    "a huge batch": changed(GOOD, 20, "<I", (1 << 32) - 1),
    "a negative dimension": changed(GOOD, 24, "<i", -8),
    "a huge dimension": changed(GOOD, 24, "<I", 1 << 31),
    "a ninth size": changed(GOOD, 52, "<I", 1),
    "control in the middle": control.pack(pb.Control(close=pb.Close(reason="x"))),
    "broken control": control.MAGIC + b"\xff\xff\xff",
    "a second hello": control.pack_hello(hello()),
    "random bytes": random.Random(0).randbytes(5000),
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_a_bad_frame_ends_its_session_with_a_typed_error_and_no_other(
    server: GrpcServer, endpoint: Recorder, frame: bytes
) -> None:
    with GrpcChannel(server.address, hello(party="bystander")) as bystander:
        bystander.call(activation(1))
        error = RawPeer(server.address).open().answer_to(frame)
        assert isinstance(error, ProtocolViolation)
        assert "expected" in str(error)
        assert bystander.call(activation(2)).request_id == 2
    assert [request_id for request_id, _ in endpoint.seen] == [1, 2]


@pytest.mark.parametrize("ids", [(1, 1), (5, 4), (0, 0)])
def test_a_replayed_or_sinking_id_is_not_answered_twice(
    server: GrpcServer, endpoint: Recorder, ids: tuple[int, int]
) -> None:
    peer = RawPeer(server.address).open()
    peer.outbox.put(pieces(activation(ids[0]))[0])
    next(peer.answers)
    assert "expected a request id above" in str(peer.answer_to(pieces(activation(ids[1]))[0]))
    assert len(endpoint.seen) == 1


@pytest.mark.parametrize("order", ["missing piece", "swapped pieces", "new frame instead of the rest"])
def test_pieces_out_of_order_are_refused(order: str) -> None:
    endpoint = Recorder(LARGE)
    one, two, three = pieces(activation(1, batch=10, spec=LARGE), LARGE)
    sent = {
        "missing piece": (one, three),
        "swapped pieces": (one, three, two),
        "new frame instead of the rest": (one, one),
    }[order]
    with GrpcServer(endpoint, limits=LIMITS) as server:
        error = RawPeer(server.address).open(LARGE).answer_to(*sent)
    assert "expected a piece with" in str(error)
    assert not endpoint.seen


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("batch", [1, 300])
def test_values_that_are_not_finite_never_reach_the_endpoint(value: float, batch: int) -> None:
    endpoint = Recorder()
    message = activation(1, batch)
    message.tensor[-1, -1, -1, -1] = value
    with GrpcServer(endpoint, limits=LIMITS) as server:
        assert "finite" in str(RawPeer(server.address).open().answer_to(*pieces(message)))
    assert not endpoint.seen


def test_large_finite_values_are_let_through(server: GrpcServer, endpoint: Recorder) -> None:
    message = TensorMessage(1, Kind.ACTIVATION, (torch.full((2, *ACTIVATION.shape), 3e38),))
    endpoint.weights.zero_()
    with GrpcChannel(server.address, hello()) as channel:
        channel.call(message)
    assert torch.equal(endpoint.seen[0][1], message.tensor)


def test_where_finite_checks_are_off_nan_is_carried() -> None:
    limits = Limits(check_finite=False)
    message = TensorMessage(1, Kind.ACTIVATION, (torch.full((1, *ACTIVATION.shape), torch.nan),))
    with (
        GrpcServer(Recorder(), limits=limits) as server,
        GrpcChannel(server.address, hello(), limits=limits) as channel,
    ):
        assert channel.call(message).tensor.isnan().all()


def test_a_message_over_the_limit_is_refused_by_its_header_alone() -> None:
    endpoint = Recorder(LARGE)
    first = pieces(activation(1, batch=5, spec=LARGE), LARGE)[0]
    with GrpcServer(endpoint, limits=Limits(max_message_bytes=1 << 20)) as server:
        error = RawPeer(server.address).open(LARGE).answer_to(first)
    assert "expected at most 1048576 bytes, got 1310720" in str(error)


def test_a_piece_larger_than_any_is_refused_by_grpc_before_it_is_read(server: GrpcServer) -> None:
    peer = RawPeer(server.address).open()
    peer.outbox.put(bytes(4 * CHUNK_BYTES))
    with pytest.raises(grpc.RpcError) as caught:
        next(peer.answers)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def opening_as(party: str) -> bytes:
    return control.pack_hello(dataclasses.replace(hello(), party=party))


BAD_HELLOS = {
    "nothing": b"",
    "random": random.Random(1).randbytes(300),
    "tensors first": GOOD,
    "unknown role": control.pack(pb.Control(open=pb.Open(protocol_version=PROTOCOL_VERSION, party="a", role=77))),
    "no spec": control.pack(pb.Control(open=pb.Open(protocol_version=PROTOCOL_VERSION, party="a", role=1))),
    "a path for a name": opening_as("/etc/passwd"),
    "a format string": opening_as("{0.__class__}"),
    "too long": control.MAGIC + bytes(control.MAX_CONTROL_BYTES),
}


@pytest.mark.parametrize("greeting", BAD_HELLOS.values(), ids=BAD_HELLOS.keys())
def test_a_bad_hello_opens_nothing(server: GrpcServer, endpoint: Recorder, greeting: bytes) -> None:
    assert "expected" in str(RawPeer(server.address).answer_to(greeting))
    assert not endpoint.opened
    assert server.open_sessions == 0


def test_who_says_nothing_is_let_go(server: GrpcServer) -> None:
    peer = RawPeer(server.address)
    start = time.monotonic()
    with pytest.raises(grpc.RpcError):
        next(peer.answers)
    assert time.monotonic() - start < LIMITS.open_timeout_s + 1.5


def test_a_crowd_that_says_nothing_takes_no_sessions(endpoint: Recorder) -> None:
    limits = Limits(open_timeout_s=1.0, max_opening=2, max_sessions=4)
    with GrpcServer(endpoint, limits=limits) as server, GrpcChannel(server.address, hello(party="early")) as early:
        crowd = [RawPeer(server.address) for _ in range(2)]
        time.sleep(0.3)
        with pytest.raises(SessionRefused, match="2 others are opening sessions"):
            GrpcChannel(server.address, hello(party="late"))
        assert early.call(activation(1)).request_id == 1
        for peer in crowd:
            with pytest.raises(grpc.RpcError):
                next(peer.answers)
        with GrpcChannel(server.address, hello(party="late")) as late:
            assert late.call(activation(1)).request_id == 1


def test_half_a_message_is_not_waited_for_long() -> None:
    endpoint = Recorder(LARGE)
    with GrpcServer(endpoint, limits=LIMITS) as server:
        peer = RawPeer(server.address).open(LARGE)
        peer.outbox.put(pieces(activation(1, batch=10, spec=LARGE), LARGE)[0])
        start = time.monotonic()
        with pytest.raises(grpc.RpcError):
            next(peer.answers)
        assert time.monotonic() - start < LIMITS.request_timeout_s + 1.5
        assert eventually(lambda: endpoint.closed)


def test_dribbling_a_message_does_not_stretch_its_time() -> None:
    endpoint = Recorder(LARGE)
    message = pieces(activation(1, batch=40, spec=LARGE), LARGE)
    with GrpcServer(endpoint, limits=LIMITS) as server:
        peer = RawPeer(server.address).open(LARGE)
        start = time.monotonic()
        with pytest.raises(grpc.RpcError):
            for piece in message:
                peer.outbox.put(piece)
                time.sleep(0.3)
                if not peer.answers.is_active():
                    next(peer.answers)
        assert time.monotonic() - start < LIMITS.request_timeout_s + 2
    assert not endpoint.seen


def test_random_bytes_on_the_socket_disturb_nobody(server: GrpcServer) -> None:
    host, _, port = server.address.rpartition(":")
    randomness = random.Random(2)
    with GrpcChannel(server.address, hello()) as bystander:
        for request_id in range(1, 11):
            with socket.create_connection((host, int(port))) as noise:
                noise.sendall(randomness.randbytes(2000))
                assert bystander.call(activation(request_id)).request_id == request_id


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_thousand_connects_starve_nobody(server: GrpcServer) -> None:
    host, _, port = server.address.rpartition(":")
    connections = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))  # both ends are here
    descriptors = open_descriptors()
    try:
        for _ in range(1000):
            connections.append(socket.create_connection((host, int(port)), timeout=5))
        with GrpcChannel(server.address, hello()) as channel:
            for request_id in range(1, 6):
                assert channel.call(activation(request_id)).request_id == request_id
    finally:
        for connection in connections:
            connection.close()
    assert eventually(lambda: open_descriptors() < descriptors + 50, 10)
