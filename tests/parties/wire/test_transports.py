"""What holds for both transports, and that they agree to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from parties.channel import Channel
from parties.in_process import InProcessChannel
from parties.messages import (
    Kind,
    ProtocolViolation,
    QueryBudgetExhausted,
    Role,
    SessionRefused,
    TensorMessage,
    WireError,
)
from parties.wire.client import GrpcChannel
from parties.wire.server import GrpcServer
from split_models.tensor_spec import TensorSpec
from tests.parties.wire.endpoints import Moody, Recorder, activation, eventually, hello

LARGE = TensorSpec((64, 32, 32))


@pytest.fixture(params=["in_process", "grpc"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Channel]]:
    servers: list[GrpcServer] = []
    channels: list[Channel] = []

    def opened(endpoint: Any, greeting: Any) -> Channel:
        if request.param == "in_process":
            channels.append(InProcessChannel(endpoint, greeting))
        else:
            servers.append(GrpcServer(endpoint))
            servers[-1].start()
            channels.append(GrpcChannel(servers[-1].address, greeting))
        return channels[-1]

    yield opened
    for channel in channels:
        channel.close()
    for server in servers:
        server.stop(1)


@pytest.mark.parametrize("wire_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 3, 40])
def test_remote_equals_in_process_bit_for_bit(wire_dtype: str, batch: int) -> None:
    near, far = Recorder(LARGE), Recorder(LARGE)
    greeting = hello(wire_dtype=wire_dtype, sample=LARGE)
    messages = [activation(i, batch, seed=i, spec=LARGE) for i in range(1, 4)]
    with (
        GrpcServer(far) as server,
        GrpcChannel(server.address, greeting) as remote,
        InProcessChannel(near, greeting) as local,
    ):
        assert remote.terms == local.terms
        for message in messages:
            theirs, ours = remote.call(message), local.call(message)
            assert theirs.request_id == ours.request_id == message.request_id
            assert torch.equal(theirs.tensor, ours.tensor)
            assert theirs.tensor.dtype == torch.float32
        assert (remote.cost.requests, remote.cost.bytes_up, remote.cost.bytes_down) == (
            local.cost.requests,
            local.cost.bytes_up,
            local.cost.bytes_down,
        )
    for (_, near_tensor), (_, far_tensor), message in zip(near.seen, far.seen, messages, strict=True):
        assert torch.equal(near_tensor, far_tensor)
        assert torch.equal(far_tensor, message.tensor) == (wire_dtype == "float32")


def test_bytes_are_headers_and_narrowed_payload(connect: Callable[..., Channel]) -> None:
    channel = connect(Recorder(), hello(wire_dtype="float16"))
    channel.call(activation(1, batch=2))
    assert channel.cost.bytes_up == 64 + 2 * 8 * 4 * 4 * 2
    assert channel.cost.bytes_down == 64 + 2 * 10 * 2
    assert channel.cost.requests == 1
    assert channel.cost.seconds > 0


def test_training_step_carries_labels_and_loss_unharmed(connect: Callable[..., Channel]) -> None:
    channel = connect(Recorder(), hello(Role.TRAINING, wire_dtype="float16"))
    cut, labels = torch.full((3, 8, 4, 4), 0.1), torch.tensor([1, 2, 1 << 40])
    reply = channel.call(TensorMessage(1, Kind.TRAIN_STEP, (cut, labels)))
    gradient, loss = reply.tensors
    halved = cut.half().float()
    assert torch.equal(gradient, (halved * 2).half().float())
    assert torch.equal(loss, halved.mean().view(1))  # a lone number is not narrowed


@pytest.mark.parametrize("layout", ["channels_last", "strided", "requires_grad", "expanded"])
def test_any_layout_arrives_as_the_same_values(connect: Callable[..., Channel], layout: str) -> None:
    endpoint = Recorder()
    tensor = activation(1, batch=4).tensor
    sent = {
        "channels_last": tensor.to(memory_format=torch.channels_last),
        "strided": tensor.repeat(2, 1, 1, 1)[::2].flip(3),
        "requires_grad": tensor.requires_grad_(),
        "expanded": tensor[:1].expand(4, -1, -1, -1),
    }[layout]
    reply = connect(endpoint, hello()).call(TensorMessage(1, Kind.ACTIVATION, (sent,)))
    assert torch.equal(endpoint.seen[0][1], sent)
    assert not reply.tensor.requires_grad


def test_a_reply_may_be_changed_in_place(connect: Callable[..., Channel]) -> None:
    message = activation(1)
    before = message.tensor.clone()
    channel = connect(Recorder(), hello())
    first = channel.call(message).tensor
    kept = first.clone()
    first.zero_()
    again = channel.call(TensorMessage(2, Kind.ACTIVATION, message.tensors)).tensor
    assert torch.equal(again, kept)
    assert torch.equal(message.tensor, before)


def test_a_refusal_reaches_the_opener_word_for_word(connect: Callable[..., Channel]) -> None:
    text = r"expected activations of shape \(8, 4, 4\), got \(64, 32, 32\)"
    with pytest.raises(SessionRefused, match=text):
        connect(Recorder(), hello(sample=LARGE))


@pytest.mark.parametrize(
    "change", [{"party": "../etc"}, {"party": ""}, {"wire_dtype": "int8"}, {"protocol_version": 99}, {"model": "x\n"}]
)
def test_an_impossible_hello_is_refused(connect: Callable[..., Channel], change: dict[str, Any]) -> None:
    endpoint = Recorder()
    with pytest.raises(SessionRefused, match="expected"):
        connect(endpoint, type(hello())(**{**vars(hello()), **change}))
    assert not endpoint.opened


@pytest.mark.parametrize(
    "batch, error, text",
    [
        (3, QueryBudgetExhausted, "3 queries were granted and all are used"),
        (4, WireError, "the batch cannot be answered; send another"),
        (5, WireError, "the server failed on request 1; its log says why"),
        (6, WireError, "the server failed on request 1; its log says why"),
    ],
)
def test_an_endpoint_s_error_fails_one_request_and_shows_nothing_inside(
    connect: Callable[..., Channel], batch: int, error: type[Exception], text: str
) -> None:
    channel = connect(Moody(), hello())
    with pytest.raises(error) as caught:
        channel.call(activation(1, batch))
    assert str(caught.value) == text
    assert type(caught.value) is error
    assert channel.call(activation(2)).tensor.shape == (2, 10)


@pytest.mark.parametrize(
    "message, text",
    [
        (TensorMessage(1, Kind.INPUT, (torch.zeros(1, 8, 4, 4),)), "carries ACTIVATION, not INPUT"),
        (TensorMessage(1, Kind.ACTIVATION, (torch.zeros(1, 8, 4, 5),)), "expected shape"),
        (TensorMessage(1, Kind.ACTIVATION, (torch.zeros(8, 4, 4),)), "expected shape"),
        (TensorMessage(1, Kind.ACTIVATION, (torch.zeros(1, 8, 4, 4).double(),)), "expected dtype"),
        (TensorMessage(1, Kind.ACTIVATION, (torch.zeros(0, 8, 4, 4),)), "expected 1 to 512 samples"),
        (TensorMessage(1, Kind.ACTIVATION, (torch.zeros(513, 8, 4, 4),)), "expected 1 to 512 samples"),
        (TensorMessage(1, Kind.ACTIVATION, ()), "expected 1 tensors"),
        (TensorMessage(-1, Kind.ACTIVATION, (torch.zeros(1, 8, 4, 4),)), "without a sign"),
    ],
)
def test_what_the_terms_do_not_allow_is_never_sent(
    connect: Callable[..., Channel], message: TensorMessage, text: str
) -> None:
    channel = connect(Recorder(), hello())
    with pytest.raises(WireError, match=text):
        channel.call(message)
    assert channel.cost.requests == 0
    assert channel.call(activation(1)).request_id == 1


def test_an_id_that_does_not_rise_is_refused_before_it_is_sent(connect: Callable[..., Channel]) -> None:
    channel = connect(Recorder(), hello())
    channel.call(activation(5))
    with pytest.raises(WireError, match="expected a request id above 5, got 5"):
        channel.call(activation(5))
    assert channel.call(activation(6)).request_id == 6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_end_the_session(connect: Callable[..., Channel], value: float) -> None:
    endpoint = Recorder()
    channel = connect(endpoint, hello())
    message = activation(1)
    message.tensor[0, 0, 0, 0] = value
    with pytest.raises(ProtocolViolation, match="expected finite values"):
        channel.call(message)
    with pytest.raises(WireError):
        channel.call(activation(2))
    assert not endpoint.seen
    assert eventually(lambda: endpoint.closed)


def test_closing_tells_the_endpoint_once(connect: Callable[..., Channel]) -> None:
    endpoint = Recorder()
    channel = connect(endpoint, hello())
    channel.close()
    channel.close()
    assert eventually(lambda: endpoint.closed)
    assert len(endpoint.closed) == 1
    with pytest.raises(WireError, match="closed"):
        channel.call(activation(1))
