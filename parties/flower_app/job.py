"""What the coordinator tells owners in every message, and what an owner makes of it; no flwr here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from defenses import make_defense
from parties.compute_server import SplitPoint
from parties.messages import Hello, Role, WireError
from parties.protocols import find_protocol
from parties.training.learner import Learner, Optimiser
from parties.training.owner import PrivateData, TrainingOwner
from parties.wire.client import GrpcChannel
from parties.wire.limits import Limits
from parties.wire.security import ClientSecurity
from split_models.checkpoints import load_tensors
from split_models.randomness import seed_for
from split_models.split_model import output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.zoo import build


def owner_name(partition: int) -> str:
    """What the split server calls the owner of a partition."""
    return f"owner-{partition:06}"


@dataclass(frozen=True)
class Job:
    """A training as owners have to know it; travels as JSON in Flower's configuration."""

    server: str  # host:port of the split server
    point: dict[str, str]  # model, digest and cut, as the split server compares them
    cut: str
    protocol: str
    input_shape: tuple[int, ...]
    classes: int
    optimiser: dict[str, Any]
    batch_size: int
    defense: str
    settings: dict[str, Any]
    wire_dtype: str
    seed: int
    rounds: int

    def to_json(self) -> str:
        """As one string."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`.

        Raises:
            WireError: it is none; the coordinator is of another version.
        """
        try:
            fields = json.loads(text)
            return cls(**{**fields, "input_shape": tuple(fields["input_shape"])})
        except (TypeError, ValueError, KeyError) as error:
            raise WireError(
                f"expected a training job, got something else ({error}); install the same version"
            ) from error


class FederatedOwner:
    """One owner for the length of one message: nothing in memory outlives it."""

    def __init__(self, name: str, job: Job, data: Path) -> None:
        inputs = TensorSpec(job.input_shape, low=0.0, high=1.0)
        head = split(build(job.point["model"], inputs, job.classes), job.cut).head
        activation = output_spec(head, inputs)
        guard = make_defense(job.defense, job.settings)
        guard.attach(inputs, activation)
        self._held, _ = load_tensors(data)
        parts: dict[str, nn.Module] = {"head": head, "defense": guard}
        self.learner = Learner(parts, Optimiser(**job.optimiser))
        self.owner = TrainingOwner(
            name,
            find_protocol(job.protocol)([name], 60.0).train_batch,
            self.learner,
            guard,
            PrivateData(self._held["images"], self._held["ids"], self._held["labels"]),
            batch_size=job.batch_size,
            micro_batches=1,
            seed=seed_for(job.seed, name),
            rounds=job.rounds,
        )
        point = SplitPoint(**job.point)
        self._hello = Hello(name, Role.TRAINING, point.model, point.model_digest, point.cut, activation, job.wire_dtype)
        self._server = job.server

    @property
    def samples(self) -> int:
        """How many images it trains on."""
        return len(self._held["ids"])

    def connect(self, security: ClientSecurity | None) -> GrpcChannel:
        """Open a session with the split server.

        Raises:
            SessionRefused, WireError: it does not accept this owner, or is not there.
        """
        channel = GrpcChannel(self._server, self._hello, limits=Limits(request_timeout_s=600.0), security=security)
        self.owner.connect(channel)
        return channel

    def right(self) -> tuple[int, int]:
        """How many of its test images the whole network gets right, and how many there are."""
        predicted = self.owner.predict(self._held["test_images"]).argmax(1)
        return int((predicted == self._held["test_labels"]).sum()), len(predicted)

    def head_weights(self) -> dict[str, Tensor]:
        """What is averaged."""
        return self.learner.weights("head")
