"""Vertical training: several owners of the same samples, one step at a time, or none."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn.functional import cross_entropy

from defenses import make_defense
from parties.messages import Kind, TensorMessage, WireError
from parties.training.meeting import Meeting
from parties.training.owner import PrivateData
from split_models.split_model import split
from tests.parties.training.games import Game, fresh_network, private_data, rows_of_round, same


def make_game(ids: torch.Tensor | None = None, defense: str = "none", **settings: float) -> Game:
    first, second = private_data(0), private_data(1)
    data = [first, PrivateData(second.images, first.ids if ids is None else ids)]
    return Game("vertical", "pool1", 2, data=data, defense=defense, settings=settings)


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_it_is_bit_identical_to_one_process(weight: float) -> None:
    game, guard = make_game(defense="nopeek", weight=weight), make_defense("nopeek", {"weight": weight})
    for round_number in range(2):
        game.play_at_once(round_number, 3 * round_number)
    heads, joint = [split(fresh_network(), "pool1").head for _ in range(2)], game.server_layers()
    optimizers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (*heads, joint)]
    for round_number in range(2):
        for rows in rows_of_round(game.data[0], 0, round_number):
            images, labels = [data.images[rows] for data in game.data], game.data[0].labels[rows]  # type: ignore[index]
            activations = [head(own) for head, own in zip(heads, images, strict=True)]
            loss = cross_entropy(joint(torch.cat([activation.flatten(1) for activation in activations], 1)), labels)
            for own, activation in zip(images, activations, strict=True):
                loss = loss + guard.training_loss(own, activation, labels, torch.Generator())
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert same(game.server_weights(), dict(joint.state_dict()))
    for number, head in enumerate(heads):
        assert same(game.owner_weights(number), dict(head.state_dict()))


def test_only_the_first_owner_sends_labels_and_hears_of_the_loss() -> None:
    game = make_game()
    terms = [game.channel(number).terms for number in range(2)]
    assert [len(term.requests[Kind.TRAIN_STEP]) for term in terms] == [3, 2]
    assert [len(term.replies[Kind.GRADIENT]) for term in terms] == [2, 1]


def test_other_sample_ids_stop_the_step_and_change_nothing() -> None:
    game = make_game(ids=torch.arange(22).flip(0))
    before = {name: weight.clone() for name, weight in game.server_weights().items()}
    with pytest.raises(WireError, match="same sample ids"):
        game.play_at_once(0, 0)
    assert same(game.server_weights(), before)


def test_logits_go_to_the_owner_of_the_labels_alone() -> None:
    game = make_game()
    for number in range(2):
        game.players[number].connect(game.channel(number))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(player.predict, data.images) for player, data in zip(game.players, game.data, strict=True)]
    logits = [answer.result() for answer in asked]
    assert logits[0].abs().sum() > 0
    assert logits[1].abs().sum() == 0


def test_nobody_waits_for_ever() -> None:
    meeting = Meeting(("a", "b"), patience_s=0.05)
    with pytest.raises(WireError, match=r"waited 0\.05 s for b"):
        meeting.bring("a", (), lambda brought: {})


def test_nobody_waits_for_one_who_left() -> None:
    game = make_game()
    left = game.channel(1)
    threading.Timer(0.1, left.close).start()
    channel, activation = game.channel(0), torch.zeros(2, *game.boundary.activation.shape)
    with pytest.raises(WireError, match="owner-2 has left"):
        channel.call(
            TensorMessage(1, Kind.TRAIN_STEP, (activation, torch.arange(2), torch.zeros(2, dtype=torch.int64)))
        )
