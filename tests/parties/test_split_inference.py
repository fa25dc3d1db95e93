"""Owner, server and query endpoint together: what is refused, what is counted, and what the server gets to see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from defenses import make_defense
from parties.channel import Channel
from parties.compute_server import ComputeServer, SplitPoint
from parties.data_owner import DataOwner, QueryEndpoint
from parties.in_process import InProcessChannel
from parties.messages import Hello, Kind, QueryBudgetExhausted, Role, SessionRefused, TensorMessage, WireError
from parties.transcript import Transcript
from parties.wire.client import GrpcChannel
from parties.wire.server import GrpcServer
from split_models.split_model import output_spec
from split_models.tensor_spec import SpecError, TensorSpec
from tests.support import CLASSES, Stage, small_stage, smooth_images

POINT = SplitPoint("lenet", "ab" * 32, "relu1")
STAGE = small_stage("lenet", 1, POINT.cut)
ACTIVATION = output_spec(STAGE.parts.head, STAGE.spec)


def make_owner(sigma: float = 0.5, seed: int = 1, name: str = "owner-1", stage: Stage = STAGE) -> DataOwner:
    defense = make_defense("gaussian_noise", {"sigma": sigma})
    generator = torch.Generator().manual_seed(seed)
    return DataOwner(name, stage.parts.head, defense, POINT, stage.spec, ACTIVATION, generator)


def make_server() -> ComputeServer:
    return ComputeServer(STAGE.parts.tail, POINT, ACTIVATION, CLASSES, Transcript())


@contextmanager
def connected(transport: str, endpoint: Any, hello: Hello) -> Iterator[Channel]:
    if transport == "in_process":
        with InProcessChannel(endpoint, hello) as channel:
            yield channel
    else:
        with GrpcServer(endpoint) as server, GrpcChannel(server.address, hello) as channel:
            yield channel


def images(count: int = 7, seed: int = 0) -> Tensor:
    return smooth_images(count, STAGE.spec, seed)


def query_hello(**changes: Any) -> Hello:
    hello = Hello("server", Role.QUERY, POINT.model, POINT.model_digest, POINT.cut, STAGE.spec)
    return replace(hello, **changes)


def question(number: int, count: int) -> TensorMessage:
    return TensorMessage(number, Kind.INPUT, (images(count, seed=number),))


@pytest.mark.parametrize("wire_dtype", ["float32", "float16"])
def test_remote_equals_in_process_bit_for_bit(wire_dtype: str) -> None:
    outcomes = []
    for transport in ("in_process", "grpc"):
        server, owner = make_server(), make_owner()
        with connected(transport, server, owner.hello(wire_dtype)) as channel:
            replies = dict(owner.infer(channel, images(), batch_size=3))
        cost = channel.cost
        outcomes.append((replies, server.transcript, (cost.requests, cost.bytes_up, cost.bytes_down)))
    (near, near_seen, near_cost), (far, far_seen, far_cost) = outcomes
    assert near_cost == far_cost
    assert near_cost[0] == 3
    assert list(near) == list(far) == [1, 2, 3]
    assert all(torch.equal(near[request], far[request]) for request in near)
    assert torch.equal(near_seen.activations, far_seen.activations)
    assert near_seen.rows == far_seen.rows


@pytest.mark.parametrize("transport", ["in_process", "grpc"])
def test_the_transcript_is_what_was_on_the_wire(transport: str) -> None:
    server, owner = make_server(), make_owner(sigma=0.5)
    with connected(transport, server, owner.hello()) as channel:
        replies = dict(owner.infer(channel, images(), batch_size=3))
    again = make_owner(sigma=0.5)
    sent = torch.cat([again.protected(batch) for batch in images().split(3)])
    seen = server.transcript.activations
    assert torch.equal(seen, sent)
    plain = STAGE.observed(images())
    assert float((seen - plain).std()) == pytest.approx(0.5, rel=0.05), "noise and all"
    with torch.no_grad():
        assert torch.equal(torch.cat(list(replies.values())), torch.cat([STAGE.parts.tail(b) for b in sent.split(3)]))
    assert server.transcript.rows == [("owner-1", n // 3 + 1, n % 3) for n in range(7)]


def test_a_narrow_wire_is_narrow_in_the_transcript_too() -> None:
    server, owner = make_server(), make_owner(sigma=0)
    with InProcessChannel(server, owner.hello("float16")) as channel:
        list(owner.infer(channel, images(), batch_size=7))
    assert torch.equal(server.transcript.activations, STAGE.observed(images()).half().float())


def test_without_noise_the_split_network_answers_as_the_whole() -> None:
    owner = make_owner(sigma=0)
    with InProcessChannel(make_server(), owner.hello()) as channel:
        logits = dict(owner.infer(channel, images(), batch_size=7))[1]
    with torch.no_grad():
        assert torch.equal(logits, STAGE.model(images()))


def test_owners_at_once_leave_the_transcript_of_owners_one_by_one() -> None:
    def everyone(server: ComputeServer, address: str | None) -> None:
        def one(number: int) -> None:
            owner = make_owner(seed=number, name=f"owner-{number}")
            hello = owner.hello()
            with InProcessChannel(server, hello) if address is None else GrpcChannel(address, hello) as channel:
                list(owner.infer(channel, images(6, seed=number), batch_size=1))

        threads = [threading.Thread(target=one, args=(number,)) for number in (3, 1, 2)]
        for thread in threads:
            thread.start()
            if address is None:
                thread.join()
        for thread in threads:
            thread.join()

    near, far = make_server(), make_server()
    everyone(near, None)
    with GrpcServer(far) as served:
        everyone(far, served.address)
    assert len(near.transcript.rows) == 18
    assert near.transcript.rows == far.transcript.rows
    assert torch.equal(near.transcript.activations, far.transcript.activations)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"role": Role.QUERY}, "expected an inference session, got query"),
        ({"role": Role.TRAINING}, "expected an inference session, got training"),
        ({"model": "sixconv"}, "expected model 'lenet', got 'sixconv'"),
        ({"cut": "conv1"}, "expected cut 'relu1', got 'conv1'"),
        ({"model_digest": "cd" * 32}, f"expected model digest '{'ab' * 32}', got '{'cd' * 32}'.*same checkpoint"),
        ({"sample": TensorSpec((8, 12, 13))}, r"expected activations .*8, 12, 12.*got .*8, 12, 13"),
        ({"sample": TensorSpec((8, 12, 12), "float16")}, "expected activations"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_server_refuses_each_mismatch_by_name(change: dict[str, Any], text: str) -> None:
    hello = replace(make_owner().hello(), **change)
    server = make_server()
    with pytest.raises(SessionRefused, match=text):
        server.open(hello)
    for transport in ("in_process", "grpc"):
        with pytest.raises(SessionRefused, match=text), connected(transport, server, hello):
            pass
    assert server.transcript.rows == []


@pytest.mark.parametrize(
    "change, text",
    [
        ({"role": Role.INFERENCE}, "expected a query session, got inference"),
        ({"model": "sixconv"}, "expected model 'lenet'"),
        ({"cut": "conv1"}, "expected cut 'relu1'"),
        ({"model_digest": "cd" * 32}, "expected model digest"),
        ({"sample": TensorSpec((1, 16, 16))}, "expected inputs .*low=0.0.*got .*low=None"),
        ({"sample": TensorSpec((3, 16, 16), low=0.0, high=1.0)}, "expected inputs"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_query_endpoint_refuses_each_mismatch_by_name(change: dict[str, Any], text: str) -> None:
    endpoint = QueryEndpoint(make_owner(), 10)
    with pytest.raises(SessionRefused, match=text), InProcessChannel(endpoint, query_hello(**change)):
        pass


@pytest.mark.parametrize("transport", ["in_process", "grpc"])
def test_queries_are_counted_exactly_over_all_sessions(transport: str) -> None:
    endpoint = QueryEndpoint(make_owner(), budget=10)
    with connected(transport, endpoint, query_hello()) as channel:
        channel.call(question(1, 4))
        assert endpoint.answered == 4
        with pytest.raises(QueryBudgetExhausted, match="owner-1 answers 10 images and 6 are left, got 7"):
            channel.call(question(2, 7))
        assert endpoint.answered == 4, "a batch that is too large is not answered in part"
        channel.call(question(3, 1))
    with connected(transport, endpoint, query_hello(party="another")) as channel:
        assert channel.call(question(1, 5)).tensor.shape == (5, *ACTIVATION.shape)
        assert endpoint.answered == 10
        with pytest.raises(QueryBudgetExhausted, match="0 are left, got 1"):
            channel.call(question(2, 1))
    assert endpoint.answered == 10


def test_askers_at_once_do_not_get_more_than_the_budget() -> None:
    endpoint = QueryEndpoint(make_owner(), budget=50)
    answered: list[int] = []

    def ask() -> None:
        with InProcessChannel(endpoint, query_hello()) as channel:
            for number in range(1, 11):
                try:
                    answered.append(len(channel.call(question(number, 3)).tensor))
                except QueryBudgetExhausted:
                    return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answered) == endpoint.answered == 48


@pytest.mark.parametrize("value", [1.5, -0.1])
def test_a_query_out_of_range_is_said_and_not_counted(value: float) -> None:
    endpoint = QueryEndpoint(make_owner(), budget=10)
    with InProcessChannel(endpoint, query_hello()) as channel:
        message = question(1, 2)
        message.tensor[0, 0, 0, 0] = value
        with pytest.raises(WireError, match="owner-1's inputs: expected values of at"):
            channel.call(message)
        assert endpoint.answered == 0
        channel.call(question(2, 10))
    assert endpoint.answered == 10


def test_answers_have_passed_head_and_defense() -> None:
    with InProcessChannel(QueryEndpoint(make_owner(), 100), query_hello()) as channel:
        reply = channel.call(TensorMessage(1, Kind.INPUT, (images(),))).tensor
    assert torch.equal(reply, make_owner().protected(images()))
    assert not torch.equal(reply, STAGE.observed(images()))


def test_queries_do_not_shift_the_noise_on_private_inputs() -> None:
    private, queried = make_owner(seed=1), make_owner(seed=2)
    expected = make_owner(seed=1).protected(images())
    with InProcessChannel(QueryEndpoint(queried, 100), query_hello()) as channel:
        channel.call(question(1, 9))
    assert torch.equal(private.protected(images()), expected)


def test_an_owner_refuses_inputs_that_are_none_of_its_network() -> None:
    owner = make_owner()
    for wrong in (images()[0], images()[:, :, :-1], images() * 2, images().double(), images() * float("nan")):
        with pytest.raises(SpecError, match="owner-1's inputs"):
            owner.protected(wrong)


def test_a_request_after_the_last_batch_is_the_remainder() -> None:
    owner, server = make_owner(), make_server()
    with InProcessChannel(server, owner.hello()) as channel:
        sizes = [len(logits) for _, logits in owner.infer(channel, images(7), batch_size=4)]
    assert sizes == [4, 3]
