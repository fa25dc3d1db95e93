"""Starting, addressing and stopping a server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest

from parties.in_process import InProcessChannel
from parties.messages import Session, SessionRefused, TensorMessage, WireError
from parties.wire.client import GrpcChannel
from parties.wire.limits import Limits
from parties.wire.server import GrpcServer
from tests.parties.wire.endpoints import Moody, Recorder, activation, eventually, hello


def test_port_0_becomes_a_real_one() -> None:
    with GrpcServer(Recorder(), "127.0.0.1:0") as server:
        assert int(server.address.rpartition(":")[2]) > 0
        with GrpcChannel(server.address, hello()) as channel:
            assert channel.call(activation(1)).request_id == 1


def test_a_taken_port_is_an_error_that_names_it() -> None:
    with GrpcServer(Recorder()) as server, pytest.raises(WireError, match=server.address):
        GrpcServer(Recorder(), server.address)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(WireError, match="choose another port"):
            GrpcServer(Recorder(), f"127.0.0.1:{taken.getsockname()[1]}")


def test_nobody_at_the_address_is_said_in_time() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(WireError, match=address):
            GrpcChannel(address, hello(), limits=Limits(open_timeout_s=0.5))
        assert time.monotonic() - start < 3


def test_stopping_finishes_the_request_being_answered() -> None:
    endpoint = Moody()
    server = GrpcServer(endpoint)
    server.start()
    with GrpcChannel(server.address, hello(), limits=Limits(reconnect_within_s=0)) as channel:
        channel.call(activation(1))
        pending = channel.submit(activation(2, batch=7))  # takes three seconds
        time.sleep(0.3)
        threading.Thread(target=server.stop, args=(10,)).start()
        assert pending.result().tensor.shape == (7, 10)
        with pytest.raises(WireError):
            channel.call(activation(3))
    assert eventually(lambda: endpoint.closed)


def test_stopping_with_idle_sessions_does_not_wait_for_the_grace() -> None:
    endpoint = Recorder()
    server = GrpcServer(endpoint)
    server.start()
    with GrpcChannel(server.address, hello(), limits=Limits(reconnect_within_s=0)) as channel:
        channel.call(activation(1))
        start = time.monotonic()
        server.stop(10)
        assert time.monotonic() - start < 2
    assert endpoint.closed


def test_one_session_too_many_is_refused_with_a_message() -> None:
    endpoint = Recorder()
    with GrpcServer(endpoint, limits=Limits(max_sessions=2)) as server:
        with (
            GrpcChannel(server.address, hello(party="a")),
            GrpcChannel(server.address, hello(party="b")),
            pytest.raises(SessionRefused, match="all 2 sessions of this server are taken"),
        ):
            GrpcChannel(server.address, hello(party="c"))
        assert eventually(lambda: server.open_sessions == 0)
        with GrpcChannel(server.address, hello(party="c")) as channel:
            assert channel.call(activation(1)).request_id == 1


def test_a_process_that_forgets_its_server_still_ends() -> None:
    script = (
        "from tests.parties.wire.endpoints import *; from parties.wire.client import GrpcChannel;"
        "from parties.wire.server import GrpcServer; s = GrpcServer(Recorder()); s.start();"
        "c = GrpcChannel(s.address, hello()); c.call(activation(1))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=20, check=False).returncode == 0


def test_one_party_cannot_take_all_sessions() -> None:
    with (
        GrpcServer(Recorder(), limits=Limits(max_sessions_per_party=1)) as server,
        GrpcChannel(server.address, hello(party="a")),
    ):
        with pytest.raises(SessionRefused, match="'a' already has 1 sessions"):
            GrpcChannel(server.address, hello(party="a"))
        GrpcChannel(server.address, hello(party="b")).close()


class Diligent(Recorder):
    """Has more to do behind each reply, once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may, self.done = threading.Event(), 0

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        assert self.done == message.request_id - 1
        return super().answer(session, message)

    def after(self, session: Session) -> None:
        self.may.wait(10)
        self.done += 1


def test_nobody_waits_for_work_behind_a_reply_but_the_next_request() -> None:
    endpoint = Diligent()
    with GrpcServer(endpoint) as server, GrpcChannel(server.address, hello()) as channel:
        channel.call(activation(1))
        assert endpoint.done == 0
        second = channel.submit(activation(2))
        endpoint.may.set()
        assert second.result().request_id == 2
    endpoint = Diligent()
    endpoint.may.set()
    with InProcessChannel(endpoint, hello()) as channel:
        channel.call(activation(1))
        channel.call(activation(2))
        assert endpoint.done == 2
