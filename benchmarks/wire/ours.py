"""The project's own wire, as its parties use it: torch in, torch out, every check on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.wire.contender import REPLY_BYTES, Contender, Setting
from parties.channel import Endpoint
from parties.messages import Hello, Kind, Role, Session, TensorMessage, Terms
from parties.wire.client import GrpcChannel, PendingReply
from parties.wire.security import ClientSecurity, ServerSecurity
from parties.wire.server import GrpcServer
from split_models.tensor_spec import TensorSpec

LOGITS = TensorSpec((REPLY_BYTES // 4,))


def start_server(endpoint: Endpoint, setting: Setting) -> GrpcServer:
    """A running server with the security that `setting` asks for."""
    security = ServerSecurity()
    if setting.certificates:
        folder = Path(setting.certificates)
        security = ServerSecurity(folder / "server.pem", folder / "server.key")
    server = GrpcServer(endpoint, security=security)
    server.start()
    return server


def open_channel(
    address: str, setting: Setting, spec: TensorSpec, role: Role = Role.INFERENCE, party: str = "owner"
) -> GrpcChannel:
    """A session for tensors of `spec`, with the security that `setting` asks for."""
    security = ClientSecurity(Path(setting.certificates) / "ca.pem") if setting.certificates else None
    hello = Hello(party, role, "benchmark", "", "", spec, setting.wire_dtype)
    return GrpcChannel(address, hello, security=security)


class FixedReply:
    """An endpoint that answers everything with the same logits at once."""

    def __init__(self) -> None:
        self._logits = torch.rand(1, *LOGITS.shape, generator=torch.Generator().manual_seed(0))

    def open(self, hello: Hello) -> Terms:
        return Terms({Kind.ACTIVATION: (hello.sample,)}, {Kind.LOGITS: (LOGITS,)})

    def answer(self, session: Session, message: TensorMessage) -> TensorMessage:
        return TensorMessage(message.request_id, Kind.LOGITS, (self._logits,))

    def close(self, session: Session) -> None:
        pass


class Ours(Contender):
    """`GrpcChannel` and `GrpcServer` with their defaults."""

    def serve(self, setting: Setting) -> str:
        self._server = start_server(FixedReply(), setting)
        return self._server.address

    def connect(self, address: str, setting: Setting) -> None:
        spec = TensorSpec((setting.size // 4,))
        self._tensor = torch.rand(1, *spec.shape, generator=torch.Generator().manual_seed(0))
        self._channel = open_channel(address, setting, spec)
        self._messages = self._make_messages()

    def disconnect(self) -> None:
        self._channel.close()

    def _make_messages(self) -> Iterator[TensorMessage]:
        request_id = 0
        while True:
            request_id += 1
            yield TensorMessage(request_id, Kind.ACTIVATION, (self._tensor,))

    def exchange(self, count: int, in_flight: int) -> None:
        pending: deque[PendingReply] = deque()
        for _ in range(count):
            pending.append(self._channel.submit(next(self._messages)))
            if len(pending) == in_flight:
                pending.popleft().result()
        while pending:
            pending.popleft().result()
