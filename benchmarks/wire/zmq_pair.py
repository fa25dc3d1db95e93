"""A peer: ZeroMQ, without copies where it offers that."""

from __future__ import annotations

import threading

import torch
import zmq

from benchmarks.wire.contender import REPLY_BYTES, Contender, Setting


class ZeroMq(Contender):
    """A dealer and a router, so that several requests may be in flight."""

    def serve(self, setting: Setting) -> str:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        threading.Thread(target=self._answer, args=(socket,), daemon=True).start()
        return f"127.0.0.1:{port}"

    def _answer(self, socket: zmq.Socket[bytes]) -> None:
        logits = torch.rand(REPLY_BYTES // 4)
        while True:
            sender, payload = socket.recv_multipart(copy=False)
            torch.frombuffer(payload.buffer, dtype=torch.float32)
            socket.send_multipart([sender.bytes, logits.numpy().tobytes()])

    def connect(self, address: str, setting: Setting) -> None:
        self._tensor = torch.rand(setting.size // 4)
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.connect(f"tcp://{address}")

    def disconnect(self) -> None:
        self._socket.close()

    def exchange(self, count: int, in_flight: int) -> None:
        for sent in range(count):
            self._socket.send(self._tensor.numpy().data, copy=False)
            if sent >= in_flight - 1:
                self._read()
        for _ in range(min(count, in_flight - 1)):
            self._read()

    def _read(self) -> None:
        torch.frombuffer(bytearray(self._socket.recv()), dtype=torch.float32)
