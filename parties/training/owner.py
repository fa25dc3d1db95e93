"""The owner's side of split training: private data, first layers, defense, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from defenses.defense import Defense, TrainingPlan
from parties.channel import Channel, Reply
from parties.messages import Kind, TensorMessage, WireError
from parties.training.learner import Learner
from split_models.randomness import generator_for
from split_models.training import batches


@dataclass(frozen=True)
class Progress:
    """How far an owner is in a round: what a checkpoint has to say beside the weights."""

    round: int
    batch: int = 0  # played in this round
    position: int = 0  # batches that the server's layers have learnt from
    loss_sum: float = 0.0  # over samples of this round
    samples: int = 0
    bytes_up: int = 0  # in this round, of work that was kept
    bytes_down: int = 0
    seconds: float = 0.0

    @property
    def mean_loss(self) -> float:
        """Over the samples of this round so far."""
        return self.loss_sum / max(self.samples, 1)


@dataclass(frozen=True)
class PrivateData:
    """What an owner holds: images (N, C, H, W), ids (N,), and labels (N,) unless they are another owner's."""

    images: Tensor
    ids: Tensor
    labels: Tensor | None = None

    def by_id(self) -> PrivateData:
        """The same samples in the order of their ids, in which owners of the same samples join them.

        Raises:
            WireError: an id that occurs twice.
        """
        ids, order = self.ids.sort()
        if (ids[1:] == ids[:-1]).any():
            raise WireError("expected every sample id once, got some twice; remove the double samples")
        return PrivateData(self.images[order], ids, None if self.labels is None else self.labels[order])


class Crossing:
    """One forward pass up to the wire, with what it takes to come back."""

    def __init__(self, protected: Tensor, added: Tensor | None) -> None:
        self._protected, self._added = protected, added
        self.wire = protected.detach()

    def backward(self, gradient: Tensor) -> None:
        """Gather the owner's gradients, from the one at the cut (n, *activation) and from the defense's loss."""
        roots, gradients = [], []
        if self._protected.requires_grad:  # not where the first layers have nothing to learn
            roots, gradients = [self._protected], [gradient]
        if self._added is not None and self._added.requires_grad:
            roots, gradients = [*roots, self._added], [*gradients, torch.ones_like(self._added)]
        if roots:
            torch.autograd.backward(roots, gradients)


class TrainingOwner:
    """Plays batches of its data by a protocol.

    Args:
        train_batch: the protocol's, which plays the rows (n,) of one batch and returns its mean loss.
        learner: parts `head`, in a U-shape `tail`, and `defense`, which is the one below.
        defense: acts on every activation before the wire and adds its loss in training.
        data: stays in this object.
        seed: of this owner alone: the order of its data and its defense's randomness follow from it and the round.
        rounds: how many there will be, for defenses whose strength changes in the course of training.
    """

    def __init__(
        self,
        name: str,
        train_batch: Callable[[TrainingOwner, Tensor], float],
        learner: Learner,
        defense: Defense,
        data: PrivateData,
        *,
        batch_size: int,
        micro_batches: int,
        seed: int,
        order_seed: int | None = None,
        rounds: int = 1,
    ) -> None:
        self.name, self.learner, self._train_batch, self._defense = name, learner, train_batch, defense
        self._data, self._batch_size, self._micro_batches, self._seed = data, batch_size, micro_batches, seed
        self._order_seed = seed if order_seed is None else order_seed  # owners of the same samples share it
        self._plan = TrainingPlan(len(data.ids), batch_size, rounds)
        self.generator = generator_for(seed, "defense")
        self._channel: Channel | None = None
        self._request = 0

    @property
    def labels(self) -> Tensor:
        """Labels (N,) of all its samples."""
        assert self._data.labels is not None
        return self._data.labels

    @property
    def has_labels(self) -> bool:
        """Whether the labels are this owner's."""
        return self._data.labels is not None

    @property
    def ids(self) -> Tensor:
        """Ids (N,) of all its samples."""
        return self._data.ids

    @property
    def tail(self) -> nn.Module:
        """The last layers, of a U-shape."""
        return self.learner.parts["tail"]

    @property
    def batches_a_round(self) -> int:
        """One pass over its data."""
        return -(-len(self._data.ids) // self._batch_size)

    def micro_batches(self, rows: Tensor) -> tuple[Tensor, ...]:
        """A batch's rows in as many parts as travel separately."""
        return tuple(rows.tensor_split(min(self._micro_batches, len(rows))))

    def forward(self, rows: Tensor) -> Crossing:
        """Send rows (n,) of the data through defense and head; in training too, for the server sees every batch."""
        images, defense = self._data.images[rows], self._defense
        activations = self.learner.parts["head"](defense.protect_inputs(images, self.generator))
        added = None
        if defense.trains:
            labels = self._labels_or_none(rows)
            added = defense.training_loss(images, activations, labels, self.generator) * (len(rows) / self._in_batch)
        return Crossing(defense.protect(activations, self.generator), added)

    def _labels_or_none(self, rows: Tensor) -> Tensor:
        return self.labels[rows] if self.has_labels else rows.new_empty(0)

    def submit(self, kind: Kind, *tensors: Tensor) -> Reply:
        """Send one message of the session and go on."""
        assert self._channel is not None
        self._request += 1
        return self._channel.submit(TensorMessage(self._request, kind, tensors))

    def connect(self, channel: Channel) -> None:
        """Use a newly opened session from now on."""
        self._channel, self._request = channel, 0

    def resume(self, position: int) -> None:
        """Have the server's layers be as they were after so many batches.

        Raises:
            WireError: the server cannot go back there.
        """
        self.submit(Kind.RESUME, torch.tensor([position])).result()

    def checkpoint(self, progress: Progress) -> None:
        """Have the server keep its layers; the owner's own have to be kept after that, never before.

        Raises:
            WireError: the server is elsewhere, or its disk is full.
        """
        ended = int(progress.batch == self.batches_a_round)
        self.submit(Kind.CHECKPOINT, torch.tensor([progress.position]), torch.tensor([ended])).result()

    def play(self, progress: Progress) -> Iterator[Progress]:
        """Play what is left of a round; yields after each batch.

        Raises:
            WireError: the server is gone, or refused.
        """
        if progress.batch == 0:
            self.generator = generator_for(self._seed, "defense", progress.round)
        order = generator_for(self._order_seed, "order", progress.round)
        rows_by_batch = list(batches(len(self._data.ids), self._batch_size, order))
        with self._defense.around_training(self.learner.parts["head"], self._plan, self.generator) as ended_batch:
            for _ in range(progress.round * self.batches_a_round + progress.batch):
                ended_batch()  # a defense is where it was, whatever process this is
            for rows in rows_by_batch[progress.batch :]:
                self._in_batch = len(rows)
                loss = self._train_batch(self, rows)
                ended_batch()
                progress = _one_more(progress, loss, len(rows))
                yield progress

    def predict(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Logits (N, classes) for images through defense and wire, from which nothing is learnt."""
        head, outputs = self.learner.parts["head"], []
        self.learner.parts.eval()
        generator = generator_for(self._seed, "evaluation")
        with torch.no_grad():
            for batch in images.split(batch_size):
                activations = head(self._defense.protect_inputs(batch, generator))
                protected = self._defense.protect(activations, generator)
                output = self.submit(Kind.ACTIVATION, protected).result().tensor
                outputs.append(self.tail(output) if "tail" in self.learner.parts else output)
        self.learner.parts.train()
        return torch.cat(outputs)


def _one_more(progress: Progress, loss: float, samples: int) -> Progress:
    return replace(
        progress,
        batch=progress.batch + 1,
        position=progress.position + 1,
        loss_sum=progress.loss_sum + loss * samples,
        samples=progress.samples + samples,
    )
