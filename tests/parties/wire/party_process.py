"""A server or an owner in a process of its own, for tests that kill or freeze one.

    python -m tests.parties.wire.party_process server ADDRESS LIMITS_JSON
    python -m tests.parties.wire.party_process owner ADDRESS LIMITS_JSON

A server prints its address; an owner prints "open" once it has a session, then waits.
"""

from __future__ import annotations

import json
import sys

from parties.wire.client import GrpcChannel
from parties.wire.drain import serve_until_told
from parties.wire.limits import Limits
from parties.wire.server import GrpcServer
from tests.parties.wire.endpoints import Moody, activation, hello


def main() -> None:
    role, address, limits = sys.argv[1], sys.argv[2], Limits(**json.loads(sys.argv[3]))
    if role == "server":
        server = GrpcServer(Moody(), address, limits=limits)
        print(server.address, flush=True)  # noqa: T201
        serve_until_told(server, grace_s=8)
    else:
        with GrpcChannel(address, hello(party="frozen"), limits=limits) as channel:
            channel.call(activation(1))
            print("open", flush=True)  # noqa: T201
            sys.stdin.read()


if __name__ == "__main__":
    main()
