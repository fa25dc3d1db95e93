"""Endpoints and messages that the wire's tests talk to."""

from __future__ import annotations

import threading
import time

import torch
from torch import Tensor

from parties.messages import (
    Hello,
    Kind,
    QueryBudgetExhausted,
    Role,
    Session,
    SessionRefused,
    TensorMessage,
    Terms,
    WireError,
)
from split_models.tensor_spec import TensorSpec

ACTIVATION = TensorSpec((8, 4, 4))
LOGITS = TensorSpec((10,))
LABELS = TensorSpec((), "int64")
LOSS = TensorSpec(())


def hello(
    role: Role = Role.INFERENCE, party: str = "owner-1", wire_dtype: str = "float32", sample: TensorSpec = ACTIVATION
) -> Hello:
    return Hello(party, role, "tiny", "0" * 64, "layer1", sample, wire_dtype)


def activation(request_id: int, batch: int = 2, seed: int = 0, spec: TensorSpec = ACTIVATION) -> TensorMessage:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(batch, *spec.shape, generator=generator)
    return TensorMessage(request_id, Kind.ACTIVATION, (tensor,))


class Recorder:
    """Answers activations with ten fixed projections of them, and remembers what it saw."""

    def __init__(self, sample: TensorSpec = ACTIVATION) -> None:
        self.sample = sample
        self.seen: list[tuple[int, Tensor]] = []
        self.opened: list[Hello] = []
        self.closed: list[int] = []
        self.lock = threading.Lock()
        self.weights = torch.randn(sample.elements, 10, generator=torch.Generator().manual_seed(1))

    def open(self, hello: Hello) -> Terms:
        if hello.sample != self.sample:
            raise SessionRefused(f"expected activations of shape {self.sample.shape}, got {hello.sample.shape}")
        with self.lock:
            self.opened.append(hello)
        if hello.role is Role.TRAINING:
            return Terms({Kind.TRAIN_STEP: (self.sample, LABELS)}, {Kind.GRADIENT: (self.sample, LOSS)}, 512)
        return Terms({Kind.ACTIVATION: (self.sample,)}, {Kind.LOGITS: (LOGITS,)}, 512)

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        tensor = message.tensors[0]
        with self.lock:
            self.seen.append((message.request_id, tensor.clone()))
        if message.kind is Kind.TRAIN_STEP:
            return TensorMessage(message.request_id, Kind.GRADIENT, (tensor * 2, tensor.mean().view(1)))
        return TensorMessage(message.request_id, Kind.LOGITS, (tensor.flatten(1) @ self.weights,))

    def close(self, session: Session) -> None:
        with self.lock:
            self.closed.append(session.id)


class Moody(Recorder):
    """Fails in the way that the number of samples asks for."""

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        batch = message.tensors[0].shape[0]
        if batch == 3:
            raise QueryBudgetExhausted("3 queries were granted and all are used")
        if batch == 4:
            raise WireError("the batch cannot be answered; send another")
        if batch == 5:
            raise RuntimeError("/secret/path of the server")
        if batch == 6:
            return TensorMessage(message.request_id, Kind.LOGITS, (torch.zeros(1, 11),))
        if batch == 7:
            time.sleep(3)
        return super().answer(session, message)


def eventually(condition: object, within_s: float = 5.0) -> bool:
    """Whether `condition` (a callable) becomes true in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False
