"""Two ways for parties to reach each other: gRPC between processes, or calls inside one."""

from __future__ import annotations

import itertools
from typing import Protocol

from parties.channel import Channel, Endpoint
from parties.in_process import InProcessChannel
from parties.messages import Hello, WireError
from parties.wire.client import GrpcChannel
from parties.wire.limits import Limits
from parties.wire.server import GrpcServer


class Transport(Protocol):
    """Publishes endpoints under addresses and opens sessions with them."""

    def serve(self, endpoint: Endpoint) -> str:
        """Publish an endpoint; returns the address under which others find it."""
        ...

    def connect(self, address: str, hello: Hello) -> Channel:
        """Open a session with whoever serves at an address."""
        ...

    def close(self) -> None:
        """Take all endpoints of this side away."""
        ...


class GrpcTransport:
    """Serves on a free port of the loopback interface."""

    # A party of a simulation that is gone will not come back: its death ends the run at once.
    LIMITS = Limits(reconnect_within_s=0.0, keepalive_timeout_s=600.0, request_timeout_s=600.0)

    def __init__(self) -> None:
        self._servers: list[GrpcServer] = []

    def serve(self, endpoint: Endpoint) -> str:
        """Publish an endpoint; returns `host:port`."""
        server = GrpcServer(endpoint, "127.0.0.1:0", limits=self.LIMITS)
        server.start()
        self._servers.append(server)
        return server.address

    def connect(self, address: str, hello: Hello) -> GrpcChannel:
        """Open a gRPC session."""
        return GrpcChannel(address, hello, limits=self.LIMITS)

    def close(self) -> None:
        """Stop all servers."""
        for server in self._servers:
            server.stop(0.5)
        self._servers.clear()


class InProcessTransport:
    """Endpoints in this process, by name; shared by all roles of a run."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._numbers = itertools.count()

    def serve(self, endpoint: Endpoint) -> str:
        """Publish an endpoint under a made-up name."""
        address = f"in-process:{next(self._numbers)}"
        self._endpoints[address] = endpoint
        return address

    def connect(self, address: str, hello: Hello) -> InProcessChannel:
        """Open a session with an endpoint of this process.

        Raises:
            WireError: nobody serves there.
        """
        if address not in self._endpoints:
            raise WireError(f"nobody serves at {address}; the endpoint was closed")
        return InProcessChannel(self._endpoints[address], hello, limits=GrpcTransport.LIMITS)

    def close(self) -> None:
        """Forget all endpoints."""
        self._endpoints.clear()
