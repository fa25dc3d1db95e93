"""A coverage-guided search for bytes that a decoder does not survive: `python -m benchmarks.fuzz_frames`.

Anything but a message or a `ProtocolViolation` is a finding: another exception, a hang, or more memory
than the session's limit allows. The bytes that led to it are left in the current folder.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit(
        "this command needs atheris, which has no build for every Python; install it with: pip install -e '.[fuzz]'"
    )

with atheris.instrument_imports(include=["parties.wire"]):
    from parties.wire import control
    from parties.wire.decoder import Decoder
    from parties.wire.frames import encode
    from parties.wire.layout import Rules

import torch

from parties.messages import Hello, Kind, ProtocolViolation, Role, TensorMessage
from split_models.tensor_spec import TensorSpec

MEMORY_MB = 1024  # the process with torch in it, and a few messages of the largest size
HANG_S = 5
STEP_SPECS = (TensorSpec((3, 2)), TensorSpec((), "int64"), TensorSpec((5,), "uint8"))
KINDS = {Kind.ACTIVATION: (TensorSpec((4,)),), Kind.TRAIN_STEP: STEP_SPECS}
RULES = [
    Rules(KINDS, wire_dtype, 1 << 20, 1 << 24, check_finite=True) for wire_dtype in ("float32", "float16", "bfloat16")
]


def feed_tensors(data: bytes) -> None:
    """Read `data` as one byte for the dtype on the wire, then pieces with two bytes of length before each."""
    decoder = Decoder(RULES[data[0] % len(RULES)]) if data else Decoder(RULES[0])
    start = 1
    while start < len(data):
        length = int.from_bytes(data[start : start + 2], "little")
        message = decoder.feed(data[start + 2 : start + 2 + length])
        start += 2 + length
        if message is not None and not all(torch.isfinite(tensor).all() for tensor in message.tensors):
            raise AssertionError("a message that is not finite got through")


def feed_control(data: bytes) -> None:
    """Read `data` as a typed message, as either end would."""
    message = control.unpack(control.MAGIC + data)
    body = message.WhichOneof("body")
    if body == "open":
        control.unpack_hello(message)
    elif body == "accepted":
        control.unpack_accepted(message.accepted)
    elif body == "failure" and len(str(control.unpack_failure(message.failure))) > control.MAX_TEXT:
        raise AssertionError("an unbounded text got through")


def one_input(data: bytes) -> None:
    """What atheris calls: the first byte says which reader is tried."""
    reader: Callable[[bytes], None] = feed_control if data[:1] == b"c" else feed_tensors
    with contextlib.suppress(ProtocolViolation):
        reader(data[1:])


def write_seeds(folder: Path) -> None:
    """A few valid inputs, so that the search starts behind the first checks."""
    spec = TensorSpec((4,))
    hello = Hello("owner", Role.INFERENCE, "model", "digest", "cut", spec)
    (folder / "hello").write_bytes(b"c" + control.pack_hello(hello)[len(control.MAGIC) :])
    small = TensorMessage(1, Kind.ACTIVATION, (torch.zeros(2, 4),))
    step = TensorMessage(
        2,
        Kind.TRAIN_STEP,
        (torch.ones(1, 3, 2), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.uint8)),
    )
    for number, rules in enumerate(RULES):
        pieces = [piece for message in (small, step) for piece in encode(message, rules)]
        framed = b"".join(len(piece).to_bytes(2, "little") + piece for piece in pieces)
        (folder / f"tensors-{number}").write_bytes(b"t" + bytes([number]) + framed)


def main() -> None:
    """Search for the given number of seconds; the exit status is 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long to search")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as seeds:
        write_seeds(Path(seeds))
        atheris.Setup(
            [
                sys.argv[0],
                seeds,
                f"-max_total_time={seconds}",
                f"-rss_limit_mb={MEMORY_MB}",
                f"-timeout={HANG_S}",
                "-max_len=8192",
                "-print_final_stats=1",
            ],
            one_input,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
