"""All that may cross a boundary between parties, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

from split_models.tensor_spec import TensorSpec

PROTOCOL_VERSION = 2
"""Raised whenever a frame or a handshake field changes its meaning."""


class Role(IntEnum):
    """What a session is for."""

    INFERENCE = 1  # an owner sends activations, a compute server answers with logits
    QUERY = 2  # an outsider sends inputs, an owner answers with protected activations
    TRAINING = 3  # activations and labels up, gradients down
    PREDICTION = 20  # a customer sends inputs, a model host answers with outputs


class Kind(IntEnum):
    """What the tensors of one message are, in this order."""

    ACTIVATION = 1  # (activation,)
    LOGITS = 2  # (logits,)
    INPUT = 3  # (input,)
    TRAIN_STEP = 4  # (activation, labels, …): a protocol may drop the labels and add to it
    GRADIENT = 5  # (gradient at the cut, loss); without the loss where the labels are not the peer's
    FORWARD = 6  # (activation, samples in the whole batch): the first exchange of a U-shape
    FEATURES = 7  # (what the server's layers made of it,)
    BACKWARD = 8  # (gradient at the second cut,): the second exchange of a U-shape
    RESUME = 9  # (steps,): the server's layers have to be as they were after so many
    CHECKPOINT = 10  # (steps, 1 at the end of a turn): keep the server's layers as they are now
    POSITION = 11  # (steps,)
    LABEL = 20  # (class,)
    SCORES = 21  # (scores,)
    VALUE = 22  # (value,)
    EXPLAIN = 23  # (input, class)
    EXPLANATION = 24  # (explanation,)
    MODEL_WANTED = 25  # (anything,): a message has a tensor
    MODEL = 26  # (bytes of a checkpoint,)


class SessionRefused(Exception):
    """The other side will not open this session; the message says what to change."""


class WireError(Exception):
    """Something went wrong between two parties; the message names the peer and says what to do."""


class ProtocolViolation(WireError):
    """A peer sent something that its session does not allow; the session is over."""


class QueryBudgetExhausted(WireError):
    """The owner has answered as many queries as it is willing to."""


@dataclass(frozen=True)
class Hello:
    """How a session opens: who asks, for what, and which network both sides believe they share."""

    party: str
    role: Role
    model: str
    model_digest: str
    cut: str
    sample: TensorSpec  # one sample of what the opener will send first
    wire_dtype: str = "float32"
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class Terms:
    """What an accepted session may carry: for each kind of message, its tensors' specs."""

    requests: dict[Kind, tuple[TensorSpec, ...]]
    replies: dict[Kind, tuple[TensorSpec, ...]]
    max_batch: int = 4096


class TensorMessage(NamedTuple):
    """Tensors under one request id; a reply repeats the id of its request."""

    request_id: int
    kind: Kind
    tensors: tuple[Tensor, ...]

    @property
    def tensor(self) -> Tensor:
        """The only tensor of a message that has one."""
        (tensor,) = self.tensors
        return tensor


@dataclass(frozen=True)
class Session:
    """An open session as the answering side sees it."""

    id: int
    hello: Hello
    terms: Terms
