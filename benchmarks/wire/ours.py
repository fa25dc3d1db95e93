"""The project's own wire, as its parties use it: torch in, torch out, every check on."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path

import torch

from benchmarks.wire.contender import REPLY_BYTES, Contender, Setting
from parties.messages import Hello, Kind, Role, Session, TensorMessage, Terms
from parties.wire.client import GrpcChannel, PendingReply
from parties.wire.security import ClientSecurity, ServerSecurity
from parties.wire.server import GrpcServer
from split_models.tensor_spec import TensorSpec

LOGITS = TensorSpec((REPLY_BYTES // 4,))


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

    wire_dtypes = ("float32", "float16")
    tls = (False, True)

    def serve(self, setting: Setting) -> str:
        security = ServerSecurity()
        if setting.tls:
            folder = certificates()
            security = ServerSecurity(folder / "server.pem", folder / "server.key")
        self._server = GrpcServer(FixedReply(), security=security)
        self._server.start()
        return self._server.address

    def connect(self, address: str, setting: Setting) -> None:
        security = ClientSecurity(certificates() / "ca.pem") if setting.tls else ClientSecurity()
        spec = TensorSpec((setting.size // 4,))
        self._tensor = torch.rand(1, *spec.shape, generator=torch.Generator().manual_seed(0))
        hello = Hello("owner", Role.INFERENCE, "none", "", "", spec, setting.wire_dtype)
        self._channel = GrpcChannel(address, hello, security=security)
        self._id = 0

    def exchange(self, count: int, in_flight: int) -> None:
        pending: deque[PendingReply] = deque()
        for _ in range(count):
            self._id += 1
            pending.append(self._channel.submit(TensorMessage(self._id, Kind.ACTIVATION, (self._tensor,))))
            if len(pending) == in_flight:
                pending.popleft().result()
        while pending:
            pending.popleft().result()


def certificates() -> Path:
    """A folder with throw-away certificates, shared by the processes of one run."""
    return Path(tempfile.gettempdir())
