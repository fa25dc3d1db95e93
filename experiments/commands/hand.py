"""`unsmash serve` and `unsmash own`: parties started by hand, in two terminals or on two machines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor

from defenses import DefenseError
from experiments.overrides import parse_value
from experiments.roles import load_defense, load_part
from parties.compute_server import ComputeServer
from parties.data_owner import DataOwner, QueryEndpoint
from parties.datasets import load
from parties.datasets.dataset import DataError
from parties.messages import Session
from parties.transcript import Transcript
from parties.wire.certificates import make_test_certificates
from parties.wire.client import GrpcChannel
from parties.wire.drain import serve_until_told
from parties.wire.security import ClientSecurity, ServerSecurity, read_tokens
from parties.wire.server import GrpcServer
from split_models.randomness import generator_for
from split_models.split_model import output_spec
from split_models.tensor_spec import TensorSpec

Certificate = Annotated[Path | None, typer.Option(help="PEM file of this party's certificate; needs --key.")]
Key = Annotated[Path | None, typer.Option(help="PEM file of the private key.")]
OwnModel = Annotated[str | None, typer.Option("--model", help="The module:factory that the checkpoint may use.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Plaintext although other machines can reach it.")]


class _RecordingServer(ComputeServer):
    """Saves its transcript whenever a session has ended."""

    path: Path | None = None
    console: Console

    def close(self, session: Session) -> None:
        if self.path and self.transcript.sightings:
            self.transcript.save(self.path)
        self.console.print(f"{session.hello.party} has left; {len(self.transcript.rows)} activations seen so far")


def serve(
    tail: Annotated[Path, typer.Argument(help="The tail that `unsmash pretrain` wrote.")],
    listen: Annotated[str, typer.Option(help="host:port; port 0 takes a free one.")] = "127.0.0.1:50051",
    transcript: Annotated[
        Path | None, typer.Option(help="Where to keep what was seen; written whenever an owner leaves.")
    ] = None,
    certificate: Certificate = None,
    key: Key = None,
    owners_ca: Annotated[Path | None, typer.Option(help="Owners need a certificate of this authority.")] = None,
    tokens: Annotated[Path | None, typer.Option(help='JSON file {"owner": "token"}; owners need theirs.')] = None,
    insecure: Insecure = False,
    model: OwnModel = None,
) -> None:
    """Be the compute server: answer owners with logits, and remember what they sent. Ends with Ctrl-C or SIGTERM."""
    parts, identity, point = load_part(tail, "tail", model)
    torch.set_num_threads(1)  # a session's thread computes; several sessions share the cores
    security = ServerSecurity(certificate, key, owners_ca, read_tokens(tokens) if tokens else {}, insecure)
    activation = output_spec(parts.head, identity.input_spec)
    endpoint = _RecordingServer(parts.tail, point, activation, identity.classes, Transcript())
    endpoint.path, endpoint.console = transcript, Console(highlight=False, soft_wrap=True)
    server = GrpcServer(endpoint, listen, security=security)
    endpoint.console.print(f"serving {identity.model} behind {point.cut} at {server.address}; Ctrl-C ends it")
    serve_until_told(server)
    if transcript and endpoint.transcript.sightings:
        endpoint.transcript.save(transcript)


def own(
    head: Annotated[Path, typer.Argument(help="The head that `unsmash pretrain` wrote.")],
    server: Annotated[str, typer.Option(help="host:port of the compute server.")],
    data: Annotated[str, typer.Option(help="A registered data set, or an .npz with images and labels.")],
    defense: Annotated[str, typer.Option(help="What acts before the wire.")] = "none",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of the defense.")] = None,
    defense_state: Annotated[
        Path | None, typer.Option(help="What the defense has learnt: defense.safetensors of `unsmash pretrain`.")
    ] = None,
    name: Annotated[str, typer.Option(help="Who this owner is to the server.")] = "owner",
    count: Annotated[int | None, typer.Option(min=1, help="Send only the first so many images.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per message.")] = 16,
    wire_dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16 on the wire.")] = "float32",
    query_listen: Annotated[str | None, typer.Option(help="After sending, answer queries at host:port.")] = None,
    query_budget: Annotated[int, typer.Option(min=0, help="Images answered in all.")] = 1000,
    seed: Annotated[int | None, typer.Option(help="Of the defense's randomness; default: unpredictable.")] = None,
    data_dir: Annotated[Path | None, typer.Option(envvar="UNSMASH_DATA", help="Folder of data sets.")] = None,
    server_ca: Annotated[Path | None, typer.Option(help="PEM file of the authority behind the server.")] = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: Annotated[Path | None, typer.Option(help="File that holds this owner's token.")] = None,
    insecure: Insecure = False,
    model: OwnModel = None,
) -> None:
    """Be a data owner: send private images through head and defense, and read the server's answers."""
    token = token_file.read_text().strip() if token_file else None
    security = ClientSecurity(server_ca, certificate, key, token, None, insecure)
    randomness = int.from_bytes(os.urandom(8), "little") if seed is None else seed
    guard = {
        "name": defense,
        "settings": _settings(settings or []),
        "state": str(defense_state) if defense_state else None,
    }
    make_owner = _owners(head, model, name, guard, randomness)
    owner, console = make_owner("private inputs"), Console(highlight=False, soft_wrap=True)
    images, labels = _private(data, data_dir, owner.input_spec, count)
    with GrpcChannel(server, owner.hello(wire_dtype), security=security) as channel:
        start, total = time.perf_counter(), -(-len(images) // batch_size)
        replies = track(owner.infer(channel, images, batch_size), "sending", total=total, console=console)
        predictions = torch.cat([logits.argmax(1) for _, logits in replies])
        seconds, cost = time.perf_counter() - start, channel.cost
    console.print(
        f"{len(images)} images in {cost.requests} messages: {float((predictions == labels).float().mean()):.1%} "
        f"classified right, {cost.bytes_up:,} bytes up, {cost.bytes_down:,} down, {seconds:.2f} s"
    )
    if query_listen:
        _answer_queries(QueryEndpoint(make_owner("queries"), query_budget), query_listen, insecure, console)


def certs(
    directory: Annotated[Path, typer.Argument(help="A new folder for the PEM files.")],
    owners: Annotated[list[str] | None, typer.Option("--owner", help="An owner's name; may be given often.")] = None,
    hosts: Annotated[list[str] | None, typer.Option("--host", help="A name or address of the server.")] = None,
) -> None:
    """Make a throw-away authority with certificates for a server and its owners, to try TLS with. Not for production.

    Then:  unsmash serve … --certificate DIR/server.pem --key DIR/server.key --owners-ca DIR/ca.pem
    and:  unsmash own … --name NAME --server-ca DIR/ca.pem --certificate DIR/NAME.pem --key DIR/NAME.key
    """
    make_test_certificates(directory, owners or ["owner"], hosts or ["localhost", "127.0.0.1", "::1"])
    names = ", ".join(sorted(path.name for path in directory.iterdir()))
    Console(highlight=False, soft_wrap=True).print(f"wrote {names} to {directory}")


def _owners(
    head: Path, model: str | None, name: str, defense: dict[str, Any], randomness: int
) -> Callable[[str], DataOwner]:
    """A maker of owners that share head and defense, each with randomness for one purpose."""
    parts, identity, point = load_part(head, "head", model)
    activation = output_spec(parts.head, identity.input_spec)

    def make(purpose: str) -> DataOwner:
        guard = load_defense(defense, identity.input_spec, activation)
        generator = generator_for(randomness, name, purpose)
        return DataOwner(name, parts.head, guard, point, identity.input_spec, activation, generator)

    return make


def _private(data: str, data_dir: Path | None, expected: TensorSpec, count: int | None) -> tuple[Tensor, Tensor]:
    raw = load(data, data_dir)
    if raw.input_spec != expected:
        raise DataError(
            f"{data}: expected inputs {expected.shape}, got {raw.input_spec.shape}; the head fits no others"
        )
    return raw.inputs(slice(count)), torch.from_numpy(raw.labels[:count])


def _answer_queries(endpoint: QueryEndpoint, listen: str, insecure: bool, console: Console) -> None:
    server = GrpcServer(endpoint, listen, security=ServerSecurity(insecure=insecure))
    console.print(f"answering queries at {server.address}; Ctrl-C ends it")
    serve_until_told(server)
    console.print(f"answered {endpoint.answered} images")


def _settings(given: list[str]) -> dict[str, Any]:
    pairs = [setting.partition("=") for setting in given]
    if any(not equals for _, equals, _ in pairs):
        raise DefenseError(f"expected --set key=value, got {' '.join(given)!r}")
    return {key.strip(): parse_value(value.strip()) for key, _, value in pairs}
