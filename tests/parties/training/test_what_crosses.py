"""What crosses in training: as many bytes as the specs say, and all of it in the server's transcript."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from parties.channel import WireCost
from parties.messages import Kind
from parties.protocols import PROTOCOLS
from parties.protocols.protocol import COUNT, LOSS
from parties.training.owner import PrivateData
from parties.training.transcript import TrainingTranscript
from split_models.tensor_spec import TensorSpec
from tests.parties.training.games import Game, private_data

BATCHES = (8, 8, 6)
HEADER, WORD = 64, 8
CUTS = {"u_shaped": ("relu1", "fc2")}


def make_game(protocol: str, micro_batches: int = 1, wire_dtype: str = "float32") -> Game:
    cuts, owners = CUTS.get(protocol, "relu1"), 2 if PROTOCOLS[protocol].meets else 1
    data = [private_data(0), PrivateData(private_data(1).images, private_data(1).ids)][:owners]
    return Game(protocol, cuts, owners, data=data, micro_batches=micro_batches, wire_dtype=wire_dtype)


def play(game: Game) -> list[WireCost]:
    """One round of every owner; what it cost each."""
    channels = [game.channel(number) for number in range(game.owners)]
    game.channel = channels.__getitem__  # type: ignore[method-assign]
    if game.owners > 1:
        game.play_at_once(0, 0)
    else:
        game.play_round(0, 0, 0)
    return [channel.cost for channel in channels]


def frame_bytes(specs: tuple[TensorSpec, ...], samples: int, wire_dtype: str) -> int:
    """A header for each tensor and its numbers, filled up to whole words."""
    total = 0
    for spec in specs:
        rows = 1 if spec is COUNT or spec is LOSS else samples
        narrow = spec.torch_dtype.is_floating_point and wire_dtype != "float32"
        size = rows * spec.elements * (2 if narrow else spec.torch_dtype.itemsize)
        total += HEADER + -(-size // WORD) * WORD
    return total


def predicted(kinds: Mapping[Kind, tuple[TensorSpec, ...]], micro_batches: int, wire_dtype: str) -> int:
    """Bytes in one direction of a round, from what the protocol says that a session carries."""
    parts = [len(part) for batch in BATCHES for part in torch.arange(batch).tensor_split(micro_batches)]
    return sum(frame_bytes(specs, samples, wire_dtype) for specs in kinds.values() for samples in parts)


@pytest.mark.parametrize("wire_dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "protocol, micro_batches",
    [(name, k) for name, protocol in PROTOCOLS.items() for k in (1, 3)[: 1 + protocol.pipelines]],
)
def test_bytes_of_a_round_are_as_the_specs_predict(protocol: str, micro_batches: int, wire_dtype: str) -> None:
    game = make_game(protocol, micro_batches, wire_dtype)
    position = frame_bytes((COUNT,), 1, wire_dtype)
    for name, cost in zip(game.names, play(game), strict=True):
        terms = PROTOCOLS[protocol](game.names, 1.0).terms(game.boundary, name)
        resume_and_checkpoint = position + frame_bytes((COUNT, COUNT), 1, wire_dtype)
        assert cost.bytes_up == predicted(terms.requests, micro_batches, wire_dtype) + resume_and_checkpoint
        assert cost.bytes_down == predicted(terms.replies, micro_batches, wire_dtype) + 2 * position


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_transcript_holds_what_crossed_and_labels_only_where_they_are_shown(protocol: str, tmp_path: Path) -> None:
    game = make_game(protocol)
    game.server._transcript = TrainingTranscript(tmp_path, 1 << 24)
    play(game)
    seen = [load_file(path) for path in sorted(tmp_path.glob("owner-*/*.safetensors"))]
    assert len(seen) == len(BATCHES) * (2 if game.owners > 1 or protocol == "u_shaped" else 1)
    names = {name for exchange in seen for name in exchange}
    terms = PROTOCOLS[protocol](game.names, 1.0).terms(game.boundary, game.names[0])
    for way, kinds in (("came", terms.requests), ("went", terms.replies)):
        expected = {f"{way}.{kind.name.lower()}.{index}" for kind in kinds for index in range(len(kinds[kind]))}
        assert {name for name in names if name.startswith(way)} == expected
    gradients = [exchange["went.gradient.0"] for exchange in seen if "went.gradient.0" in exchange]
    assert len(gradients) == len(BATCHES) * game.owners
    assert all(gradient.shape[1:] == game.boundary.activation.shape and gradient.any() for gradient in gradients)
    labels = {tuple(game.data[0].labels.sort().values.tolist())}  # type: ignore[union-attr]
    whole = [torch.cat(columns).sort().values for columns in _by_name(seen).values() if columns[0].dtype is torch.int64]
    assert any(tuple(column.tolist()) in labels for column in whole) is PROTOCOLS[protocol].labels_to_server


def _by_name(seen: list[dict[str, torch.Tensor]]) -> dict[str, list[torch.Tensor]]:
    found: dict[str, list[torch.Tensor]] = {}
    for exchange in seen:
        for name, tensor in exchange.items():
            found.setdefault(name, []).append(tensor)
    return found
