"""The server's side of split training: an endpoint for TRAINING sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from parties.compute_server import SplitPoint
from parties.messages import Hello, Kind, Role, Session, SessionRefused, TensorMessage, Terms, WireError
from parties.protocols.protocol import COUNT, Boundary, Protocol
from parties.training.branch import Branch
from parties.training.learner import Learner, federated_average
from parties.training.transcript import TrainingTranscript
from split_models.checkpoints import load_tensors, save_tensors

SHARED = "shared"


class TrainingServer:
    """Holds the server's layers, in one branch or in one for each owner, and answers by the protocol.

    Args:
        make_learner: fresh layers with the weights that every branch starts from.
        point: which training this is; an owner that means another is refused.
        folder: for checkpoints; None keeps none, so nothing can be resumed.
        transcript: remembers what crossed; None remembers nothing.
    """

    def __init__(
        self,
        protocol: Protocol,
        boundary: Boundary,
        make_learner: Callable[[], Learner],
        point: SplitPoint,
        folder: Path | None = None,
        transcript: TrainingTranscript | None = None,
    ) -> None:
        self._protocol, self._boundary, self._point, self._transcript = protocol, boundary, point, transcript
        names = protocol.owners if protocol.tail_per_owner else (SHARED,)
        self._branches = {
            name: Branch(make_learner(), boundary.classes, folder and folder / name.replace(" ", "_")) for name in names
        }
        self._averages = folder and folder / "averages"

    def open(self, hello: Hello) -> Terms:
        """Accept an owner that trains by the same protocol, network and cuts.

        Raises:
            SessionRefused: naming the difference.
        """
        if hello.role is not Role.TRAINING:
            raise SessionRefused(f"expected a training session, got {hello.role.name.lower()}; this server trains")
        self._point.refuse_unless_same(hello)
        if hello.party not in self._protocol.owners:
            raise SessionRefused(
                f"expected one of {', '.join(self._protocol.owners)}, got another owner; check the name"
            )
        if hello.sample != self._boundary.activation:
            raise SessionRefused(f"expected activations {self._boundary.activation}, got {hello.sample}; check the cut")
        terms = self._protocol.terms(self._boundary, hello.party)
        requests = {
            Kind.ACTIVATION: (self._boundary.activation,),
            Kind.RESUME: (COUNT,),
            Kind.CHECKPOINT: (COUNT, COUNT),
        }
        replies = {Kind.LOGITS: (self._boundary.output,), Kind.POSITION: (COUNT,)}
        return Terms({**terms.requests, **requests}, {**terms.replies, **replies}, terms.max_batch)

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        """Learn from a message, or go to a position, keep one, or evaluate.

        Raises:
            WireError: what was asked cannot be done; a batch under way is forgotten.
        """
        branch = self._branch(session.hello.party)
        if self._protocol.meets and message.kind not in (Kind.RESUME, Kind.CHECKPOINT):
            return self._answer(branch, session, message)  # sessions wait for each other inside
        with branch.lock:
            return self._answer(branch, session, message)

    def _answer(self, branch: Branch, session: Session, message: TensorMessage) -> TensorMessage:
        kind, tensors = self._dispatch(branch, session, message)
        return TensorMessage(message.request_id, kind, tensors)

    def _dispatch(self, branch: Branch, session: Session, message: TensorMessage) -> tuple[Kind, tuple[Tensor, ...]]:
        if message.kind is Kind.ACTIVATION:
            return Kind.LOGITS, (self._protocol.evaluate(branch, session, message.tensor),)
        if message.kind in (Kind.RESUME, Kind.CHECKPOINT):
            if any(len(tensor) != 1 for tensor in message.tensors):
                raise WireError(f"expected one position, got {len(message.tensors[0])}")
            self._go_to_or_keep(branch, message)
            return Kind.POSITION, (torch.tensor([branch.position]),)
        step = branch.position
        kind, tensors = self._protocol.answer(branch, session, message)
        self._remember(session, step, message, kind, tensors)
        return kind, tensors

    def _go_to_or_keep(self, branch: Branch, message: TensorMessage) -> None:
        position = int(message.tensors[0])
        try:
            if message.kind is Kind.RESUME:
                branch.resume(position)
            else:
                branch.checkpoint(position, end_of_turn=bool(message.tensors[1]))
        except OSError as error:
            raise WireError(
                f"the server cannot keep its checkpoints ({error.strerror}); make room on its disk"
            ) from error

    def _remember(
        self, session: Session, step: int, message: TensorMessage, kind: Kind, answered: Sequence[Tensor]
    ) -> None:
        if self._transcript is None:
            return
        came = {f"came.{message.kind.name.lower()}.{index}": tensor for index, tensor in enumerate(message.tensors)}
        went = {f"went.{kind.name.lower()}.{index}": tensor for index, tensor in enumerate(answered)}
        self._transcript.append(session.hello.party, step, message.request_id, {**came, **went})

    def after(self, session: Session) -> None:
        """Take the optimiser's step while the owner goes back through its own layers."""
        self._branch(session.hello.party).settle()

    def close(self, session: Session) -> None:
        """Forget a batch that its owner will not finish, and let nobody wait for it."""
        branch = self._branch(session.hello.party)
        if self._protocol.meets:
            self._protocol.dissolve(f"{session.hello.party} has left")
            return
        with branch.lock:
            branch.drop_unfinished()

    def _branch(self, party: str) -> Branch:
        return self._branches[party if self._protocol.tail_per_owner else SHARED]

    def weights(self, position: int | None = None) -> dict[str, Tensor]:
        """The layers of the first branch, now or after so many batches; after an average all branches are the same.

        Raises:
            WireError: it cannot be brought there.
        """
        branch = next(iter(self._branches.values()))
        with branch.lock:
            if position is None:
                branch.settle()
            else:
                branch.resume(position)
        return branch.learner.weights()

    def average(self, round_number: int, samples: Mapping[str, int], positions: Mapping[str, int]) -> None:
        """End a round in which every owner had a branch: all go on with the mean of those in `samples`.

        Asked again for the same round, as after an interruption, it gives the same weights.

        Args:
            positions: where each owner's branch has to be for it.

        Raises:
            WireError: a branch cannot be brought there.
        """
        kept = self._averages / f"{round_number:09}.safetensors" if self._averages else None
        if kept and kept.exists():
            averaged = load_tensors(kept)[0]
        else:
            for party, position in positions.items():
                self._branches[party].resume(position)
            names = sorted(samples)
            weights = [self._branches[name].learner.weights() for name in names]
            averaged = federated_average(weights, [samples[name] for name in names])
            if kept:
                save_tensors(kept, averaged)
        for party, position in positions.items():
            branch = self._branches[party]
            branch.resume(position)
            branch.learner.load_weights(averaged)
            branch.checkpoint(position, end_of_turn=True)
        if kept:
            for older in sorted(kept.parent.iterdir())[:-2]:
                older.unlink(missing_ok=True)
