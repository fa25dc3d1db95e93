"""A bare socket and buffers that exist already: the limit."""

from __future__ import annotations

import socket
import threading

from benchmarks.wire.contender import REPLY_BYTES, Contender, Setting


class RawTcp(Contender):
    """Sends the same bytes from one buffer into another, without looking at them."""

    def serve(self, setting: Setting) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._answer, args=(listener, setting.size), daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def _answer(self, listener: socket.socket, size: int) -> None:
        buffer, reply = memoryview(bytearray(size)), bytes(REPLY_BYTES)
        while True:
            peer, _ = listener.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while _receive(peer, buffer):
                    peer.sendall(reply)

    def connect(self, address: str, setting: Setting) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._payload, self._reply = bytearray(setting.size), memoryview(bytearray(REPLY_BYTES))

    def disconnect(self) -> None:
        self._socket.close()

    def exchange(self, count: int, in_flight: int) -> None:
        for sent in range(count):
            self._socket.sendall(self._payload)
            if sent >= in_flight - 1:
                _receive(self._socket, self._reply)
        for _ in range(min(count, in_flight - 1)):
            _receive(self._socket, self._reply)


def _receive(peer: socket.socket, buffer: memoryview) -> bool:
    got = 0
    while got < len(buffer):
        more = peer.recv_into(buffer[got:])
        if not more:
            return False
        got += more
    return True
