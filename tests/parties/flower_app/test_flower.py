"""Flower leads, activations travel on our sessions: with a grid in this process, and with the simulation engine."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from experiments.training import federated
from experiments.training.scenario import read_training_scenario
from parties.flower_app.job import Job, owner_name
from parties.flower_app.quiet import keep_quiet, settings
from parties.messages import WireError
from parties.training.learner import federated_average
from parties.wire.server import GrpcServer
from split_models.checkpoints import save_tensors
from tests.experiments.runs import none_left, parties_of, start_unsmash
from tests.parties.training.games import OPTIMISERS, SPEC, Game, private_data, same
from tests.parties.wire.endpoints import eventually

if TYPE_CHECKING:
    from flwr.app import Context, Message

needs_flower = pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None, reason="Flower is an extra: pip install -c constraints.txt -e '.[flower]'"
)
OWNERS = 3


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings(tmp_path / "flower").items():
        monkeypatch.setenv(name, value)


class Place:
    """A split server and owners' files for a grid in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, names = folder, [owner_name(number) for number in range(OWNERS)]
        self.game = Game("splitfed_v2", owners=OWNERS, data=[private_data(n, 10 + 4 * n) for n in range(OWNERS)])
        self.game.names = names
        self.game.server = self.game.new_server()
        for name, data in zip(names, self.game.data, strict=True):
            assert data.labels is not None
            content = {"images": data.images, "labels": data.labels, "ids": data.ids}
            tests = {"test_images": data.images[:5], "test_labels": data.labels[:5]}
            save_tensors(folder / f"{name}.safetensors", {**content, **tests})
        self.server = GrpcServer(self.game.server)
        self.server.start()

    def job(self) -> Job:
        return Job(
            server=self.server.address,
            point=asdict(self.game.point),
            cut="relu1",
            protocol="splitfed_v2",
            input_shape=SPEC.shape,
            classes=self.game.boundary.classes,
            optimiser=asdict(OPTIMISERS["adam"]),
            batch_size=8,
            defense="none",
            settings={},
            wire_dtype="float32",
            seed=0,
            rounds=2,
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.server.stop(0.2)


def make_grid(folder: Path, broken: int | None = None) -> Any:
    """A grid whose nodes are function calls; node `broken` fails."""
    from flwr.app import Context, Error, Message, RecordDict
    from flwr.serverapp import Grid
    from flwr.supercore.task_identity import TaskIdentity

    from parties.flower_app.client import make_client_app

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1

    class Calls(Grid):  # type: ignore[misc]
        def __init__(self) -> None:
            self.app = make_client_app(self.find)
            self.contexts = {n: Context(0, n, {"partition-id": n - 1}, RecordDict(), {}) for n in range(1, OWNERS + 1)}

        def find(self, context: Context) -> tuple[str, Path]:
            name = owner_name(int(context.node_config["partition-id"]))
            return name, folder / f"{name}.safetensors"

        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
            return [self._call(message) for message in sorted(messages, key=lambda m: m.metadata.dst_node_id)]

        def _call(self, message: Message) -> Message:
            node = message.metadata.dst_node_id
            if node == broken:
                return Message(Error(code=1, reason="away"), reply_to=message)
            return self.app(message, self.contexts[node])

        def get_node_ids(self) -> list[int]:
            return list(self.contexts)

        def create_message(self, *arguments: Any, **more: Any) -> Message:
            raise NotImplementedError

        def push_messages(self, messages: Iterable[Message]) -> list[str]:
            raise NotImplementedError

        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            raise NotImplementedError

        def set_run(self, run: Any) -> None:
            raise NotImplementedError

        run = None

    return Calls()


@needs_flower
def test_flower_reaches_what_splitfed_reaches_without_it(place: Place) -> None:
    from parties.flower_app.server import lead

    head = {k: v.clone() for k, v in place.game.players[0].learner.weights("head").items()}
    federation = lead(make_grid(place.folder), place.job(), head, rounds=2, owners=OWNERS)
    assert [played.owners for played in federation.rounds] == [OWNERS, OWNERS]
    assert federation.rounds[1].loss < federation.rounds[0].loss
    assert all(played.bytes_up > 100_000 and 0 <= played.accuracy <= 1 for played in federation.rounds)

    from parties.flower_app.job import FederatedOwner

    twin = Place(place.folder / "twin")
    owners = [FederatedOwner(name, twin.job(), twin.folder / f"{name}.safetensors") for name in twin.game.names]
    from parties.training.owner import Progress

    for round_number in range(2):
        for owner in owners:
            owner.learner.load_weights(head)
            with owner.connect(None):
                list(owner.owner.play(Progress(round_number)))
        head = federated_average([o.head_weights() for o in owners], [o.samples for o in owners])
    twin.server.stop(0.2)
    for name, weight in head.items():
        torch.testing.assert_close(federation.head[name], weight, rtol=1e-5, atol=1e-7)
    for name, weight in twin.game.server_weights().items():
        torch.testing.assert_close(place.game.server_weights()[name], weight, rtol=1e-4, atol=1e-6)


@needs_flower
def test_an_owner_that_is_away_is_counted_and_left_out(place: Place) -> None:
    from parties.flower_app.server import lead

    head = place.game.players[0].learner.weights("head")
    federation = lead(make_grid(place.folder, broken=2), place.job(), dict(head), rounds=1, owners=OWNERS)
    assert (federation.rounds[0].owners, federation.rounds[0].failed) == (OWNERS - 1, 2)
    assert not same(federation.head, dict(head))


def test_a_job_survives_its_journey() -> None:
    job = Job("a:1", {}, "relu1", "splitfed_v2", (1, 8, 8), 3, {}, 4, "none", {}, "float32", 0, 1)
    assert Job.from_json(job.to_json()) == job
    with pytest.raises(WireError, match="training job"):
        Job.from_json('{"server": 1}')


def test_nothing_is_reported_to_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in settings(tmp_path):
        monkeypatch.delenv(name, raising=False)
    keep_quiet(tmp_path / "home")
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["FLWR_HOME"] == str(tmp_path / "home")


@needs_flower
def test_the_simulation_engine_trains_and_leaves_nothing_running(tmp_path: Path) -> None:
    scenario = read_training_scenario(
        "train-splitfed-v2", ["owners.count=4", "rounds=1", "data.train=40", "data.test=8", "server.transcript_mb=1"]
    )
    record = federated.simulate(scenario, tmp_path, None, 1.0, 1, lambda done: None)
    assert [played["owners"] for played in record.rounds] == [4]
    assert record.rounds[0]["failed"] == 0
    assert (tmp_path / "models" / "owner.safetensors").exists()
    assert (tmp_path / federated.RECORD).exists()
    assert not (tmp_path / "state").exists()
    assert none_left(tmp_path / "logs")


def group(leader: int) -> list[str]:
    """What runs in a process group."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of = (process / "stat").read_text().rpartition(") ")[2].split()[:3]
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if int(of) == leader and state != "Z":
            found.append(command)
    return found


@needs_flower
@pytest.mark.timeout(300)
def test_an_interrupted_simulation_leaves_no_process_of_ray_and_can_be_run_again(tmp_path: Path) -> None:
    sizes = ("--owners", "3", "--set", "data.train=30", "--set", "data.test=6", "--out", str(tmp_path))
    running = start_unsmash("flower", "simulate", "--rounds", "1000", *sizes)
    logs = tmp_path / "logs"
    leader = parties_of(logs, 2)["flower"]
    assert eventually(lambda: "[ROUND 2/" in (logs / "flower.log").read_text(), within_s=120)
    assert any("ray::" in command for command in group(leader))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert eventually(lambda: not group(leader)), group(leader)
    assert none_left(logs)

    again = start_unsmash("flower", "simulate", "--rounds", "1", *sizes)
    said, errors = again.communicate(timeout=180)
    assert again.returncode == 0, errors
    assert "federation.json" in said
