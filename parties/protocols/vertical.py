"""Vertical split training (Vepakomma et al. 2018): each owner holds some features of the same samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from parties.messages import Kind, Session, TensorMessage, Terms, WireError
from parties.protocols.protocol import IDS, LABEL, LOSS, Boundary, Protocol, check_labels
from parties.training.branch import Branch
from parties.training.meeting import Meeting
from parties.training.owner import TrainingOwner


class Vertical(Protocol):
    """The server joins activations by sample id, side by side in the order of the owners' names.

    The first owner holds the labels and alone sends them and hears of the loss. The server sees every sample's id.
    """

    name = "vertical"
    turns = False
    least_owners = 2
    pipelines = False
    meets = True

    def __init__(self, owners: Sequence[str], patience_s: float) -> None:
        super().__init__(owners, patience_s)
        self._label_owner = owners[0]
        self._meeting = Meeting(owners, patience_s)

    def terms(self, boundary: Boundary, party: str) -> Terms:
        if party == self._label_owner:
            return Terms(
                requests={Kind.TRAIN_STEP: (boundary.activation, IDS, LABEL)},
                replies={Kind.GRADIENT: (boundary.activation, LOSS)},
            )
        return Terms(
            requests={Kind.TRAIN_STEP: (boundary.activation, IDS)},
            replies={Kind.GRADIENT: (boundary.activation,)},
        )

    def train_batch(self, owner: TrainingOwner, rows: Tensor) -> float:
        crossing = owner.forward(rows)
        labels = (owner.labels[rows],) if owner.has_labels else ()
        reply = owner.submit(Kind.TRAIN_STEP, crossing.wire, owner.ids[rows], *labels).result()
        crossing.backward(reply.tensors[0])
        owner.learner.step()
        return reply.tensors[1].item() if owner.has_labels else 0.0

    def answer(self, branch: Branch, session: Session, message: TensorMessage) -> tuple[Kind, tuple[Tensor, ...]]:
        gradient, loss = self._meeting.bring(
            session.hello.party, message.tensors, lambda brought: self._learn(branch, brought)
        )
        return Kind.GRADIENT, (gradient, loss) if session.hello.party == self._label_owner else (gradient,)

    def evaluate(self, branch: Branch, session: Session, activation: Tensor) -> Tensor:
        def judge(brought: dict[str, tuple[Tensor, ...]]) -> dict[str, Tensor]:
            outputs = branch.infer(_side_by_side([tensors[0] for tensors in brought.values()]))
            return {party: outputs if party == self._label_owner else torch.zeros_like(outputs) for party in brought}

        return self._meeting.bring(session.hello.party, (activation,), judge)

    def dissolve(self, why: str) -> None:
        self._meeting.dissolve(why)

    def _learn(self, branch: Branch, brought: dict[str, tuple[Tensor, ...]]) -> dict[str, tuple[Tensor, Tensor]]:
        ids, labels = brought[self._label_owner][1:]
        for party, tensors in brought.items():
            if not torch.equal(tensors[1], ids):
                raise WireError(
                    f"expected the same sample ids from all owners, got others from {party}; align the data"
                )
        check_labels(labels, branch.classes)
        activations = [tensors[0].requires_grad_() for tensors in brought.values()]
        loss = cross_entropy(branch.layers(_side_by_side(activations)), labels)
        gradients = branch.learn(loss, activations)
        branch.learnt_from(len(labels), torch.tensor([len(labels)]))
        shown = loss.detach().view(1)
        return {party: (gradient, shown) for party, gradient in zip(brought, gradients, strict=True)}


def _side_by_side(activations: list[Tensor]) -> Tensor:
    return torch.cat([activation.flatten(1) for activation in activations], dim=1)
