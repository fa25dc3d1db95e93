"""One SuperLink, two SuperNodes that prove who they are, a split server: processes of their own, all over TLS."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parties.flower_app.job import FederatedOwner, Job, owner_name
from parties.flower_app.quiet import settings
from parties.messages import WireError
from parties.training.owner import Progress
from parties.wire.certificates import make_test_certificates
from parties.wire.security import ClientSecurity
from parties.wire.server import GRACE_S
from split_models.checkpoints import load_tensors
from tests.experiments.runs import none_left, writers

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("flwr") is None,
        reason="Flower is an extra: pip install -c constraints.txt -e '.[flower]'",
    ),
    pytest.mark.timeout(600),  # Flower starts a process for every message
]
OWNERS = 2
PATIENCE_S = 240.0


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def write_ssh_key(path: Path) -> None:
    """What `ssh-keygen -t ecdsa -b 384` writes: `path` and `path.pub`."""
    key, encoding = ec.generate_private_key(ec.SECP384R1()), serialization.Encoding
    secret = key.private_bytes(encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    path.write_bytes(secret)
    shown = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(shown)


class Deployment:
    """Starts the processes that docs/flower.md names, in its words."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.keys, self.run = folder, folder / "keys", folder / "run"
        self.logs = folder / "logs"
        self.logs.mkdir()
        self._processes: list[subprocess.Popen[bytes]] = []
        commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # Flower's start more of Flower's
        self._environment = {**os.environ, **settings(folder / "flower"), "OMP_NUM_THREADS": "1", "PATH": commands}
        self.split_server, self.link = f"localhost:{free_port()}", free_port()
        make_test_certificates(self.keys, [owner_name(number) for number in range(OWNERS)])
        (folder / "flower").mkdir()
        connection = f'[superlink.there]\naddress = "localhost:{self.link}"\nroot-certificates = "{self.keys}/ca.pem"\n'
        (folder / "flower" / "config.toml").write_text(connection)

    def call(self, name: str, *arguments: str) -> None:
        """Run a command to its end."""
        done = subprocess.run([name, *arguments], check=False, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"

    def start(self, log: str, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process that stays."""
        with (self.logs / f"{log}.log").open("wb") as file:
            process = subprocess.Popen(
                [name, *arguments],
                env=self._environment,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
            )
        self._processes.append(process)
        return process

    def prepare_and_serve(self, *sizes: str) -> subprocess.Popen[bytes]:
        """Write what a deployment needs and start the split server."""
        told = (*(f"--set={size}" for size in (f"owners.count={OWNERS}", *sizes)), "--server", self.split_server)
        self.call("unsmash", "flower", "prepare", str(self.run), *told)
        keys = self.keys
        own = ("--certificate", f"{keys}/server.pem", "--key", f"{keys}/server.key", "--owners-ca", f"{keys}/ca.pem")
        server = self.start("split", "unsmash", "flower", "serve", str(self.run), "--listen", self.split_server, *own)
        self.wait_for("split", "Ctrl-C ends it")
        return server

    def owner(self, number: int) -> tuple[FederatedOwner, ClientSecurity]:
        """An owner as its node would play it, in this process, with its credentials."""
        told = tomllib.loads((self.run / "app" / "pyproject.toml").read_text())
        job, name = Job.from_json(told["tool"]["flwr"]["app"]["config"]["job"]), owner_name(number)
        security = ClientSecurity(self.keys / "ca.pem", self.keys / f"{name}.pem", self.keys / f"{name}.key")
        return FederatedOwner(name, job, self.run / "owners" / f"{name}.safetensors"), security

    def start_node(self, name: str, number: int) -> subprocess.Popen[bytes]:
        """Start the SuperNode of an owner, which proves itself with the key `name`."""
        owner = owner_name(number)
        files = {
            "data": self.run / "owners" / f"{owner}.safetensors",
            "server-ca": self.keys / "ca.pem",
            "certificate": self.keys / f"{owner}.pem",
            "key": self.keys / f"{owner}.key",
        }
        told = " ".join([f"partition-id={number}", *(f'{key}="{path}"' for key, path in files.items())])
        secrets = ("--root-certificates", f"{self.keys}/ca.pem", "--auth-supernode-private-key", f"{self.keys}/{name}")
        link = ("--superlink", f"localhost:{self.link}", "--port", str(free_port()))
        return self.start(name, "flower-supernode", *link, *secrets, "--max-retries", "3", "--node-config", told)

    def wait_for(self, log: str, word: str) -> None:
        """Until a process has said something."""
        self.wait(lambda: word in (self.logs / f"{log}.log").read_text(errors="replace"), f"{word!r} of {log}")

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        """Until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < deadline, f"waited for {what}; {self.said()}"
            time.sleep(0.2)

    def said(self) -> str:
        """The end of every log."""
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in self.logs.iterdir())

    def end(self) -> None:
        """As a user does: SIGTERM, also for a helper of Flower's that goes on looking for its node for a minute."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        while left := writers(self.logs):
            for process_id in left.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGTERM)
            time.sleep(0.5)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    made.end()
    assert none_left(made.logs)


def test_it_trains_over_tls_with_nodes_that_prove_who_they_are(deployment: Deployment) -> None:
    keys, run = deployment.keys, deployment.run
    deployment.prepare_and_serve("rounds=1", "data.train=40", "data.test=8")
    pair = ("--ssl-certfile", f"{keys}/server.pem", "--ssl-keyfile", f"{keys}/server.key")
    trust = ("--ssl-ca-certfile", f"{keys}/ca.pem", "--enable-supernode-auth", "--port", str(deployment.link))
    deployment.start("link", "flower-superlink", *pair, *trust)
    deployment.wait_for("link", "Uvicorn running on https")

    for name in ("stranger", *(f"node{number}" for number in range(OWNERS))):
        write_ssh_key(keys / name)
    stranger = deployment.start_node("stranger", 0)  # whose public key nobody registers
    for number in range(OWNERS):
        deployment.call("flwr", "supernode", "register", f"{keys}/node{number}.pub", "there")
        deployment.start_node(f"node{number}", number)
    assert stranger.wait(timeout=PATIENCE_S) != 0
    deployment.call("flwr", "run", str(run / "app"), "there")
    deployment.wait((run / "rounds.json").exists, "the end of the training")

    (played,) = json.loads((run / "rounds.json").read_text())
    assert (played["owners"], played["failed"]) == (OWNERS, 0)
    assert played["bytes_up"] > 500_000
    initial, trained = (load_tensors(run / f"{name}.safetensors")[0] for name in ("initial", "head"))
    assert initial.keys() == trained.keys()
    assert not any(torch.equal(initial[name], weight) for name, weight in trained.items())


def test_the_split_server_ends_in_order_in_the_middle_of_sessions(deployment: Deployment) -> None:
    server = deployment.prepare_and_serve("data.train=80", "data.test=8")
    (busy, secret), (resting, other_secret) = (deployment.owner(number) for number in range(OWNERS))
    with busy.connect(secret), resting.connect(other_secret):
        next(busy.owner.play(Progress(0)))
        server.terminate()
        with pytest.raises(WireError, match="open another"):
            for number in itertools.count():
                list(busy.owner.play(Progress(number)))
        assert server.wait(timeout=GRACE_S + 60) == 0
    kept = deployment.run / "server"
    initial, trained = (load_tensors(kept / f"{name}.safetensors")[0] for name in ("initial", "trained"))
    assert not any(torch.equal(initial[name], weight) for name, weight in trained.items())
