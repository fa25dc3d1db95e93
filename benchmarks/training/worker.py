"""One process of the benchmark: a server, an owner, or the whole network alone; it obeys its standard input."""

from __future__ import annotations

import sys

from parties.tuning import tune_process

if not sys.argv[-1].endswith("untuned"):
    tune_process(processes=1)  # takes effect only before torch and grpc are loaded by the imports below

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from defenses import make_defense
from parties.compute_server import SplitPoint
from parties.messages import Hello, Role, WireError
from parties.processes import obey
from parties.protocols import find_protocol
from parties.protocols.protocol import Boundary
from parties.training.learner import Learner, Optimiser
from parties.training.owner import PrivateData, Progress, TrainingOwner
from parties.training.server import TrainingServer
from parties.wire.client import GrpcChannel
from parties.wire.server import GrpcServer
from split_models.randomness import generator_for, layers_from
from split_models.split_model import output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.training import batches
from split_models.zoo import build

SHAPES = {"lenet": (1, 28, 28), "sixconv": (3, 32, 32)}
CUTS = {"lenet": "pool1", "sixconv": "pool1"}
CLASSES = 10
POINT = SplitPoint("benchmark", "b", "benchmark")


def network(name: str) -> nn.Module:
    """The same fresh network in every process."""
    with layers_from(generator_for(0, "benchmark")):
        return build(name, spec(name), CLASSES).train()


def spec(name: str) -> TensorSpec:
    """One image."""
    return TensorSpec(SHAPES[name], low=0.0, high=1.0)


def boundary(name: str) -> Boundary:
    """What crosses."""
    return Boundary(output_spec(split(network(name), CUTS[name]).head, spec(name)), TensorSpec((CLASSES,)), CLASSES)


def images(name: str, count: int) -> PrivateData:
    """So many images of noise, which take as long as pictures do."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, *SHAPES[name], generator=generator)
    return PrivateData(pixels, torch.arange(count), torch.arange(count) % CLASSES)


class Alone:
    """Monolithic training."""

    def begin(self, name: str, batch: int, steps: int, threads: int) -> None:
        """Build the network."""
        torch.set_num_threads(threads)
        self._model, self._data, self._batch = network(name), images(name, batch * steps), batch
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=1e-3)
        self._order = torch.Generator().manual_seed(0)

    def round(self) -> float:
        """Seconds of one pass over the data."""
        begun = time.perf_counter()
        data, labels = self._data.images, self._data.labels
        assert labels is not None
        for rows in batches(len(data), self._batch, self._order):
            cross_entropy(self._model(data[rows]), labels[rows]).backward()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begun


class Server:
    """The server's layers behind gRPC."""

    def begin(self, name: str, protocol: str, owners: list[str], threads: int) -> str:
        """Start to serve; the address."""
        torch.set_num_threads(threads)

        def learner() -> Learner:
            return Learner({"server": split(network(name), CUTS[name]).tail}, Optimiser())

        training = TrainingServer(find_protocol(protocol)(owners, 60.0), boundary(name), learner, POINT)
        self._server = GrpcServer(training)
        self._server.start()
        return self._server.address


class Owner:
    """One owner."""

    def __init__(self, name: str) -> None:
        self._name, self._rounds = name, 0

    def begin(
        self,
        name: str,
        protocol: str,
        address: str,
        batch: int,
        steps: int,
        micro_batches: int,
        wire_dtype: str,
        threads: int,
    ) -> None:
        """Open a session."""
        torch.set_num_threads(threads)
        guard = make_defense("none")
        self._owner = TrainingOwner(
            self._name,
            find_protocol(protocol)([self._name], 60.0).train_batch,
            Learner({"head": split(network(name), CUTS[name]).head, "defense": guard}, Optimiser()),
            guard,
            images(name, batch * steps),
            batch_size=batch,
            micro_batches=micro_batches,
            seed=0,
        )
        hello = Hello(
            self._name,
            Role.TRAINING,
            POINT.model,
            POINT.model_digest,
            POINT.cut,
            boundary(name).activation,
            wire_dtype,
        )
        self._owner.connect(GrpcChannel(address, hello))

    def round(self) -> float:
        """Seconds of one pass over the data."""
        begun = time.perf_counter()
        for _ in self._owner.play(Progress(self._rounds)):
            pass
        self._rounds += 1
        return time.perf_counter() - begun


def main() -> None:
    """Be what the command line names."""
    kind, name = sys.argv[1:3]

    def methods(report: Callable[[float], None]) -> Mapping[str, Callable[..., Any]]:
        if name.startswith("server"):
            return {"begin": Server().begin}
        worker: Alone | Owner = Alone() if name.startswith("alone") else Owner(name)
        return {"begin": worker.begin, "round": worker.round}

    del kind
    obey(methods, (WireError,))


if __name__ == "__main__":
    main()
