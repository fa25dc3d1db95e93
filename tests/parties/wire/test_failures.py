"""Parties that die, freeze, stop or are slow, as real processes where it matters."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pytest
import torch

from parties.messages import Kind, Role, Session, SessionRefused, TensorMessage, WireError
from parties.wire import stream
from parties.wire.client import GrpcChannel
from parties.wire.limits import Limits
from parties.wire.server import CLOSING_S, GrpcServer
from split_models.tensor_spec import TensorSpec
from tests.parties.wire.endpoints import ACTIVATION, Recorder, activation, eventually, hello

QUICK = Limits(open_timeout_s=2.0, keepalive_s=0.5, keepalive_timeout_s=0.5, reconnect_within_s=0)
SLACK_S = 1.5  # for a busy machine

Start = Callable[..., "tuple[subprocess.Popen[str], str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def started(role: str, address: str = "127.0.0.1:0", limits: Limits = QUICK) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "tests.parties.wire.party_process", role, address, json.dumps(asdict(limits))]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield started
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("role", [Role.QUERY, Role.INFERENCE])
def test_a_dead_or_frozen_server_is_noticed_in_the_stated_time(
    start: Start, number: signal.Signals, role: Role
) -> None:
    process, address = start("server")
    with GrpcChannel(address, hello(role), limits=QUICK) as channel:
        channel.call(activation(1))
        pending = channel.submit(activation(2, batch=7))  # would take three seconds
        time.sleep(0.2)
        process.send_signal(number)
        begun = time.monotonic()
        with pytest.raises(WireError, match=address):
            pending.result()
        assert time.monotonic() - begun < QUICK.notice_s + SLACK_S


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_frozen_owner_is_noticed(start: Start, number: signal.Signals) -> None:
    endpoint = Recorder()
    with GrpcServer(endpoint, limits=QUICK) as server:
        process, said = start("owner", server.address)
        assert said == "open"
        process.send_signal(number)
        assert eventually(lambda: endpoint.closed, QUICK.notice_s + SLACK_S)
        assert server.open_sessions == 0
        with GrpcChannel(server.address, hello()) as channel:
            assert channel.call(activation(1)).request_id == 1


def test_a_thread_steps_aside_for_its_request_only_for_a_moment() -> None:
    with GrpcServer(Recorder()) as server, GrpcChannel(server.address, hello()) as channel:
        assert channel.call(activation(1)).request_id == 1
        assert channel._stream is not None
        channel._stream._outbox = queue.SimpleQueue()  # gRPC's thread waits at the other one, and sends nothing
        begun = time.monotonic()
        assert not channel.submit(activation(2)).done()
        assert stream.LET_GO_S <= time.monotonic() - begun < SLACK_S


def test_who_sends_a_large_request_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LET_GO_S", SLACK_S)
    large = TensorSpec((64, 32, 32))
    with GrpcServer(Recorder(large)) as server, GrpcChannel(server.address, hello(sample=large)) as channel:
        assert channel._stream is not None
        outbox, channel._stream._outbox = channel._stream._outbox, queue.SimpleQueue()
        begun = time.monotonic()
        pending = channel.submit(activation(1, batch=10, spec=large))
        assert time.monotonic() - begun < SLACK_S
        outbox.put(channel._stream._outbox.get())
        assert pending.result().tensor.shape == (10, 10)


def test_who_steps_aside_for_too_short_a_time_still_gets_every_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LET_GO_S", 0)
    large = TensorSpec((64, 32, 32))
    with GrpcServer(Recorder(large)) as server, GrpcChannel(server.address, hello(sample=large)) as channel:
        for number, batch in enumerate([10, 1, 10, 10, 1]):
            assert channel.call(activation(number, batch=batch, spec=large)).tensor.shape == (batch, 10)


def test_a_request_that_a_killed_server_left_is_answered_by_its_successor(start: Start) -> None:
    process, address = start("server")
    limits = Limits(first_backoff_s=0.05, reconnect_within_s=20)
    with GrpcChannel(address, hello(), limits=limits) as channel:
        before = channel.call(activation(1)).tensor
        pending = channel.submit(activation(2, batch=7))
        time.sleep(0.2)
        process.kill()
        process.wait()
        start("server", address)
        assert pending.result().tensor.shape == (7, 10)
        assert torch.equal(channel.call(activation(3, seed=0)).tensor, before)


@pytest.mark.parametrize("role", [Role.QUERY, Role.TRAINING])
def test_what_may_have_been_done_is_never_sent_again(role: Role) -> None:
    endpoint = Stalling()
    address = ""
    with GrpcServer(endpoint, limits=QUICK) as server:
        address = server.address
        channel = GrpcChannel(address, hello(role), limits=Limits(reconnect_within_s=5))
        pending = channel.submit(endpoint.request(1, role))
        assert endpoint.entered.wait(5)
        threading.Timer(0.3, endpoint.leave.set).start()
        server.stop(0)
    with GrpcServer(endpoint, address) as server:
        with pytest.raises(WireError):
            pending.result()
        assert len(endpoint.seen) == 1
        if role is Role.QUERY:
            assert channel.call(activation(2)).request_id == 2
        else:
            with pytest.raises(WireError):
                channel.call(endpoint.request(2, role))
        channel.close()


def test_a_request_that_breaks_every_server_is_given_up() -> None:
    limits = Limits(max_resends=2, first_backoff_s=0.02, request_timeout_s=20)
    opened = []

    class Crashing(Recorder):
        def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
            opened.append(session.id)
            server.sessions_cut()
            raise RuntimeError("cut")

    with CuttingServer(Crashing()) as server, GrpcChannel(server.address, hello(), limits=limits) as channel:
        pending = channel.submit(activation(1))
        with pytest.raises(WireError):
            pending.result()
    assert len(opened) == 3


class CuttingServer(GrpcServer):
    """Loses every connection on demand, as a crash would."""

    def sessions_cut(self) -> None:
        for session in list(self._sessions):
            session._context.cancel()


class Stalling(Recorder):
    """Does not answer before it is told to."""

    def __init__(self, sample: TensorSpec = ACTIVATION) -> None:
        super().__init__(sample)
        self.entered, self.leave = threading.Event(), threading.Event()

    def request(self, request_id: int, role: Role) -> TensorMessage:
        message = activation(request_id)
        if role is Role.TRAINING:
            labels = torch.zeros(2, dtype=torch.int64)
            return TensorMessage(request_id, Kind.TRAIN_STEP, (message.tensor, labels))
        return message

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        self.entered.set()
        self.leave.wait(10)
        return super().answer(session, message)


def test_a_request_has_a_time_out_of_its_own_and_the_channel_lives_on() -> None:
    endpoint = Stalling()
    limits = Limits(request_timeout_s=0.5, open_timeout_s=2)
    with GrpcServer(endpoint) as server, GrpcChannel(server.address, hello(), limits=limits) as channel:
        begun = time.monotonic()
        with pytest.raises(WireError, match=r"did not answer request 1 within 0.5 s"):
            channel.call(activation(1))
        assert time.monotonic() - begun < 0.5 + SLACK_S
        endpoint.leave.set()
        assert channel.call(activation(2)).request_id == 2


def test_an_idle_session_is_ended_and_opened_again_when_needed() -> None:
    endpoint = Recorder()
    with (
        GrpcServer(endpoint, limits=Limits(idle_timeout_s=0.3)) as server,
        GrpcChannel(server.address, hello(Role.QUERY)) as channel,
    ):
        channel.call(activation(1))
        first = channel._stream
        assert first is not None
        # The server's end comes before the news of it: a query between the two fails, for it may have been counted.
        assert eventually(lambda: endpoint.closed and first.over)
        assert channel.call(activation(2)).request_id == 2
    assert len(endpoint.opened) == 2


def test_a_training_session_that_was_lost_is_not_replaced_in_silence() -> None:
    endpoint = Stalling()
    endpoint.leave.set()
    with (
        GrpcServer(endpoint, limits=Limits(idle_timeout_s=0.3)) as server,
        GrpcChannel(server.address, hello(Role.TRAINING)) as channel,
    ):
        channel.call(endpoint.request(1, Role.TRAINING))
        assert eventually(lambda: endpoint.closed)
        with pytest.raises(WireError, match="open another channel"):
            channel.call(endpoint.request(2, Role.TRAINING))


def test_a_server_that_comes_back_as_another_is_refused() -> None:
    with GrpcServer(Recorder()) as server:
        address = server.address
        channel = GrpcChannel(address, hello(), limits=Limits(reconnect_within_s=5))
    with GrpcServer(Recorder(TensorSpec((1,))), address), pytest.raises(SessionRefused, match="expected"):
        channel.call(activation(1))
    channel.close()


def test_sigterm_finishes_what_is_being_answered_and_ends_the_process(start: Start) -> None:
    process, address = start("server")
    with GrpcChannel(address, hello(), limits=QUICK) as channel, GrpcChannel(address, hello(), limits=QUICK) as idle:
        idle.call(activation(1))
        pending = channel.submit(activation(1, batch=7))  # takes three seconds
        time.sleep(0.3)
        process.terminate()
        assert pending.result().tensor.shape == (7, 10)
        assert process.wait(5) == 0


def test_a_frozen_owner_does_not_hold_up_the_end_of_a_server(start: Start) -> None:
    endpoint = Recorder()
    server = GrpcServer(endpoint, limits=Limits(keepalive_timeout_s=600))
    server.start()
    process, said = start("owner", server.address)
    assert said == "open"
    process.send_signal(signal.SIGSTOP)
    stopping = threading.Thread(target=server.stop, args=(60,), daemon=True)
    stopping.start()
    stopping.join(CLOSING_S + 10)
    assert not stopping.is_alive()
    assert endpoint.closed


def test_a_signal_that_another_thread_catches_ends_the_process_too() -> None:
    program = """
import signal, threading
from parties.wire.drain import serve_until_told
from parties.wire.server import CLOSING_S, GrpcServer
from tests.parties.wire.endpoints import Recorder
catch = lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Timer(1, catch).start()
serve_until_told(GrpcServer(Recorder()))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_a_slow_server_slows_its_owner_and_nothing_piles_up() -> None:
    endpoint = Stalling()
    limits = Limits(max_in_flight=3)
    sent: list[int] = []
    with GrpcServer(endpoint) as server, GrpcChannel(server.address, hello(), limits=limits) as channel:

        def send() -> None:
            for request_id in range(1, 11):
                channel.submit(activation(request_id))
                sent.append(request_id)

        sender = threading.Thread(target=send)
        sender.start()
        assert eventually(lambda: len(sent) == 3)
        time.sleep(0.3)
        assert len(sent) == 3
        endpoint.leave.set()
        sender.join(10)
        assert channel.call(activation(11)).request_id == 11
    assert [request_id for request_id, _ in endpoint.seen] == list(range(1, 12))
