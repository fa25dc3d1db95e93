"""U-shaped split training (Vepakomma et al. 2018): labels and the last layers stay with the owner."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from parties.messages import Kind, Session, TensorMessage, Terms
from parties.protocols.protocol import COUNT, Boundary, Heads, Protocol, count_of
from parties.training.backward import input_gradients
from parties.training.branch import Branch
from parties.training.owner import TrainingOwner


class UShaped(Protocol):
    """Two exchanges a batch: activation up and features down, their gradient up and the first cut's gradient down.

    Owners take turns; head and tail are passed on together.
    """

    name = "u_shaped"
    cuts = 2
    labels_to_server = False
    heads = Heads.PASSED_ON

    def terms(self, boundary: Boundary, party: str) -> Terms:
        return Terms(
            requests={Kind.FORWARD: (boundary.activation, COUNT), Kind.BACKWARD: (boundary.output,)},
            replies={Kind.FEATURES: (boundary.output,), Kind.GRADIENT: (boundary.activation,)},
        )

    def train_batch(self, owner: TrainingOwner, rows: Tensor) -> float:
        whole, sent = count_of(rows), []
        for part in owner.micro_batches(rows):
            crossing = owner.forward(part)
            sent.append((part, crossing, owner.submit(Kind.FORWARD, crossing.wire, whole)))
        loss, returning = 0.0, []
        for part, crossing, forward in sent:
            features = forward.result().tensor.requires_grad_()
            mean = cross_entropy(owner.tail(features), owner.labels[part]) * (len(part) / len(rows))
            (gradient,), afterwards = input_gradients(mean, [features])
            returning.append((crossing, owner.submit(Kind.BACKWARD, gradient)))
            afterwards()
            loss += mean.item()
        for crossing, backward in returning:
            crossing.backward(backward.result().tensor)
        owner.learner.step()
        return loss

    def answer(self, branch: Branch, session: Session, message: TensorMessage) -> tuple[Kind, tuple[Tensor, ...]]:
        if message.kind is Kind.FORWARD:
            activation, whole = message.tensors
            branch.share(len(activation), whole)
            features = branch.layers(activation.requires_grad_())
            branch.hold(activation, features, whole)
            return Kind.FEATURES, (features.detach(),)
        activation, features, whole = branch.held(len(message.tensor))
        gradients = branch.learn(features, [activation], message.tensor)
        branch.learnt_from(len(activation), whole)
        return Kind.GRADIENT, gradients
