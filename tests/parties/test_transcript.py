"""What the server remembers, and how it is kept."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import pytest
import torch

from parties.transcript import FORMAT, Transcript
from split_models.checkpoints import CheckpointError, load_tensors, save_tensors

MESSAGES = [
    (party, request, torch.full((size, 2, 3), 10.0 * request + (party == "b")))
    for (party, request), size in zip(itertools.product("ab", (1, 2, 10)), (1, 4, 2, 3, 1, 2), strict=True)
]


def remembered(messages: list[tuple[str, int, torch.Tensor]]) -> Transcript:
    transcript = Transcript()
    for message in messages:
        transcript.append(*message)
    return transcript


def test_the_order_is_that_of_owners_and_requests_not_of_arrival() -> None:
    expected = torch.cat([tensor for _, _, tensor in MESSAGES])
    rows = [(party, request, row) for party, request, tensor in MESSAGES for row in range(len(tensor))]
    for order in itertools.permutations(range(len(MESSAGES))):
        transcript = remembered([MESSAGES[i] for i in order])
        assert torch.equal(transcript.activations, expected)
        assert transcript.rows == rows


def test_it_keeps_a_copy_of_its_own() -> None:
    transcript, tensor = Transcript(), torch.ones(2, 3, requires_grad=True)
    transcript.append("a", 1, tensor)
    with torch.no_grad():
        tensor.zero_()
    assert torch.equal(transcript.activations, torch.ones(2, 3))
    assert not transcript.activations.requires_grad


def test_what_was_sent_again_is_remembered_once() -> None:
    transcript = Transcript()
    for activations in (torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3)):
        transcript.append("alice", 1, activations)
    assert torch.equal(transcript.activations, torch.cat([torch.zeros(2, 3), torch.ones(2, 3)]))


def test_several_sessions_may_write_at_once() -> None:
    transcript = Transcript()

    def write(party: str) -> None:
        for request in range(200):
            transcript.append(party, request, torch.tensor([[float(request)]]))

    writers = [threading.Thread(target=write, args=(f"owner-{n}",)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(transcript.rows) == 800
    assert transcript.activations.flatten().tolist() == list(range(200)) * 4


def test_an_empty_one_says_so() -> None:
    with pytest.raises(ValueError, match="no owner has sent"):
        _ = Transcript().activations
    assert Transcript().rows == []


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "seen.safetensors"
    messages = [*MESSAGES, ("ö wner", 2**60, torch.tensor([[[1e-42, float("inf"), -0.0]] * 2]))]
    remembered(messages).save(path)
    loaded = Transcript.load(path)
    assert loaded.rows == remembered(messages).rows
    assert torch.equal(loaded.activations, remembered(messages).activations)
    loaded.append("z", 1, torch.zeros(1, 2, 3))
    assert len(loaded.sightings) == len(messages) + 1


def test_an_empty_one_comes_back_from_disk(tmp_path: Path) -> None:
    Transcript().save(tmp_path / "seen")
    assert Transcript.load(tmp_path / "seen").rows == []


def test_another_file_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "other", {"0": torch.zeros(1)}, {"format": "unsmash-checkpoint-1"})
    with pytest.raises(CheckpointError, match=f"expected a {FORMAT} file"):
        Transcript.load(tmp_path / "other")
    with pytest.raises(CheckpointError, match="cannot read"):
        Transcript.load(tmp_path / "missing")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    remembered(MESSAGES).save(path)
    content = path.read_bytes()
    for size in (0, 8, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="cannot read"):
            Transcript.load(path)


@pytest.mark.parametrize(
    "keys",
    [
        *(None, "", "{", "null", "3", '"ab"', '{"a": 1}', "[1]", '[["a"]]', '[["a", 1, 2]]', '[["a", "one"]]'),
        *('[["a", null]]', '[["a", 1], ["b", 1]]', '[["a", 1e999]]', "[]"),
    ],
)
def test_a_broken_list_of_sightings_is_refused(tmp_path: Path, keys: str | None) -> None:
    path = tmp_path / "seen"
    remembered(MESSAGES[:1]).save(path)
    tensors, metadata = load_tensors(path)
    assert json.loads(metadata["sightings"]) == [["a", 1]]
    rest = {"format": FORMAT} if keys is None else {"format": FORMAT, "sightings": keys}
    save_tensors(path, tensors, rest)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Transcript.load(path)


@pytest.mark.parametrize(
    "second", [torch.zeros(()), torch.zeros(2, 3), torch.zeros(2, 2, 4), torch.zeros(1, 2, 3).long()]
)
def test_sightings_that_do_not_belong_together_are_refused(tmp_path: Path, second: torch.Tensor) -> None:
    keys = json.dumps([["a", 1], ["a", 2]])
    save_tensors(tmp_path / "x", {"0": torch.zeros(2, 2, 3), "1": second}, {"format": FORMAT, "sightings": keys})
    with pytest.raises(CheckpointError, match="cannot be read"):
        Transcript.load(tmp_path / "x")
