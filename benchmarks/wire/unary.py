"""The usual way: one unary call a tensor, its bytes in a protobuf field, nothing tuned."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import torch
from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks.wire.contender import REPLY_BYTES, Contender, Setting

METHOD = "/benchmark.Unary/Call"
OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.enable_http_proxy", 0),
]


class UnaryProtobuf(Contender):
    """`numpy().tobytes()` into a `bytes` field, and `torch.frombuffer` out of it."""

    def serve(self, setting: Setting) -> str:
        self._logits = torch.rand(REPLY_BYTES // 4)
        self._server = grpc.server(ThreadPoolExecutor(8), options=OPTIONS)
        handler = grpc.unary_unary_rpc_method_handler(self._answer, BytesValue.FromString, BytesValue.SerializeToString)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("benchmark.Unary", {"Call": handler}),)
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return f"127.0.0.1:{port}"

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        torch.frombuffer(bytearray(request.value), dtype=torch.float32)
        return BytesValue(value=self._logits.numpy().tobytes())

    def connect(self, address: str, setting: Setting) -> None:
        self._tensor = torch.rand(setting.size // 4)
        self._channel = grpc.insecure_channel(address, OPTIONS)
        self._call = self._channel.unary_unary(METHOD, BytesValue.SerializeToString, BytesValue.FromString)

    def disconnect(self) -> None:
        self._channel.close()

    def exchange(self, count: int, in_flight: int) -> None:
        pending: deque[Any] = deque()
        for _ in range(count):
            pending.append(self._call.future(BytesValue(value=self._tensor.numpy().tobytes())))
            if len(pending) == in_flight:
                self._read(pending.popleft())
        while pending:
            self._read(pending.popleft())

    def _read(self, call: Any) -> None:
        torch.frombuffer(bytearray(call.result().value), dtype=torch.float32)
