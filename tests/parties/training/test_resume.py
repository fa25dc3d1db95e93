"""Interrupted training ends with the weights of training that was not."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from parties.messages import Kind, TensorMessage, WireError
from parties.training.owner import Progress
from parties.training.transcript import TrainingTranscript
from tests.parties.training.games import Game, same


def interrupted(game: Game, batches: int) -> tuple[Progress, dict[str, torch.Tensor], torch.Tensor]:
    """Play some batches, keep a checkpoint on both sides, play one more, and lose it."""
    owner, channel = game.players[0], game.channel(0)
    owner.connect(channel)
    owner.resume(0)
    playing = owner.play(Progress(0))
    for _ in range(batches):
        progress = next(playing)
    owner.checkpoint(progress)
    kept = {name: tensor.clone() for name, tensor in owner.learner.state().items()}, owner.generator.get_state()
    next(playing)
    return progress, *kept


@pytest.mark.parametrize("protocol, cuts", [("vanilla", "relu1"), ("u_shaped", ("relu1", "fc2"))])
@pytest.mark.parametrize("lost", ["owner", "server", "both"])
def test_either_side_may_be_lost_in_mid_epoch(
    protocol: str, cuts: str | tuple[str, str], lost: str, tmp_path: Path
) -> None:
    def game(folder: Path) -> Game:
        return Game(protocol, cuts, defense="gaussian_noise", settings={"sigma": 0.2}, folder=folder)

    whole, broken = game(tmp_path / "whole"), game(tmp_path / "broken")
    whole.play_round(0, 0, 0)
    progress, state, randomness = interrupted(broken, batches=1)
    if lost != "owner":
        broken.server = broken.new_server()
    if lost != "server":
        broken.players[0] = broken.new_owner(0)
    owner = broken.players[0]
    owner.learner.load(state, progress.position)
    owner.generator.set_state(randomness)
    owner.connect(broken.channel(0))
    owner.resume(progress.position)
    *_, progress = owner.play(progress)
    assert progress.batch == owner.batches_a_round
    assert same(broken.whole(), whole.whole())


def test_a_position_that_nobody_kept_is_refused(tmp_path: Path) -> None:
    game = Game("vanilla", folder=tmp_path)
    game.play_round(0, 0, 0)
    with pytest.raises(WireError, match="expected to go on after 3 batches, got 2"):
        game.play_round(0, 0, 2)
    channel = game.channel(0)
    with pytest.raises(WireError, match="after 3 batches"):
        channel.call(TensorMessage(1, Kind.CHECKPOINT, (torch.tensor([7]), torch.tensor([0]))))


def test_a_turn_that_was_given_up_leaves_nothing(tmp_path: Path) -> None:
    game = Game("sequential", owners=2, folder=tmp_path)
    end = game.play_round(0, 0, 0).position
    after_first = {name: weight.clone() for name, weight in game.server_weights().items()}
    owner = game.players[1]
    owner.connect(game.channel(1))
    owner.resume(end)
    playing = owner.play(Progress(0, position=end))
    owner.checkpoint(next(playing))
    next(playing)
    owner.resume(end)
    assert same(game.server_weights(), after_first)
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [f"{end:012}.turn.safetensors"]


def test_an_average_asked_for_again_is_the_same(tmp_path: Path) -> None:
    game = Game("splitfed_v1", owners=2, folder=tmp_path)
    positions = {name: game.play_round(number, 0, 0).position for number, name in enumerate(game.names)}
    samples = {"owner-1": 22, "owner-2": 11}
    game.server.average(0, samples, positions)
    once = {name: weight.clone() for name, weight in game.server_weights("owner-1").items()}
    game.server = game.new_server()
    game.server.average(0, samples, positions)
    assert same(game.server_weights("owner-1"), once)
    assert same(game.server_weights("owner-2"), once)


def test_an_owner_left_out_of_an_average_goes_on_from_it(tmp_path: Path) -> None:
    game = Game("splitfed_v1", owners=2, folder=tmp_path)
    kept = game.play_round(0, 0, 0).position
    alone = {name: weight.clone() for name, weight in game.server_weights("owner-1").items()}
    owner = game.players[1]
    owner.connect(game.channel(1))
    owner.resume(0)
    owner.checkpoint(Progress(0))
    next(owner.play(Progress(0)))
    game.server.average(0, {"owner-1": 22}, {"owner-1": kept, "owner-2": 0})
    assert same(game.server_weights("owner-2"), alone)


def test_the_transcript_of_training_keeps_within_its_bound(tmp_path: Path) -> None:
    transcript = TrainingTranscript(tmp_path, max_bytes=20_000)
    for step in range(200):
        transcript.append("owner-1", step, step + 1, {"came": torch.full((250,), float(step))})
    files = sorted(tmp_path.glob("*/*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= 20_000
    steps = [int(path.name[:9]) for path in files]
    assert len(steps) > 8
    assert {later - earlier for earlier, later in pairwise(steps)} == {steps[1]}
    again = TrainingTranscript(tmp_path, max_bytes=20_000)
    again.append("owner-1", 201, 1, {"came": torch.zeros(250)})
    assert len(sorted(tmp_path.glob("*/*.safetensors"))) == len(files)


def test_a_transcript_that_holds_the_first_step_alone_is_opened_again(tmp_path: Path) -> None:
    TrainingTranscript(tmp_path, max_bytes=1500).append("owner-1", 0, 1, {"came": torch.ones(250)})
    again = TrainingTranscript(tmp_path, max_bytes=1500)
    for step in (1, 2, 3):
        again.append("owner-1", step, 1, {"came": torch.ones(250)})
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 1
