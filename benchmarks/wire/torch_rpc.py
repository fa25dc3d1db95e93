"""A peer: torch's own remote calls over TCP. It pickles, so it is for parties that trust each other."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from typing import Any

import torch
from torch.distributed import rpc

from benchmarks.wire.contender import REPLY_BYTES, Contender, Setting

LOGITS = torch.rand(REPLY_BYTES // 4, generator=torch.Generator().manual_seed(0))


def reply_to(tensor: torch.Tensor) -> torch.Tensor:
    """What runs at the server."""
    return LOGITS


class TorchRpc(Contender):
    """`rpc_async` with the TensorPipe backend."""

    def serve(self, setting: Setting) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        threading.Thread(target=_join, args=("server", 0, address), daemon=True).start()
        return address

    def connect(self, address: str, setting: Setting) -> None:
        if not hasattr(self, "_tensor"):  # a process joins once
            self._tensor = torch.rand(setting.size // 4)
            _join("owner", 1, address)

    def exchange(self, count: int, in_flight: int) -> None:
        pending: deque[Any] = deque()
        for _ in range(count):
            pending.append(rpc.rpc_async("server", reply_to, args=(self._tensor,)))
            if len(pending) == in_flight:
                pending.popleft().wait()
        while pending:
            pending.popleft().wait()


def _join(name: str, rank: int, address: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("TP_SOCKET_IFNAME", "lo")
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"tcp://{address}", num_worker_threads=4, _transports=["uv"], _channels=["basic"]
    )
    rpc.init_rpc(
        name,
        rank=rank,
        world_size=2,
        rpc_backend_options=options,
    )
