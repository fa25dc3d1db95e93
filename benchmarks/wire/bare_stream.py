"""What gRPC in Python reaches by itself: one stream of bytes, nothing checked, no tensors, tuned as ours is."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import grpc

from benchmarks.wire.contender import REPLY_BYTES, Contender, Setting
from parties.wire.layout import CHUNK_BYTES, WHOLE_BYTES
from parties.wire.limits import Limits
from parties.wire.options import METHOD, METHOD_NAME, SERVICE, client_options, server_options
from parties.wire.session_threads import SessionThreads


class BareStream(Contender):
    """Pieces as large as ours, joined once as every sender has to; the server forgets them."""

    def serve(self, setting: Setting) -> str:
        self._size = setting.size
        self._server = grpc.server(SessionThreads(), options=server_options(Limits()))
        handlers = {METHOD_NAME: grpc.stream_stream_rpc_method_handler(self._answer)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return f"127.0.0.1:{port}"

    def _answer(self, pieces: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        reply, received = bytes(REPLY_BYTES), 0
        for piece in pieces:
            received += len(piece)
            if received == self._size:
                received = 0
                yield reply

    def connect(self, address: str, setting: Setting) -> None:
        self._payload = memoryview(bytearray(setting.size))
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(address, client_options(Limits()))
        self._replies = self._channel.stream_stream(METHOD)(self._pieces())

    def disconnect(self) -> None:
        self._requests.put(False)
        self._channel.close()

    def _pieces(self) -> Iterator[bytes]:
        size = len(self._payload) if len(self._payload) <= WHOLE_BYTES else CHUNK_BYTES
        while self._requests.get():
            for start in range(0, len(self._payload), size):
                yield b"".join((self._payload[start : start + size],))

    def exchange(self, count: int, in_flight: int) -> None:
        for sent in range(count):
            self._requests.put(True)
            if sent >= in_flight - 1:
                next(self._replies)
        for _ in range(min(count, in_flight - 1)):
            next(self._replies)
