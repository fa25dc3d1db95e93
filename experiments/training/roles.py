"""What an owner and a server do in split training when they are asked, as methods that take and return plain JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from defenses import make_defense
from experiments.training.building import learner, owner_parts, server_part, split_point
from experiments.training.scenario import TrainingScenario, boundary_of
from parties.channel import Channel
from parties.memory import peak_memory_mb
from parties.messages import Hello, Role
from parties.training.owner import PrivateData, Progress, TrainingOwner
from parties.training.server import TrainingServer
from parties.training.transcript import TrainingTranscript
from parties.wire.client import GrpcChannel
from parties.wire.drain import serve_until_told
from parties.wire.limits import Limits
from parties.wire.security import ServerSecurity
from parties.wire.server import GrpcServer
from split_models.checkpoints import CheckpointError, digest, load_tensors, save_tensors
from split_models.randomness import seed_for
from split_models.tensor_spec import TensorSpec

KEPT = 2
OWN_PARTS = ("head.", "tail.")
# A party of a simulation that is gone will not come back by itself; the coordinator notices and starts it again.
LIMITS = Limits(reconnect_within_s=0.0, keepalive_timeout_s=600.0, request_timeout_s=3600.0)


class TrainingOwnerRole:
    """A data owner: its samples, its layers and its checkpoints stay with this object."""

    def __init__(self, name: str, report: Callable[[float], None]) -> None:
        self.name, self._report = name, report

    def begin(self, scenario: dict[str, Any], input_shape: list[int], classes: int, folder: str) -> dict[str, Any]:
        """Load the data; says how many samples there are and which checkpoints."""
        self._scenario, self._classes = TrainingScenario.model_validate(scenario), classes
        whole = TensorSpec(tuple(input_shape), low=0.0, high=1.0)
        self._inputs, self._boundary = self._scenario.owner_input(whole), boundary_of(self._scenario, whole, classes)
        self._folder = Path(folder)
        held, _ = load_tensors(self._folder / "data.safetensors")
        self._data = PrivateData(held["images"], held["ids"], held.get("labels"))
        if self._scenario.protocol_class.meets:
            self._data = self._data.by_id()
        self._test = held["test_images"], held.get("test_labels")
        return {
            "samples": len(self._data.ids),
            "ids": digest({"ids": self._data.ids}),
            "kept": [asdict(self._progress_of(path)) for path in self._checkpoints()],
        }

    def train(
        self, address: str, round_number: int, position: int, at_batch: int, head: str | None, output: str
    ) -> dict[str, Any]:
        """Play a round, from a checkpoint of this round at `at_batch` or, where that is 0, from its beginning.

        The layers of the owner before, or the mean of all, are read from `head`; those of this owner go to `output`.
        """
        owner, progress = self._ready(round_number, position, at_batch, head)
        before, start, every = progress, time.perf_counter(), self._scenario.owners.checkpoint_batches
        with self._connect(address) as channel:
            owner.connect(channel)
            if progress.batch < owner.batches_a_round:
                owner.resume(progress.position)
            for step in owner.play(progress):
                progress = _with_cost(step, before, channel, time.perf_counter() - start)
                if progress.batch % every == 0 or progress.batch == owner.batches_a_round:
                    owner.checkpoint(progress)
                    self._keep(owner, progress)
                self._report(progress.batch / owner.batches_a_round)
        save_tensors(Path(output), {n: t for n, t in owner.learner.state().items() if _is_shared(n)})
        return {**asdict(progress), "loss": progress.mean_loss}

    def evaluate(self, address: str, round_number: int, position: int, head: str | None) -> dict[str, Any]:
        """How many of the owner's test images the whole network gets right; `right` is None without labels."""
        owner, _ = self._ready(round_number + 1, position, 0, head)
        with self._connect(address) as channel:
            owner.connect(channel)
            owner.resume(position)
            predicted = owner.predict(self._test[0]).argmax(1)
        labels = self._test[1]
        return {"right": None if labels is None else int((predicted == labels).sum()), "samples": len(predicted)}

    def _ready(
        self, round_number: int, position: int, at_batch: int, head: str | None
    ) -> tuple[TrainingOwner, Progress]:
        """The owner as it has to be at a point of a round, read from disk: a process that is new does not differ."""
        owner, progress = self._owner(), Progress(round_number, position=position)
        kept = {(p.round, p.batch): path for path in self._checkpoints() if (p := self._progress_of(path))}
        if at_batch:
            path = kept[round_number, at_batch]
            tensors, _ = load_tensors(path)
            progress = self._progress_of(path)
            owner.generator.set_state(tensors.pop("generator"))
            owner.learner.load(tensors, progress.position)
            return owner, progress
        if earlier := [path for (at, _), path in sorted(kept.items()) if at < round_number]:
            tensors, _ = load_tensors(earlier[-1])
            tensors.pop("generator")
            owner.learner.load(tensors, position)
        if head is not None:
            owner.learner.load(load_tensors(Path(head))[0], position)
        return owner, progress

    def _owner(self) -> TrainingOwner:
        scenario, model = self._scenario, self._scenario.model
        guard = make_defense(scenario.defense.name, scenario.defense.settings)
        guard.attach(self._inputs, self._boundary.activation)
        parts = {**owner_parts(scenario, self._inputs, self._classes), "defense": guard}
        return TrainingOwner(
            self.name,
            scenario.protocol_class(scenario.owner_names, scenario.owners.patience_s).train_batch,
            learner(scenario, parts, load_tensors(self._folder / "initial.safetensors")[0]),
            guard,
            self._data,
            batch_size=model.batch_size,
            micro_batches=model.micro_batches,
            seed=seed_for(scenario.seed, self.name),
            order_seed=seed_for(scenario.seed, "order") if scenario.protocol_class.meets else None,
            rounds=scenario.rounds,
        )

    def _connect(self, address: str) -> GrpcChannel:
        point = split_point(self._scenario)
        hello = Hello(
            self.name,
            Role.TRAINING,
            point.model,
            point.model_digest,
            point.cut,
            self._boundary.activation,
            self._scenario.owners.wire_dtype,
        )
        return GrpcChannel(address, hello, limits=LIMITS)

    def _keep(self, owner: TrainingOwner, progress: Progress) -> None:
        path = self._folder / f"{progress.round:06}-{progress.batch:09}.safetensors"
        tensors = {**owner.learner.state(), "generator": owner.generator.get_state()}
        save_tensors(path, tensors, {"progress": json.dumps(asdict(progress))})
        for older in self._checkpoints()[:-KEPT]:
            older.unlink()

    def _checkpoints(self) -> list[Path]:
        return sorted(self._folder.glob("??????-?????????.safetensors"))

    def _progress_of(self, path: Path) -> Progress:
        try:
            return Progress(**json.loads(load_tensors(path)[1]["progress"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} does not say how far it was ({error}); delete it and train again") from error


def _with_cost(step: Progress, before: Progress, channel: Channel, seconds: float) -> Progress:
    cost = channel.cost
    return replace(
        step,
        bytes_up=before.bytes_up + cost.bytes_up,
        bytes_down=before.bytes_down + cost.bytes_down,
        seconds=before.seconds + seconds,
    )


def _is_shared(name: str) -> bool:
    return name.partition("/")[2].startswith(OWN_PARTS)


class TrainingServerRole:
    """The server in training: honest in what it computes, and remembering what crossed."""

    def begin(self, **arguments: Any) -> dict[str, Any]:
        """Load the layers and open for training; the arguments of `load`."""
        address = self.load(**arguments)
        self._endpoint.start()
        return {"address": address}

    def load(
        self,
        scenario: dict[str, Any],
        input_shape: list[int],
        classes: int,
        folder: str,
        transcript: str | None,
        names: list[str] | None = None,
        listen: str = "127.0.0.1:0",
        security: ServerSecurity | None = None,
    ) -> str:
        """Load the layers, for the owners of the scenario or for those in `names`; the address, not served yet."""
        chosen = TrainingScenario.model_validate(scenario)
        whole = TensorSpec(tuple(input_shape), low=0.0, high=1.0)
        boundary, inputs = boundary_of(chosen, whole, classes), chosen.owner_input(whole)
        place = Path(folder)
        initial, _ = load_tensors(place / "initial.safetensors")
        bound = int(chosen.server.transcript_mb * 1e6)
        self._server = TrainingServer(
            chosen.protocol_class(names or chosen.owner_names, chosen.owners.patience_s),
            boundary,
            lambda: learner(chosen, server_part(chosen, inputs, boundary), initial),
            split_point(chosen),
            place,
            TrainingTranscript(Path(transcript), bound) if transcript else None,
        )
        self._endpoint = GrpcServer(self._server, listen, limits=LIMITS, security=security)
        return self._endpoint.address

    def average(self, round_number: int, samples: dict[str, int], positions: dict[str, int]) -> dict[str, Any]:
        """Average the owners' branches at the end of a round."""
        self._server.average(round_number, samples, positions)
        return {}

    def save(self, output: str, position: int) -> dict[str, Any]:
        """Write the layers as they are after so many batches; after a round all branches are the same."""
        save_tensors(Path(output), self._server.weights(position))
        return {}

    def end(self) -> dict[str, Any]:
        """Close the server; says how much memory its process took at most."""
        self._endpoint.stop(0.5)
        return {"peak_memory_mb": peak_memory_mb()}

    def serve_until_told(self, output: Path) -> None:
        """Go on until a signal ends it, then close in order and write the layers as they are."""
        serve_until_told(self._endpoint)
        save_tensors(output, self._server.weights())
