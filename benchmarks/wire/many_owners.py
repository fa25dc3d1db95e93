"""Many owners at one server at once: whether all are served alike."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from benchmarks.wire.contender import Contender, Setting
from benchmarks.wire.ours import FixedReply, open_channel, start_server
from parties.messages import Kind, TensorMessage
from parties.wire.client import GrpcChannel
from split_models.tensor_spec import TensorSpec

OWNERS = 64


class ManyOwners(Contender):
    """Every owner has a channel and a thread of its own; `computed_s` is the spread between them."""

    def serve(self, setting: Setting) -> str:
        self._server = start_server(FixedReply(), setting)
        return self._server.address

    def connect(self, address: str, setting: Setting) -> None:
        spec = TensorSpec((setting.size // 4,))
        self._tensor = torch.rand(1, *spec.shape, generator=torch.Generator().manual_seed(0))
        self._channels = [open_channel(address, setting, spec, party=f"owner-{number}") for number in range(OWNERS)]
        self._pool = ThreadPoolExecutor(OWNERS)
        self._spread_s, self._next_id = 0.0, 1

    def exchange(self, count: int, in_flight: int) -> None:
        ready = threading.Barrier(OWNERS)
        first, self._next_id = self._next_id, self._next_id + count

        def own(channel: GrpcChannel) -> float:
            ready.wait()
            for request_id in range(first, first + count):
                channel.call(TensorMessage(request_id, Kind.ACTIVATION, (self._tensor,)))
            return time.perf_counter()

        ends = list(self._pool.map(own, self._channels))
        self._spread_s = max(ends) - min(ends)

    def computed_s(self) -> float:
        return self._spread_s
