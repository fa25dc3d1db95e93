"""Split training in one process, for tests: owners and a server over in-process channels, and single-process twins."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from defenses import make_defense
from parties.channel import Channel
from parties.compute_server import SplitPoint
from parties.in_process import InProcessChannel
from parties.messages import Hello, Role
from parties.protocols import find_protocol
from parties.protocols.protocol import Boundary, Protocol
from parties.training.learner import Learner, Optimiser
from parties.training.owner import PrivateData, Progress, TrainingOwner
from parties.training.server import TrainingServer
from split_models.randomness import generator_for, layers_from
from split_models.split_model import output_spec, split
from split_models.training import batches
from tests.support import CLASSES, image_spec, network, smooth_images

SPEC = image_spec("lenet", 1)
OPTIMISERS = {"adam": Optimiser("adam", 1e-3), "sgd": Optimiser("sgd", 0.05, 0.9)}


def fresh_network() -> nn.Sequential:
    """LeNet, always with the same weights, ready to be trained."""
    # Other tests share the original, and some freeze it.
    return copy.deepcopy(network("lenet", 1)).requires_grad_(True).train()


def private_data(owner: int, count: int = 22) -> PrivateData:
    """An owner's images with labels and ids."""
    images = smooth_images(count, SPEC, seed=owner)
    labels = torch.randint(0, CLASSES, (count,), generator=torch.Generator().manual_seed(owner))
    return PrivateData(images, torch.arange(count), labels)


@dataclass
class Game:
    """A training with one server and several owners; `play_round` is one round of one owner."""

    protocol: str
    cuts: str | tuple[str, str] = "relu1"
    owners: int = 1
    optimiser: Optimiser = OPTIMISERS["adam"]
    defense: str = "none"
    settings: dict[str, float] = field(default_factory=dict)
    micro_batches: int = 1
    folder: Path | None = None
    data: Sequence[PrivateData] = ()
    rounds: int = 2
    wire_dtype: str = "float32"

    def __post_init__(self) -> None:
        self.names = [f"owner-{number}" for number in range(1, self.owners + 1)]
        self.point = SplitPoint("lenet", "d" * 16, f"{self.protocol} at {self.cuts}")
        self.data = self.data or [private_data(number) for number in range(self.owners)]
        parts = split(fresh_network(), self.cuts)
        activation = output_spec(parts.head, SPEC)
        middle = parts.parts[1]
        self.boundary = Boundary(activation, output_spec(middle, activation), CLASSES)
        self.server = self.new_server()
        self.players = [self.new_owner(number) for number in range(self.owners)]

    def _protocol(self) -> Protocol:
        return find_protocol(self.protocol)(self.names, 5.0)

    def new_server(self) -> TrainingServer:
        """The server as it starts."""

        def learner() -> Learner:
            return Learner({"server": self.server_layers()}, self.optimiser)

        return TrainingServer(self._protocol(), self.boundary, learner, self.point, self.folder)

    def server_layers(self) -> nn.Module:
        """What the server trains, with the weights it starts from."""
        if self.protocol == "vertical":
            with layers_from(generator_for(0, "joint")):
                return nn.Linear(self.owners * self.boundary.activation.elements, CLASSES)
        return split(fresh_network(), self.cuts).parts[1]

    def new_owner(self, number: int) -> TrainingOwner:
        """An owner as it starts."""
        parts = split(fresh_network(), self.cuts)
        guard = make_defense(self.defense, dict(self.settings))
        guard.attach(SPEC, self.boundary.activation)
        own: dict[str, nn.Module] = {"head": parts.head, "defense": guard}
        if len(parts.parts) == 3:
            own["tail"] = parts.tail
        return TrainingOwner(
            self.names[number],
            self._protocol().train_batch,
            Learner(own, self.optimiser),
            guard,
            self.data[number],
            batch_size=8,
            micro_batches=self.micro_batches,
            seed=number,
            order_seed=0 if self.protocol == "vertical" else None,
            rounds=self.rounds,
        )

    def channel(self, number: int) -> Channel:
        """A new session of one owner."""
        point = self.point
        hello = Hello(
            self.names[number],
            Role.TRAINING,
            point.model,
            point.model_digest,
            point.cut,
            self.boundary.activation,
            self.wire_dtype,
        )
        return InProcessChannel(self.server, hello)

    def play_round(self, number: int, round_number: int, position: int) -> Progress:
        """One owner's turn from its beginning; returns how it ended."""
        owner, channel = self.players[number], self.channel(number)
        owner.connect(channel)
        owner.resume(position)
        *_, progress = owner.play(Progress(round_number, position=position))
        owner.checkpoint(progress)
        channel.close()
        return progress

    def play_at_once(self, round_number: int, position: int) -> None:
        """A round of all owners that meet in every step."""
        with ThreadPoolExecutor(self.owners) as pool:
            turns = [pool.submit(self.play_round, number, round_number, position) for number in range(self.owners)]
        for turn in turns:
            turn.result()

    def server_weights(self, name: str = "shared") -> dict[str, Tensor]:
        """The server's layers by their names in the network."""
        branch = self.server._branches[name]
        branch.settle()
        return {key.removeprefix("server."): value for key, value in branch.learner.weights().items()}

    def owner_weights(self, number: int) -> dict[str, Tensor]:
        """An owner's layers by their names in the network."""
        weights = self.players[number].learner.weights()
        return {key.partition(".")[2]: value for key, value in weights.items() if not key.startswith("defense")}

    def whole(self, number: int = 0, name: str = "shared") -> dict[str, Tensor]:
        """The network that an owner and the server have together."""
        return {**self.owner_weights(number), **self.server_weights(name)}


def rows_of_round(data: PrivateData, seed: int, round_number: int, batch_size: int = 8) -> list[Tensor]:
    """The batches of one round in their order."""
    return list(batches(len(data.ids), batch_size, generator_for(seed, "order", round_number)))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
