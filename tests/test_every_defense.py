"""What holds for every registered defense, whatever it does."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from defenses import DEFENSES, Defense, DefenseError, FrozenSplit, TrainingPlan, make_defense, put_up
from parties.compute_server import ComputeServer, SplitPoint
from parties.data_owner import DataOwner
from parties.in_process import InProcessChannel
from parties.transcript import Transcript
from split_models.checkpoints import load_tensors, save_tensors
from split_models.randomness import layers_from
from split_models.split_model import output_spec
from split_models.tensor_spec import TensorSpec
from split_models.training import minimise
from tests.support import EVERY_CUT, Stage, small_stage, smooth_images


@dataclass(frozen=True)
class Case:
    """How a defense is switched off (None where it cannot be), felt, and overwhelming: its settings.

    `most` is None where strength is only what training makes of it. Some hide everything at no strength, because they
    limit what gets through and are no noise.
    """

    off: dict[str, Any] | None
    felt: dict[str, Any]
    most: dict[str, Any] | None
    hides_all: bool = True

    @property
    def strength(self) -> str:
        """What the strength is called: the setting in which felt and overwhelming differ."""
        (found,) = [key for key in self.felt if self.most is None or self.felt[key] != self.most[key]]
        return found


CASES = {
    "none": Case({}, {}, {}),
    "gaussian_noise": Case({"sigma": 0}, {"sigma": 0.5}, {"sigma": 1e4}),
    "laplace_noise": Case({"scale": 0}, {"scale": 0.5}, {"scale": 1e4}),
    "gaussian_mechanism": Case(
        None, {"epsilon": 8.0, "delta": 1e-5, "clip": 2.0}, {"epsilon": 1e-3, "delta": 1e-5, "clip": 2.0}
    ),
    "laplace_mechanism": Case(None, {"epsilon": 8.0, "clip": 5.0}, {"epsilon": 1e-4, "clip": 5.0}),
    "dropout_mask": Case({"rate": 0}, {"rate": 0.8}, {"rate": 1.0}),
    "top_k_mask": Case({"rate": 0}, {"rate": 0.8}, {"rate": 1.0}),
    "quantization": Case(None, {"bits": 3}, {"bits": 1}, hides_all=False),
    "bottleneck": Case(None, {"rank": 2}, {"rank": 1}, hides_all=False),
    "fisher_noise": Case({"mse": 0}, {"mse": 0.5}, {"mse": 1e8}),
    "nopeek": Case({"weight": 0}, {"weight": 1.0}, {"weight": 1e4}),
    "mid": Case(None, {"beta": 1e-3}, None),
    "adversarial_training": Case({"weight": 0}, {"weight": 1.0}, {"weight": 1e4}),
    "disco": Case({"rate": 0}, {"rate": 0.4}, {"rate": 1.0}),
    "cem": Case({"sigma": 0, "weight": 0}, {"sigma": 0.5, "weight": 1.0}, {"sigma": 1e4, "weight": 1.0}),
    "shredder": Case(
        {"inverse_snr": 0, "masks": 3}, {"inverse_snr": 1.0, "masks": 3}, {"inverse_snr": 1e8, "masks": 3}
    ),
    "dp_sgd": Case(None, {"noise": 1.0}, {"noise": 100.0}),
    "chain": Case(
        {"parts": [{"name": "top_k_mask", "rate": 0.0}, {"name": "gaussian_noise", "sigma": 0.0}]},
        {"parts": [{"name": "top_k_mask", "rate": 0.5}, {"name": "gaussian_noise", "sigma": 0.5}]},
        {"parts": [{"name": "top_k_mask", "rate": 0.9}, {"name": "gaussian_noise", "sigma": 1e4}]},
    ),
}
SHAPES = [(12,), (3, 20), (4, 6, 6)]


def ready(name: str, settings: dict[str, Any], shape: tuple[int, ...], epochs: int = 0) -> Defense:
    """A defense at a cut with activations of a shape, trained with and fitted to a small network around it."""
    defense, inputs = make_defense(name, settings), TensorSpec((1, 6, 6), low=0.0, high=1.0)
    with layers_from(generator(3)):
        defense.attach(inputs, TensorSpec(shape))
        head = nn.Sequential(nn.Flatten(), nn.Linear(36, math.prod(shape)), nn.Unflatten(1, shape))
        tail = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3))
    images, labels = torch.rand(70, 1, 6, 6, generator=generator(4)), torch.arange(70) % 3
    if defense.trains and epochs:
        train(defense, head, tail, images, labels, epochs)
    if defense.fits:
        frozen = FrozenSplit(head.requires_grad_(False), tail.requires_grad_(False), images, labels)
        defense.fit(frozen, generator(5), lambda fraction: None)
    return defense.eval()


def train(defense: Defense, head: nn.Module, tail: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Train the parts around a defense, and its own parameters, as the owner does."""
    draws, plan = generator(6), TrainingPlan(len(images), 32, epochs)

    def loss(rows: Tensor) -> Tensor:
        hidden = head(defense.training_inputs(images[rows], draws))
        sent, added = defense.training_pass(images[rows], hidden, labels[rows], draws)
        return cross_entropy(tail(sent), labels[rows]) + added

    parameters = [p for part in (head, tail, defense.train()) for p in part.parameters()]
    with defense.around_training(head, plan, generator(7)) as before_step:
        options: dict[str, Any] = {"epochs": epochs, "batch_size": 32, "learning_rate": 0.05, "generator": generator(8)}
        minimise(parameters, loss, len(images), before_step=before_step, **options)


def moderate(name: str, shape: tuple[int, ...] = (4, 6, 6)) -> Defense:
    """A defense that is felt but does not drown everything."""
    return ready(name, CASES[name].felt, shape)


def off(name: str, shape: tuple[int, ...]) -> Defense:
    """A defense at the strength that is none."""
    settings = CASES[name].off
    assert settings is not None
    return ready(name, settings, shape)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def activations(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


every_defense = pytest.mark.parametrize("name", DEFENSES)
MADE = {name: make_defense(name, case.felt) for name, case in CASES.items()}
every_active = pytest.mark.parametrize("name", [name for name, made in MADE.items() if made.on_wire])
STRONG = {n: case.most for n, case in CASES.items() if MADE[n].on_wire and case.most is not None}
every_stoppable = pytest.mark.parametrize("name", [n for n, made in MADE.items() if made.on_wire and CASES[n].off])
every_in_training = [
    pytest.param(name, settings, id=name)
    for name, made in MADE.items()
    for settings in [{**CASES[name].felt, **{k: True for k in made.settings if k == "in_training"}}]
    if make_defense(name, settings).trains
]
every_random = pytest.mark.parametrize("name", [name for name, made in MADE.items() if made.random])


def test_every_registered_defense_has_a_case() -> None:
    assert set(CASES) == set(DEFENSES), "add a line to CASES for a new defense; it says at which strengths it is tested"


@every_defense
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_shape_and_dtype_are_kept(name: str, shape: tuple[int, ...], batch: int, dtype: torch.dtype) -> None:
    given = activations(batch, *shape).to(dtype)
    kept = given.clone()
    protected = moderate(name, shape).protect(given, generator())
    assert protected.shape == given.shape
    assert protected.dtype == dtype
    assert torch.equal(given, kept), "a defense must not change the head's own output in place"
    assert torch.equal(protected, given) == (not MADE[name].on_wire)


@every_defense
@pytest.mark.parametrize("model, channels, cut", EVERY_CUT)
def test_trains_fits_and_protects_at_every_cut(name: str, model: str, channels: int, cut: str) -> None:
    stage, defense = small_stage(model, channels, cut), make_defense(name, CASES[name].felt)
    images, labels = smooth_images(4, stage.spec), torch.arange(4)
    given = stage.observed(images)
    with layers_from(generator(3)):
        defense.attach(stage.spec, TensorSpec(tuple(given.shape[1:])))
    mixes = any(isinstance(layer, nn.BatchNorm2d) for layer in stage.parts.head.modules())
    if defense.per_sample_gradients and mixes:
        with pytest.raises(DefenseError, match=name):
            defense.check_head(stage.parts.head)
        return
    defense.check_head(stage.parts.head)
    if defense.trains:
        hidden = given.clone().requires_grad_()
        sent, added = defense.train().training_pass(images, hidden, labels, generator())
        (stage.parts.tail(sent).square().sum() + added).backward()
        assert hidden.grad is not None
        assert torch.isfinite(hidden.grad).all()
    if defense.fits:
        frozen = FrozenSplit(stage.parts.head, stage.parts.tail, images, labels)
        defense.fit(frozen, generator(5), lambda fraction: None)
    defense.eval()
    for batch in (1, 3):
        with torch.no_grad():
            protected = defense.protect(given[:batch], generator())
        assert torch.equal(protected, given[:batch]) == (not MADE[name].on_wire)


ON_INPUTS = {name: {**case.felt, "where": "input"} for name, case in CASES.items() if "where" in MADE[name].settings}


@pytest.mark.parametrize("name", ON_INPUTS)
@pytest.mark.parametrize("shape", [(1, 30), (3, 8, 8)], ids=str)
@pytest.mark.parametrize("batch", [1, 17])
def test_it_acts_on_inputs_instead_where_that_is_asked(name: str, shape: tuple[int, ...], batch: int) -> None:
    defense, inputs, hidden = make_defense(name, ON_INPUTS[name]), activations(batch, *shape), activations(batch, 12)
    protected = defense.eval().protect_inputs(inputs, generator())
    assert protected.shape == inputs.shape
    assert not torch.equal(protected, inputs)
    assert not torch.equal(protected, defense.protect_inputs(inputs, generator(1))), "its noise is of the generator"
    assert torch.equal(defense.protect(hidden, generator()), hidden), "and not on activations as well"
    assert make_defense(name, defense.settings).on_inputs
    if CASES[name].off is not None:
        idle = make_defense(name, {**CASES[name].off, "where": "input"})  # type: ignore[dict-item]
        assert torch.equal(idle.protect_inputs(inputs, generator()), inputs)
    if "in_training" in defense.settings:
        trained = make_defense(name, {**ON_INPUTS[name], "in_training": True})
        assert torch.equal(trained.training_inputs(inputs, generator()), protected)
        assert torch.equal(defense.training_inputs(inputs, generator()), inputs)


@pytest.mark.parametrize("name", ON_INPUTS)
def test_what_it_does_to_inputs_is_seen_on_the_wire(name: str) -> None:
    stage = small_stage("lenet", 1, "relu1")
    images = smooth_images(6, stage.spec)
    assert (_on_the_wire(stage, make_defense(name, ON_INPUTS[name]), images) != stage.observed(images)).any()


def test_every_defense_but_none_acts_somewhere() -> None:
    assert [n for n, made in MADE.items() if not (made.on_wire or made.on_inputs or made.trains)] == ["none"]


@pytest.mark.parametrize("name, settings", every_in_training)
def test_what_it_does_in_training_reaches_the_head(name: str, settings: dict[str, Any]) -> None:
    images, labels = torch.rand(12, 1, 6, 6, generator=generator()), torch.arange(12) % 3
    given = activations(12, 4, 3, 3).requires_grad_()
    defense = ready(name, settings, (4, 3, 3)).train()
    sent, added = defense.training_pass(images, given, labels, generator())
    assert added > 0 or not torch.equal(sent, given) or defense.per_sample_gradients
    (sent.square().mean() + added).backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad).all()
    assert given.grad.abs().sum() > 0
    constant = torch.ones(12, 8).requires_grad_()
    sent, added = ready(name, settings, (8,)).training_pass(images, constant, labels, generator())
    (sent.square().mean() + added).backward()
    assert constant.grad is not None
    assert torch.isfinite(constant.grad).all(), "a dead head must not turn the training into NaN"


@pytest.mark.parametrize("name, settings", every_in_training)
def test_trainable_parameters_move_in_training(name: str, settings: dict[str, Any]) -> None:
    before, after = ready(name, settings, (4, 3, 3)), ready(name, settings, (4, 3, 3), epochs=2)
    assert all(not torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters(), strict=True))
    assert all(torch.isfinite(value).all() for value in after.state().values())


@pytest.mark.parametrize("name", [name for name, made in MADE.items() if made.trains and CASES[name].most])
def test_very_high_strength_in_training_breaks_nothing(name: str) -> None:
    settings = CASES[name].most
    assert settings is not None
    defense, given = ready(name, settings, (4, 3, 3), epochs=2), activations(5, 4, 3, 3)
    assert all(torch.isfinite(value).all() for value in defense.state().values())
    assert torch.isfinite(defense.protect(given, generator())).all()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.off is not None])
def test_strength_0_adds_nothing_to_the_loss(name: str) -> None:
    images, labels = torch.rand(12, 1, 6, 6, generator=generator()), torch.arange(12) % 3
    given = activations(12, 4, 3, 3)
    sent, added = off(name, (4, 3, 3)).train().training_pass(images, given, labels, generator())
    assert added.item() == 0
    assert torch.equal(sent, given)


@every_active
def test_bytes_on_the_wire_change(name: str) -> None:
    stage = small_stage("lenet", 1, "relu1")
    images = smooth_images(6, stage.spec)
    plain = stage.observed(images)
    defense = moderate(name, tuple(plain.shape[1:])).train()  # as it is left after a training run
    seen = _on_the_wire(stage, defense, images)
    assert not defense.training
    assert (seen != plain).any(dim=(1, 2, 3)).all(), "each victim is protected"


def _on_the_wire(stage: Stage, defense: Defense, images: Tensor) -> Tensor:
    """What the server decodes of the messages of an owner with this defense."""
    activation, transcript = output_spec(stage.parts.head, stage.spec), Transcript()
    point = SplitPoint("lenet", "0" * 64, stage.cut)
    server = ComputeServer(stage.parts.tail, point, activation, 4, transcript)
    owner = DataOwner("owner", stage.parts.head, defense, point, stage.spec, activation, generator())
    with InProcessChannel(server, owner.hello()) as channel:
        list(owner.infer(channel, images, batch_size=4))
    return transcript.activations


@every_active
@pytest.mark.parametrize("training", [True, False])
def test_active_in_training_and_in_evaluation(name: str, training: bool) -> None:
    given = activations(4, 3, 5, 5)
    assert not torch.equal(moderate(name, (3, 5, 5)).train(training).protect(given, generator()), given)


@every_stoppable
def test_strength_0_is_the_identity(name: str) -> None:
    given = activations(5, 4, 6, 6)
    assert torch.equal(off(name, (4, 6, 6)).protect(given, generator()), given)


@pytest.mark.parametrize("name", [n for n in STRONG if CASES[n].hides_all])
def test_very_high_strength_leaves_nothing_to_a_linear_probe(name: str) -> None:
    labels = torch.arange(1200) % 2
    given = activations(1200, 16) * 0.5 + labels[:, None] * 2.0 - 1.0

    def probe_accuracy(seen: Tensor) -> float:
        seen = (seen - seen.mean()) / seen.std().clamp_min(1e-12)
        targets = labels.float()[:, None] * 2 - 1
        weights = torch.linalg.lstsq(seen[:800], targets[:800]).solution
        return float((((seen[800:] @ weights).flatten() > 0) == (targets[800:].flatten() > 0)).float().mean())

    strong = ready(name, STRONG[name], (16,)).protect(given, generator())
    assert probe_accuracy(given) > 0.99
    assert abs(probe_accuracy(strong) - 0.5) < 0.1
    # A defense that leaves a constant has no correlation at all.
    assert abs(torch.corrcoef(torch.stack([given.flatten(), strong.flatten()]))[0, 1].nan_to_num()) < 0.03


@pytest.mark.parametrize("name", STRONG)
def test_more_strength_is_more_distortion(name: str) -> None:
    given = activations(8, 40)
    case = CASES[name]
    strengths = ([] if case.off is None else [case.off]) + [case.felt, STRONG[name]]
    sent = [ready(name, strength, (40,)).protect(given, generator()).detach() for strength in strengths]
    distances = [float((one - given).norm()) for one in sent]
    assert distances == sorted(set(distances))


@every_defense
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    given = activations(5, 4, 6, 6)
    first, again = (moderate(name).protect(given, generator(7)) for _ in range(2))
    assert torch.equal(first, again)


@every_random
def test_every_message_draws_anew(name: str) -> None:
    given, defense, passed = activations(1, 30).expand(2, -1), moderate(name, (30,)), generator()
    first, second = defense.protect(given, passed), defense.protect(given, passed)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1]), "samples of one message must not share their noise"
    assert not torch.equal(first, moderate(name, (30,)).protect(given, generator(1)))


@every_defense
def test_random_says_whether_it_draws(name: str) -> None:
    given, defense, passed = activations(4, 30), moderate(name, (30,)), generator()
    before = passed.get_state()
    defense.protect(given, passed)
    assert MADE[name].random == (not torch.equal(passed.get_state(), before))


@every_defense
def test_nothing_is_drawn_from_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    moderate(name, (30,)).protect(activations(4, 30), generator())
    assert torch.equal(torch.get_rng_state(), before)


@every_defense
def test_gradients_reach_the_head_in_training(name: str) -> None:
    head, defense = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU()), moderate(name, (12,)).train()
    inputs, labels = torch.rand(9, 1, 6, 6, generator=generator(1)), torch.arange(9) % 3
    hidden = head(inputs)
    added = defense.training_loss(inputs, hidden, labels, generator())
    loss = defense.protect(hidden, generator()).square().mean() + added
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in defense.parameters())


@every_defense
def test_the_training_loss_is_a_finite_scalar(name: str) -> None:
    images = torch.rand(9, 1, 6, 6, generator=generator(1))
    loss = moderate(name, (12,)).training_loss(images, activations(9, 12), torch.arange(9) % 3, generator())
    assert loss.shape == ()
    assert torch.isfinite(loss)


@every_defense
def test_state_survives_a_file(name: str, tmp_path: Path) -> None:
    given, old, path = activations(5, 4, 6, 6), moderate(name), tmp_path / "defense.safetensors"
    state = old.state()
    if state:
        save_tensors(path, state)
        state = load_tensors(path)[0]
    new = put_up(name, old.settings, TensorSpec((1, 6, 6), low=0.0, high=1.0), TensorSpec((4, 6, 6)), state)
    assert torch.equal(old.protect(given, generator()), new.protect(given, generator()))


@every_defense
def test_a_state_that_does_not_fit_is_refused(name: str) -> None:
    old, inputs = moderate(name, (8, 6, 6)), TensorSpec((1, 6, 6), low=0.0, high=1.0)
    foreign = {**old.state(), "noise of another defense": torch.zeros(3)}
    with pytest.raises(DefenseError, match=f"{name}: expected a state with .*; give the file that was written for"):
        put_up(name, old.settings, inputs, TensorSpec((8, 6, 6)), foreign)
    if any(value.ndim for value in old.state().values()):  # what was learnt at a cut of another size
        with pytest.raises(DefenseError, match=f"{name}: expected a state"):
            put_up(name, old.settings, inputs, TensorSpec((4, 6, 6)), old.state())


@every_defense
def test_settings_make_it_again_and_are_printed(name: str) -> None:
    defense = moderate(name)
    assert set(CASES[name].felt) <= set(defense.settings)
    assert make_defense(name, defense.settings).settings == defense.settings
    assert repr(defense).startswith(f"{name}(")
    assert all(f"{key}={value}" in repr(defense) for key, value in defense.settings.items())


@every_defense
def test_an_unknown_setting_is_named(name: str) -> None:
    with pytest.raises(DefenseError, match=f"{name}.*sigmoid"):
        make_defense(name, {**moderate(name).settings, "sigmoid": 1})


@every_active
def test_a_missing_setting_is_named(name: str) -> None:
    parameters = inspect.signature(DEFENSES[name].__init__).parameters.values()
    needed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    assert needed
    for setting in needed:
        rest = {other: value for other, value in MADE[name].settings.items() if other != setting}
        with pytest.raises(DefenseError, match=f"{name}.*{setting}"):
            make_defense(name, rest)


@every_active
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), float("-inf"), "much", None, [1.0], True])
def test_an_impossible_strength_is_refused_by_name(name: str, value: Any) -> None:
    case = CASES[name]
    with pytest.raises(DefenseError, match=f"{name}.*{case.strength}"):
        make_defense(name, {**case.felt, case.strength: value})


def test_an_unknown_defense_names_those_there_are() -> None:
    with pytest.raises(DefenseError, match="unknown defense 'nosie'.*" + ", ".join(DEFENSES)):
        make_defense("nosie")


@pytest.mark.parametrize("name", ["gaussian_noise", "laplace_noise"])
def test_strength_beyond_the_dtype_is_an_error_not_a_nan(name: str) -> None:
    with pytest.raises(DefenseError, match="lower it"):
        make_defense(name, {CASES[name].strength: 3e38}).protect(activations(64, 64), generator())


def test_values_that_are_not_finite_are_caught_and_large_ones_are_not() -> None:
    class Spoiling(Defense):
        name = "spoiling"

        def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
            return torch.cat([activations[:-1], torch.tensor(self.last).expand(1, 2)])

    spoiling = Spoiling()
    for last in ([math.nan, 0.0], [math.inf, 0.0], [math.inf, -math.inf]):
        spoiling.last = last
        with pytest.raises(DefenseError, match="spoiling: its strength"):
            spoiling.protect(activations(3, 2), generator())
    spoiling.last = [3e38, 3e38]
    assert spoiling.protect(activations(3, 2), generator()).sum() == math.inf


def test_a_defense_that_changes_the_shape_is_caught() -> None:
    class Halving(Defense):
        name = "halving"

        def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
            return activations[:, ::2]

    class Narrowing(Defense):
        name = "narrowing"

        def _protect(self, activations: Tensor, generator: torch.Generator) -> Tensor:
            return activations.half()

    for broken in (Halving(), Narrowing()):
        with pytest.raises(DefenseError, match=f"{broken.name}: expected"):
            broken.protect(activations(3, 8), generator())


@pytest.mark.parametrize(
    "name, strength, deviation, kurtosis",
    [("gaussian_noise", 0.7, 0.7, 3.0), ("laplace_noise", 0.7, 0.7 * 2**0.5, 6.0)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_has_the_promised_distribution(
    name: str, strength: float, deviation: float, kurtosis: float, dtype: torch.dtype
) -> None:
    given = activations(1000, 400).to(dtype)
    noise = (make_defense(name, {CASES[name].strength: strength}).protect(given, generator()) - given).double()
    assert abs(float(noise.mean())) < 0.01 * deviation
    assert float(noise.std()) == pytest.approx(deviation, rel=0.02)
    centred = noise - noise.mean()
    assert float(centred.pow(4).mean() / centred.square().mean() ** 2) == pytest.approx(kurtosis, rel=0.05)
    assert abs(float((centred > 0).double().mean()) - 0.5) < 0.01
    # neither along the batch nor against the activation it is added to
    assert abs(torch.corrcoef(torch.stack([noise[:-1].flatten(), noise[1:].flatten()]))[0, 1]) < 0.01
    assert abs(torch.corrcoef(torch.stack([noise.flatten(), given.double().flatten()]))[0, 1]) < 0.01
