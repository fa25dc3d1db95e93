"""The server's half of split inference: decode activations, remember them, answer with logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from parties.messages import Hello, Kind, Role, Session, SessionRefused, TensorMessage, Terms
from parties.transcript import Transcript
from split_models.tensor_spec import TensorSpec


@dataclass(frozen=True)
class SplitPoint:
    """Which network, cut where: both sides of a session have to agree on it."""

    model: str
    model_digest: str
    cut: str

    def refuse_unless_same(self, hello: Hello) -> None:
        """Compare with what the opener of a session believes.

        Raises:
            SessionRefused: naming the first difference and what to change.
        """
        for what, ours, theirs in (
            ("model", self.model, hello.model),
            ("cut", self.cut, hello.cut),
            ("model digest", self.model_digest, hello.model_digest),
        ):
            if ours != theirs:
                raise SessionRefused(
                    f"expected {what} {ours!r}, got {theirs!r}; both sides have to use parts of the same checkpoint"
                )


class ComputeServer:
    """Runs the tail on what owners send; an endpoint for INFERENCE sessions."""

    def __init__(
        self,
        tail: Callable[[Tensor], Tensor],
        split_point: SplitPoint,
        activation: TensorSpec,
        classes: int,
        transcript: Transcript,
    ) -> None:
        self.transcript = transcript
        self._tail, self._split_point = tail, split_point
        self._terms = Terms(requests={Kind.ACTIVATION: (activation,)}, replies={Kind.LOGITS: (TensorSpec((classes,)),)})
        self._activation = activation

    def open(self, hello: Hello) -> Terms:
        """Accept an owner that holds the matching head.

        Raises:
            SessionRefused: another role, model, cut or activation shape.
        """
        if hello.role is not Role.INFERENCE:
            raise SessionRefused(f"expected an inference session, got {hello.role.name.lower()}; this is a server")
        self._split_point.refuse_unless_same(hello)
        if hello.sample != self._activation:
            raise SessionRefused(f"expected activations {self._activation}, got {hello.sample}; check the cut")
        return self._terms

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        """Remember an activation (N, *shape) and answer with logits (N, classes)."""
        self.transcript.append(session.hello.party, message.request_id, message.tensor)
        with torch.no_grad():
            return TensorMessage(message.request_id, Kind.LOGITS, (self._tail(message.tensor),))

    def close(self, session: Session) -> None:
        """Nothing to give back: the transcript outlives its sessions."""
