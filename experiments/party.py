"""What a party's process runs: `python -m experiments.party owner|server NAME`, obeying its standard input."""

from __future__ import annotations

from parties.tuning import tune_process

tune_process()  # takes effect only before torch and grpc are loaded by the imports below

# ruff: noqa: E402
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from attacks import AttackError
from defenses import DefenseError
from experiments.roles import OwnerRole, ServerRole
from experiments.transports import GrpcTransport
from parties.messages import SessionRefused, WireError
from parties.processes import obey
from split_models.checkpoints import CheckpointError

EXPECTED = (AttackError, CheckpointError, DefenseError, SessionRefused, WireError)


def main() -> None:
    """Be the party that the command line names until standard input ends."""
    kind, name = sys.argv[1:3]
    torch.set_num_threads(1)  # whatever the machine, so that results do not depend on it; attacks ask for more

    def methods(report: Callable[[float], None]) -> Mapping[str, Callable[..., Any]]:
        transport = GrpcTransport()
        if kind == "owner":
            owner = OwnerRole(name, transport)
            return {"begin": owner.begin, "infer": owner.infer, "end": owner.end}
        server = ServerRole(name, transport, report)
        return {name: getattr(server, name) for name in ("begin", "keep", "show", "attack", "end")}

    obey(methods, EXPECTED)


if __name__ == "__main__":
    main()
