"""Many sessions at once, and many requests of one session."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from parties.messages import QueryBudgetExhausted, WireError
from parties.wire.client import GrpcChannel
from parties.wire.limits import Limits
from parties.wire.server import GrpcServer
from tests.parties.wire.endpoints import Moody, Recorder, activation, eventually, hello

OWNERS = 64
REQUESTS = 10


def test_64_owners_at_once_are_all_served_their_own_replies() -> None:
    endpoint = Recorder()
    ready = threading.Barrier(OWNERS)

    def own(number: int) -> float:
        with GrpcChannel(server.address, hello(party=f"owner-{number}")) as channel:
            ready.wait(20)
            begun = time.perf_counter()
            for request_id in range(1, REQUESTS + 1):
                message = activation(request_id, batch=number % 3 + 1, seed=number)
                expected = message.tensor.flatten(1) @ endpoint.weights
                assert torch.equal(channel.call(message).tensor, expected)
            return time.perf_counter() - begun

    with GrpcServer(endpoint) as server, ThreadPoolExecutor(OWNERS) as owners:
        seconds = sorted(owners.map(own, range(OWNERS)))
        assert eventually(lambda: server.open_sessions == 0)
    assert len(endpoint.seen) == OWNERS * REQUESTS
    assert len(endpoint.closed) == OWNERS
    assert seconds[-1] < 10  # none waits until all others are done


def test_replies_come_to_their_requests_however_they_are_asked_for() -> None:
    endpoint = Recorder()
    with GrpcServer(endpoint) as server, GrpcChannel(server.address, hello()) as channel:
        messages = [activation(request_id, seed=request_id) for request_id in range(1, 21)]
        pending = [channel.submit(message) for message in messages]
        for index in (19, 0, 7, 7, 3, *range(20)):
            reply = pending[index].result()
            assert pending[index].done()
            assert reply.request_id == messages[index].request_id
            assert torch.equal(reply.tensor, messages[index].tensor.flatten(1) @ endpoint.weights)


def test_many_threads_may_share_a_channel() -> None:
    endpoint = Recorder()
    with GrpcServer(endpoint) as server, GrpcChannel(server.address, hello()) as channel:
        order, ids = threading.Lock(), iter(range(1, 10_000))

        def ask(number: int) -> None:
            with order:
                message = activation(next(ids), seed=number)
                pending = channel.submit(message)
            assert torch.equal(pending.result().tensor, message.tensor.flatten(1) @ endpoint.weights)

        with ThreadPoolExecutor(8) as askers:
            list(askers.map(ask, range(200)))
    assert len(endpoint.seen) == 200


def test_one_failure_in_a_pipeline_is_its_own() -> None:
    with GrpcServer(Moody()) as server, GrpcChannel(server.address, hello()) as channel:
        pending = [
            channel.submit(activation(request_id, batch)) for request_id, batch in enumerate((1, 3, 2, 4), start=1)
        ]
        assert pending[0].result().tensor.shape == (1, 10)
        with pytest.raises(QueryBudgetExhausted):
            pending[1].result()
        assert pending[2].result().tensor.shape == (2, 10)
        with pytest.raises(WireError):
            pending[3].result()


def test_closing_fails_what_is_unanswered_and_wakes_who_waits() -> None:
    with GrpcServer(Moody()) as server:
        channel = GrpcChannel(server.address, hello(), limits=Limits(max_in_flight=8))
        pending = channel.submit(activation(1, batch=7))  # takes three seconds
        with ThreadPoolExecutor(2) as waiting:
            results = [waiting.submit(pending.result) for _ in range(2)]
            time.sleep(0.2)
            begun = time.monotonic()
            channel.close()
            for result in results:
                with pytest.raises(WireError, match="closed"):
                    result.result(5)
            assert time.monotonic() - begun < 2
