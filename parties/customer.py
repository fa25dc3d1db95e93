"""The asking end of a prediction API."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from parties.channel import Channel
from parties.hosted_model import HostedModel, load_hosted
from parties.messages import Hello, Kind, ProtocolViolation, Role, TensorMessage, WireError
from split_models.answers import Answers
from split_models.tensor_spec import TensorSpec

FORMS = {Kind.LABEL: Answers.LABEL, Kind.SCORES: Answers.SCORES, Kind.VALUE: Answers.VALUE}


def prediction_hello(customer: str, model: str, input_spec: TensorSpec) -> Hello:
    """How a customer opens a session with the host of a model."""
    return Hello(customer, Role.PREDICTION, model, "", "", input_spec)


class Customer:
    """One customer's line to a host, over either transport.

    Args:
        channel: an open PREDICTION session; its terms say what the host answers with.

    Raises:
        ProtocolViolation: the host's terms are none of a prediction API.
    """

    def __init__(self, channel: Channel) -> None:
        replies = channel.terms.replies
        forms = [kind for kind in replies if kind in FORMS]
        if len(forms) != 1:
            raise ProtocolViolation("expected a host that answers with labels, scores or values; check its address")
        self._channel, self._form = channel, forms[0]
        self._ids = itertools.count(1)
        self.answers = FORMS[self._form]
        self.max_batch = channel.terms.max_batch
        self.explains = Kind.EXPLANATION in replies

    def predict(self, inputs: Tensor) -> Tensor:
        """Labels (N,), scores (N, classes) or values (N,) of at most `max_batch` inputs.

        Raises:
            QueryBudgetExhausted: fewer inputs are left than were asked about.
            WireError: the host is gone, or has no answer to such inputs.
        """
        return self._ask(Kind.INPUT, _finite(inputs))

    def explain(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The host's explanation of each label (N,) for its input: (N, *shape).

        Raises:
            QueryBudgetExhausted: fewer inputs are left than were asked about.
            WireError: the host is gone, explains nothing, or has no such class.
        """
        return self._ask(Kind.EXPLAIN, _finite(inputs), labels)

    def model(self) -> HostedModel:
        """The model itself, from a host that hands it out; the file is checked like any other.

        Raises:
            WireError: the host keeps it to itself.
            CheckpointError: what came is no checkpoint.
        """
        content = self._ask(Kind.MODEL_WANTED, torch.zeros(1))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(content.numpy().tobytes())
            return load_hosted(path)

    def _ask(self, kind: Kind, *tensors: Tensor) -> Tensor:
        reply = self._channel.call(TensorMessage(next(self._ids), kind, tensors))
        if len(reply.tensor) != len(tensors[0]):
            raise WireError(f"expected an answer for each of {len(tensors[0])} inputs, got {len(reply.tensor)}")
        return reply.tensor

    def close(self) -> None:
        """End the session; calling it twice is harmless."""
        self._channel.close()


def _finite(inputs: Tensor) -> Tensor:
    """The inputs, if a host takes such: sent to it, a NaN would end the session."""
    if not torch.isfinite(inputs).all():
        raise WireError("inputs: expected finite values, got NaN or infinity; ask about others")
    return inputs
