"""Vanilla split training (Gupta and Raskar 2018): labels go to the server, the gradient at the cut comes back."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from parties.messages import Kind, Session, TensorMessage, Terms
from parties.protocols.protocol import COUNT, LABEL, LOSS, Boundary, Protocol, check_labels, count_of
from parties.training.branch import Branch
from parties.training.owner import TrainingOwner


class Vanilla(Protocol):
    """One owner; one exchange a batch, or one for each of its micro-batches."""

    name = "vanilla"
    most_owners: ClassVar[int | None] = 1

    def terms(self, boundary: Boundary, party: str) -> Terms:
        return Terms(
            requests={Kind.TRAIN_STEP: (boundary.activation, LABEL, COUNT)},
            replies={Kind.GRADIENT: (boundary.activation, LOSS)},
        )

    def train_batch(self, owner: TrainingOwner, rows: Tensor) -> float:
        whole, sent = count_of(rows), []
        for part in owner.micro_batches(rows):
            crossing = owner.forward(part)
            labels = owner.labels[part]
            sent.append((crossing, owner.submit(Kind.TRAIN_STEP, crossing.wire, labels, whole)))
        loss = 0.0
        for crossing, reply in sent:
            gradient, share = reply.result().tensors
            crossing.backward(gradient)
            loss += share.item()
        owner.learner.step()
        return loss

    def answer(self, branch: Branch, session: Session, message: TensorMessage) -> tuple[Kind, tuple[Tensor, ...]]:
        activation, labels, whole = message.tensors
        check_labels(labels, branch.classes)
        share = branch.share(len(labels), whole)
        activation.requires_grad_()
        loss = cross_entropy(branch.layers(activation), labels) * share
        (gradient,) = branch.learn(loss, [activation])
        branch.learnt_from(len(labels), whole)
        return Kind.GRADIENT, (gradient, loss.detach().view(1))
