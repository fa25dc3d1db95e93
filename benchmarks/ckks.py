"""What encrypted activations cost: `python -m benchmarks.ckks`.

Sends the same activations through the same linear layer in plain and encrypted, over gRPC and in turns, and prints
bytes and medians of seconds with their ratios, and how far the decrypted answers are from the plain ones. Writes a
record.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn

from experiments.provenance import provenance
from parties.compute_server import ComputeServer, SplitPoint
from parties.encrypted import EncryptedServer, EncryptingOwner
from parties.messages import Hello, Kind, Role, TensorMessage
from parties.transcript import Transcript
from parties.wire.client import GrpcChannel
from parties.wire.server import GrpcServer
from split_models.checkpoints import write_atomically
from split_models.randomness import generator_for, layers_from
from split_models.tensor_spec import TensorSpec

RECORD = Path("experiments/reproductions/ckks/ckks.json")
POINT = SplitPoint("lenet", "0" * 64, "flatten")


def measure(features: int, outputs: int, images: int, rounds: int) -> dict[str, float]:
    """Bytes and seconds an image, plain and encrypted, and the largest error of an answer."""
    generator = generator_for(0, "benchmark")
    with layers_from(generator):
        layer = nn.Linear(features, outputs).requires_grad_(False)
    given = torch.randn(images, features, generator=generator)
    start = time.perf_counter()
    owner = EncryptingOwner("owner", POINT)
    keys = owner.public_keys()
    encrypted = EncryptedServer(layer, POINT, keys, Transcript())
    setup_s = time.perf_counter() - start
    spec = TensorSpec((features,))
    plain = ComputeServer(layer, POINT, spec, outputs, Transcript())
    hello = Hello("owner", Role.INFERENCE, POINT.model, POINT.model_digest, POINT.cut, spec)
    taken: dict[str, list[float]] = {"plain": [], "encrypted": []}
    with (
        GrpcServer(plain) as open_server,
        GrpcServer(encrypted) as closed_server,
        GrpcChannel(open_server.address, hello) as open_channel,
        GrpcChannel(closed_server.address, owner.hello()) as closed_channel,
    ):
        for number in range(1, rounds + 1):
            start = time.perf_counter()
            expected = open_channel.call(TensorMessage(number, Kind.ACTIVATION, (given,))).tensor
            between = time.perf_counter()
            found = owner.call(closed_channel, number, given)
            taken["plain"].append(between - start)
            taken["encrypted"].append(time.perf_counter() - between)
        costs = {"plain": open_channel.cost, "encrypted": closed_channel.cost}
    results = {"public_key_bytes": len(keys), "setup_s": setup_s}
    for name, cost in costs.items():
        results[f"{name}_bytes_up"] = cost.bytes_up / (rounds * images)
        results[f"{name}_bytes_down"] = cost.bytes_down / (rounds * images)
        results[f"{name}_seconds"] = median(taken[name]) / images
    return {**results, "largest_error": float((found - expected).abs().max())}


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=256, help="of one activation; LeNet's on MNIST has 256")
    parser.add_argument("--outputs", type=int, default=120, help="of the server's layer")
    parser.add_argument("--images", type=int, default=1, help="in a message")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", type=Path, default=RECORD, help="where the record goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {name: value for name, value in vars(options).items() if name != "record"}
    found = measure(**settings)
    ratios = {
        what: found[f"encrypted_{what}"] / found[f"plain_{what}"] for what in ("bytes_up", "bytes_down", "seconds")
    }
    for what, ratio in ratios.items():
        plain, encrypted = found[f"plain_{what}"], found[f"encrypted_{what}"]
        print(f"{what} an image: {plain:,.4g} plain, {encrypted:,.6g} encrypted, x{ratio:,.0f}")
    print(f"once: {found['public_key_bytes']:,} bytes of public keys, {found['setup_s']:.2g} s to make and load them")
    print(f"largest error of an answer: {found['largest_error']:.1e}")
    results = {**found, "ratios": ratios}
    record = {"command": "python -m benchmarks.ckks", **settings, "results": results, "provenance": provenance()}
    write_atomically(options.record, (json.dumps(record, indent=1) + "\n").encode())
    print(f"record: {options.record}")


if __name__ == "__main__":
    main()
