"""What each party does in a run, as methods that take and return plain JSON.

The same objects work inside the runner's process and behind `parties.processes.obey` in a process of their own.
A party is told only what is its own: an owner its private images, the server's attacker what the threat model grants.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks import make_attack, make_reading
from attacks.attack import AttackRefused, granted
from attacks.knowledge import Auxiliary, Capability, Knowledge, KnownDefense, Observation
from attacks.reading import Reading
from attacks.readings import READINGS
from defenses import Defense, put_up
from experiments.auxiliary import unpacked
from experiments.keeping import prepared
from experiments.transports import Transport
from parties.compute_server import ComputeServer, SplitPoint
from parties.data_owner import DataOwner, QueryEndpoint
from parties.messages import Hello, Kind, QueryBudgetExhausted, Role, TensorMessage
from parties.transcript import Transcript
from split_models.checkpoints import CheckpointError, Identity, load_model, load_tensors, save_tensors
from split_models.randomness import generator_for, layers_from
from split_models.split_model import SplitModel, output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.zoo import build

QUERY_BATCH = 64  # images per query message


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads inside; part of what makes results repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_part(path: Path, part: str, trusted: str | None = None) -> tuple[SplitModel, Identity, SplitPoint]:
    """A network of which the file holds one half, cut where that half ends or begins, and frozen.

    `trusted` is the `module:factory` that whoever runs this party has named, if it is none of the zoo.

    Raises:
        CheckpointError: a broken file, or one that holds another part.
    """
    model, identity = load_model(path, trusted)
    if identity.part != part or identity.cut is None:
        raise CheckpointError(f"{path}: expected a {part}, got a {identity.part} network; name {part}.safetensors")
    model.requires_grad_(False)
    return split(model, identity.cut), identity, SplitPoint(identity.model, identity.digest, identity.cut)


class OwnerRole:
    """A data owner: its private images stay in this object."""

    def __init__(self, name: str, transport: Transport) -> None:
        self.name, self._transport = name, transport

    def begin(
        self, model: str, head: str, images: str, defense: dict[str, Any], query_budget: int, seed: int
    ) -> dict[str, Any]:
        """Load the head and the private images, put up the defense, and open the query endpoint."""
        parts, identity, point = load_part(Path(head), "head", model)
        activation = output_spec(parts.head, identity.input_spec)
        tensors, _ = load_tensors(Path(images))
        self._images = tensors["images"]

        def owner(purpose: str) -> DataOwner:
            guard = load_defense(defense, identity.input_spec, activation)
            generator = generator_for(seed, purpose)
            return DataOwner(self.name, parts.head, guard, point, identity.input_spec, activation, generator)

        self._owner = owner("private inputs")
        # Queries draw from a generator of their own, so that they never shift the noise on private inputs.
        self._queries = QueryEndpoint(owner("queries"), query_budget)
        return {"query_address": self._transport.serve(self._queries)}

    def infer(self, address: str, batch_size: int, repeats: int) -> dict[str, Any]:
        """Send all private images through the server, and all of them again, `repeats` times in total.

        Says what came back, what it cost and what went where.
        """
        with torch_threads(1):
            channel = self._transport.connect(address, self._owner.hello())
            try:
                images = self._images.repeat(repeats, *[1] * (self._images.ndim - 1))
                replies = dict(self._owner.infer(channel, images, batch_size))
            finally:
                channel.close()
        return {
            "predictions": {request: logits.argmax(1).tolist() for request, logits in replies.items()},
            "cost": asdict(channel.cost),
        }

    def end(self) -> dict[str, Any]:
        """Close the query endpoint; says how many images it answered."""
        self._transport.close()
        return {"queries": self._queries.answered}


class ServerRole:
    """The compute server, honest in what it computes, and curious afterwards."""

    def __init__(self, name: str, transport: Transport, report: Callable[[float], None]) -> None:
        self.name, self._transport, self._report = name, transport, report

    def begin(self, model: str, tail: str, transcript: str | None = None) -> dict[str, Any]:
        """Load the tail and open for inference, or go on from a transcript that was kept when the same was sent."""
        self._parts, self._identity, self._point = load_part(Path(tail), "tail", model)
        self._activation = output_spec(self._parts.head, self._identity.input_spec)
        self._transcript = Transcript.load(Path(transcript)) if transcript else Transcript()
        server = ComputeServer(
            self._parts.tail, self._point, self._activation, self._identity.classes, self._transcript
        )
        return {"address": self._transport.serve(server)}

    def keep(self, output: str) -> dict[str, Any]:
        """Write the transcript for trials in which owners would send the same."""
        self._transcript.save(Path(output))
        return {}

    def show(self, output: str) -> dict[str, Any]:
        """Write the activations as they were decoded; says whose each row is."""
        save_tensors(Path(output), {"activations": self._transcript.activations})
        return {"rows": self._transcript.rows}

    def attack(
        self,
        attack: str,
        settings: dict[str, Any],
        grants: dict[str, Any],
        seen: list[list[int]],
        seed: int,
        threads: int,
        output: str,
        kept: str | None = None,
    ) -> dict[str, Any]:
        """Run an attack or a reading on the transcript; what it found for each entry of `seen` goes to `output`.

        `grants` maps each granted capability to what it consists of; `seen` names the rows of `show` that the attack
        is told to carry the same input, equally many each time; `kept` is where the attack finds what it learnt from
        the same knowledge in an earlier trial, or leaves it.
        """
        start = time.perf_counter()
        running = make_reading(attack, settings) if attack in READINGS else make_attack(attack, settings)
        running.progress = self._report
        with torch_threads(threads):
            try:
                knowledge = granted(self._knowledge(grants), type(running))
                prepared(running, knowledge, generator_for(seed, "attack", attack), Path(kept) if kept else None)
                repeated = self._transcript.activations[torch.tensor(seen)]
                observed = Observation(repeated[:, 0], repeated)
                found = running.read(observed) if isinstance(running, Reading) else running.reconstruct(observed)
            except (AttackRefused, QueryBudgetExhausted) as refusal:
                return {"refused": str(refusal)}
        save_tensors(Path(output), {"found": found})
        return {"notes": running.notes, "seconds": time.perf_counter() - start}

    def end(self) -> dict[str, Any]:
        """Close the server."""
        self._transport.close()
        return {}

    def _knowledge(self, grants: dict[str, Any]) -> Knowledge:
        query = grants.get(Capability.QUERIES)
        return Knowledge(
            input_spec=self._identity.input_spec,
            activation_spec=self._activation,
            head=self._head(grants.get(Capability.HEAD)),
            fresh_head=self._fresh_head if Capability.ARCHITECTURE in grants else None,
            defense=self._defense(grants.get(Capability.DEFENSE)),
            query=self._query(query["address"]) if query else None,
            query_budget=query["budget"] if query else 0,
            tail=self._parts.tail if Capability.TAIL in grants else None,
            auxiliary=_auxiliary(grants.get(Capability.AUXILIARY)),
            repeats=grants.get(Capability.REPEATS),
        )

    def _head(self, path: str | None) -> Callable[[Tensor], Tensor] | None:
        return None if path is None else load_part(Path(path), "head", self._identity.model)[0].head

    def _fresh_head(self, generator: torch.Generator) -> nn.Module:
        with layers_from(generator):
            network = build(self._identity.model, self._identity.input_spec, self._identity.classes)
        return split(network, self._point.cut).head

    def _defense(self, granted: dict[str, Any] | None) -> KnownDefense | None:
        if granted is None:
            return None
        # The attacker knows the defense, not the owner's randomness: it passes a generator of its own.
        copy = load_defense(granted, self._identity.input_spec, self._activation)
        return KnownDefense(copy.protect_inputs, copy.protect)

    def _query(self, address: str) -> Callable[[Tensor], Tensor]:
        def query(images: Tensor) -> Tensor:
            point, spec = self._point, self._identity.input_spec
            hello = Hello(self.name, Role.QUERY, point.model, point.model_digest, point.cut, spec)
            channel = self._transport.connect(address, hello)
            try:
                batches = enumerate(images.split(QUERY_BATCH), start=1)
                return torch.cat([channel.call(TensorMessage(n, Kind.INPUT, (b,))).tensor for n, b in batches])
            finally:
                channel.close()

        return query


def load_defense(defense: dict[str, Any], inputs: TensorSpec, activation: TensorSpec) -> Defense:
    """A defense from its name, its settings and the path of the file that holds what it has learnt.

    Raises:
        DefenseError: one of them does not fit the others, or the cut.
        CheckpointError: the file cannot be read.
    """
    state, _ = load_tensors(Path(defense["state"])) if defense["state"] else ({}, {})
    return put_up(defense["name"], defense["settings"], inputs, activation, state)


def _auxiliary(path: str | None) -> Auxiliary | None:
    return None if path is None else unpacked(load_tensors(Path(path))[0])
