"""Every protocol reaches the weights of its single-process twin, and no other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from defenses import TrainingPlan, make_defense
from parties.messages import Kind, SessionRefused, TensorMessage, WireError
from parties.protocols import ProtocolError, find_protocol
from parties.training.learner import federated_average
from split_models.randomness import generator_for
from split_models.split_model import split
from tests.parties.training.games import OPTIMISERS, SPEC, Game, fresh_network, private_data, rows_of_round, same

ROUNDS = 2


def alone(game: Game, micro_batches: int = 1) -> dict[str, Tensor]:
    """The same network trained by one process on owners' batches in turn."""
    model = fresh_network()
    optimizer = game.optimiser.over(list(model.parameters()))
    assert optimizer
    parts = split(model, game.cuts)
    guard = make_defense(game.defense, dict(game.settings))
    guard.attach(SPEC, game.boundary.activation)
    plan = TrainingPlan(len(game.data[0].ids), 8, ROUNDS)
    with guard.around_training(parts.head, plan, generator_for(0)) as ended_batch:
        for round_number in range(ROUNDS):
            for seed, data in enumerate(game.data):
                noise = generator_for(seed, "defense", round_number)
                for rows in rows_of_round(data, seed, round_number):
                    for part in rows.tensor_split(micro_batches):
                        share, images, labels = len(part) / len(rows), data.images[part], data.labels[part]
                        activation = parts.head(images)
                        added = guard.training_loss(images, activation, labels, noise) if guard.trains else 0
                        outputs = guard.protect(activation, noise)
                        for later in parts.parts[1:]:
                            outputs = later(outputs)
                        (cross_entropy(outputs, labels) * share + added * share).backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    ended_batch()
    return dict(model.state_dict())


def play_turns(game: Game) -> None:
    """Owners take turns, and pass everything on."""
    position = 0
    for round_number in range(ROUNDS):
        for number, player in enumerate(game.players):
            if number or round_number:
                last = game.players[number - 1].learner
                player.learner.load(last.state(), last.position)
            position = game.play_round(number, round_number, position).position


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize(
    "protocol, cuts, owners",
    [
        ("vanilla", "relu1", 1),
        ("vanilla", "normalize", 1),
        ("u_shaped", ("pool1", "fc2"), 1),
        ("u_shaped", ("relu1", "relu4"), 2),
        ("sequential", "relu2", 1),
        ("sequential", "relu1", 3),
    ],
)
def test_it_is_bit_identical_to_one_process(
    protocol: str, cuts: str | tuple[str, str], owners: int, optimiser: str
) -> None:
    game = Game(protocol, cuts, owners, OPTIMISERS[optimiser])
    play_turns(game)
    expected = alone(game)
    assert not same(expected, dict(fresh_network().state_dict()))
    assert same(game.whole(owners - 1), expected)


@pytest.mark.parametrize("protocol, cuts", [("vanilla", "relu1"), ("u_shaped", ("relu1", "fc2"))])
def test_micro_batches_are_bit_identical_to_gathered_gradients(protocol: str, cuts: str | tuple[str, str]) -> None:
    game = Game(protocol, cuts, micro_batches=3)
    play_turns(game)
    assert same(game.whole(), alone(game, micro_batches=3))


@pytest.mark.parametrize("protocol, cuts", [("vanilla", "relu1"), ("u_shaped", ("relu1", "fc2"))])
@pytest.mark.parametrize(
    "defense, settings",
    [
        ("nopeek", {"weight": 2.0}),
        ("nopeek", {"weight": 2.0, "warmup": 1.0}),
        ("gaussian_noise", {"sigma": 0.3}),
        ("dropout_mask", {"rate": 0.3}),
    ],
)
def test_a_defense_acts_in_training(
    protocol: str, cuts: str | tuple[str, str], defense: str, settings: dict[str, float]
) -> None:
    game = Game(protocol, cuts, defense=defense, settings=settings)
    play_turns(game)
    expected = alone(game)
    assert same(game.whole(), expected)
    assert not same(expected, alone(Game(protocol, cuts)))


def splitfed_twin(game: Game, copies: bool) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """SplitFed written out: heads with optimisers of their own, averaged; the server's layers copied, or shared."""
    models = [split(fresh_network(), "relu1") for _ in game.data]
    heads = [model.head for model in models]
    tails = [model.tail for model in models] if copies else [models[0].tail]
    head_steps = [torch.optim.Adam(head.parameters(), lr=1e-3) for head in heads]
    tail_steps = [torch.optim.Adam(tail.parameters(), lr=1e-3) for tail in tails]
    sizes = [len(data.ids) for data in game.data]
    for round_number in range(ROUNDS):
        for number, data in enumerate(game.data):
            tail, step = (tails[number], tail_steps[number]) if copies else (tails[0], tail_steps[0])
            for rows in rows_of_round(data, number, round_number):
                loss = cross_entropy(tail(heads[number](data.images[rows])), data.labels[rows])
                loss.backward()
                for optimizer in (head_steps[number], step):
                    optimizer.step()
                    optimizer.zero_grad()
        for group in (heads, tails) if copies else (heads,):
            _average(group, sizes)
    return [dict(head.state_dict()) for head in heads], dict(tails[0].state_dict())


def _average(group: list[nn.Sequential], sizes: list[int]) -> None:
    states = [module.state_dict() for module in group]
    mean = {name: sum(s[name] * (n / sum(sizes)) for s, n in zip(states, sizes, strict=True)) for name in states[0]}
    for module in group:
        module.load_state_dict(mean)


@pytest.mark.parametrize("protocol", ["splitfed_v1", "splitfed_v2"])
def test_splitfed_equals_its_written_out_counterpart(protocol: str) -> None:
    data = [private_data(number, count) for number, count in enumerate((22, 10, 17))]
    game, position = Game(protocol, owners=3, data=data), [0, 0, 0]
    for round_number in range(ROUNDS):
        for number in range(3):
            here = position[number] if protocol == "splitfed_v1" else max(position)
            position[number] = game.play_round(number, round_number, here).position
        sizes = [len(owned.ids) for owned in data]
        heads = federated_average([player.learner.weights("head") for player in game.players], sizes)
        for player in game.players:
            player.learner.load_weights(heads)
        if protocol == "splitfed_v1":
            game.server.average(
                round_number, dict(zip(game.names, sizes, strict=True)), dict(zip(game.names, position, strict=True))
            )
    expected_heads, expected_tail = splitfed_twin(game, copies=protocol == "splitfed_v1")
    for number in range(3):
        assert same(game.owner_weights(number), expected_heads[number])
    for name in game.names if protocol == "splitfed_v1" else ["shared"]:
        assert same(game.server_weights(name), expected_tail)


def test_settings_that_a_protocol_cannot_have_are_refused() -> None:
    for settings, word in (
        ({"cuts": 2}, "cut"),
        ({"owners": 2}, "owners"),
        ({"labels_to_server": False}, "labels"),
    ):
        with pytest.raises(ProtocolError, match=word):
            find_protocol("vanilla").check(
                **{"cuts": 1, "owners": 1, "micro_batches": 1, "labels_to_server": None, **settings}
            )
    with pytest.raises(ProtocolError, match="micro_batches"):
        find_protocol("vertical").check(1, 2, 2, None)
    with pytest.raises(ProtocolError, match="vanilla"):
        find_protocol("vanila")


def test_a_u_shaped_session_has_no_place_for_labels() -> None:
    game = Game("u_shaped", ("relu1", "fc2"))
    for specs in game.channel(0).terms.requests.values():
        assert all(spec.dtype != "int64" or spec.shape == () for spec in specs)
    activation = torch.zeros(4, *game.boundary.activation.shape)
    with pytest.raises(WireError, match="not TRAIN_STEP"):
        game.channel(0).call(TensorMessage(1, Kind.TRAIN_STEP, (activation, torch.zeros(4, dtype=torch.int64))))


def test_another_protocol_at_the_other_end_is_refused() -> None:
    game = Game("u_shaped", ("relu1", "fc2"))
    game.point = type(game.point)("lenet", "d" * 16, "vanilla at relu1")
    with pytest.raises(SessionRefused, match="u_shaped"):
        game.channel(0)


@pytest.mark.parametrize(
    "labels, whole, word",
    [([0, 9], [2], "labels"), ([0, -1], [2], "labels"), ([0, 1], [1], "at most"), ([0, 1], [0], "at most")],
)
def test_labels_and_counts_of_a_hostile_owner_are_refused(labels: list[int], whole: list[int], word: str) -> None:
    game = Game("vanilla")
    before = {name: weight.clone() for name, weight in game.server_weights().items()}
    activation = torch.zeros(2, *game.boundary.activation.shape)
    with pytest.raises(WireError, match=word):
        message = TensorMessage(1, Kind.TRAIN_STEP, (activation, torch.tensor(labels), torch.tensor(whole)))
        game.channel(0).call(message)
    assert same(game.server_weights(), before)


def test_a_u_shaped_owner_cannot_fill_the_servers_memory() -> None:
    game = Game("u_shaped", ("relu1", "fc2"))
    channel, activation = game.channel(0), torch.zeros(1, *game.boundary.activation.shape)
    with pytest.raises(WireError, match="at most 16"):
        for request in range(1, 30):
            channel.call(TensorMessage(request, Kind.FORWARD, (activation, torch.tensor([40]))))
