"""Whole split inference and training steps: what share of them is carrying."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.wire.contender import Contender, Setting
from benchmarks.wire.ours import open_channel, start_server
from parties.messages import Hello, Kind, Role, Session, TensorMessage, Terms
from split_models.tensor_spec import TensorSpec

CUT = TensorSpec((64, 32, 32))
LOGITS, LABELS, LOSS = TensorSpec((10,)), TensorSpec((), "int64"), TensorSpec(())

Result = TypeVar("Result")


def make_head() -> nn.Module:
    """One convolution: images of 3*32*32 to activations of 64*32*32."""
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU())


def make_tail() -> nn.Module:
    """A small tail, so that carrying has a share worth measuring."""
    return nn.Sequential(
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


class Stopwatch:
    """Adds up what is spent computing."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, work: Callable[[], Result]) -> Result:
        begun = time.perf_counter()
        result = work()
        self.seconds += time.perf_counter() - begun
        return result


class Tail:
    """The server's end: logits, or one step and the gradient at the cut."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.watch, self._tail = Stopwatch(), make_tail()
        self._optimiser = torch.optim.SGD(self._tail.parameters(), lr=1e-3)

    def open(self, hello: Hello) -> Terms:
        if hello.role is Role.TRAINING:
            return Terms({Kind.TRAIN_STEP: (CUT, LABELS)}, {Kind.GRADIENT: (CUT, LOSS)})
        return Terms({Kind.ACTIVATION: (CUT,)}, {Kind.LOGITS: (LOGITS,)})

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        if message.kind is Kind.TRAIN_STEP:
            tensors = self.watch(lambda: self._step(*message.tensors))
            return TensorMessage(message.request_id, Kind.GRADIENT, tensors)
        logits = self.watch(lambda: self._infer(message.tensor))
        return TensorMessage(message.request_id, Kind.LOGITS, (logits,))

    @torch.no_grad()
    def _infer(self, activation: Tensor) -> Tensor:
        logits: Tensor = self._tail(activation)
        return logits

    def _step(self, activation: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        activation.requires_grad_()
        loss = cross_entropy(self._tail(activation), labels)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return activation.grad if activation.grad is not None else activation, loss.detach().view(1)

    def close(self, session: Session) -> None:
        pass


class InferenceStep(Contender):
    """Images through the head, over the wire, through the tail; logits back."""

    role = Role.INFERENCE

    def serve(self, setting: Setting) -> str:
        self._tail = Tail()
        self._server = start_server(self._tail, setting)
        return self._server.address

    def connect(self, address: str, setting: Setting) -> None:
        torch.manual_seed(0)
        self._watch, self._head, self._id = Stopwatch(), make_head(), 0
        self._optimiser = torch.optim.SGD(self._head.parameters(), lr=1e-3)
        self._images = torch.rand(setting.size, 3, 32, 32)
        self._labels = torch.zeros(setting.size, dtype=torch.int64)
        self._channel = open_channel(address, setting, CUT, self.role)

    def disconnect(self) -> None:
        self._channel.close()

    def exchange(self, count: int, in_flight: int) -> None:
        for _ in range(count):
            self._id += 1
            self._step()

    def _step(self) -> None:
        with torch.no_grad():
            activation = self._watch(lambda: self._head(self._images))
        self._channel.call(TensorMessage(self._id, Kind.ACTIVATION, (activation,)))

    def computed_s(self) -> float:
        return self._tail.watch.seconds if hasattr(self, "_tail") else self._watch.seconds


class TrainingStep(InferenceStep):
    """Activations and labels up, the gradient at the cut back, and a step on both ends."""

    role = Role.TRAINING

    def _step(self) -> None:
        activation = self._watch(lambda: self._head(self._images))
        message = TensorMessage(self._id, Kind.TRAIN_STEP, (activation, self._labels))
        gradient, _ = self._channel.call(message).tensors
        self._watch(lambda: self._update(activation, gradient))

    def _update(self, activation: Tensor, gradient: Tensor) -> None:
        self._optimiser.zero_grad()
        activation.backward(gradient)
        self._optimiser.step()
