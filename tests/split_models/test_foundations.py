"""Specs of tensors, passed randomness, the decoder of any pair of shapes, and the training loop."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from split_models.checkpoints import digest
from split_models.input_decoder import CAPACITIES, InputDecoder, token_grid
from split_models.randomness import generator_for, layers_from, seed_for
from split_models.tensor_spec import DTYPES, SpecError, TensorSpec
from split_models.training import accuracy, batches, minimise, predict, train_classifier
from split_models.zoo import build
from tests.support import smooth_images

sides = st.integers(1, 40)


activations = st.one_of(
    st.tuples(st.integers(1, 50)),
    st.tuples(st.integers(1, 6), sides),
    st.tuples(st.integers(1, 6), sides, sides),
    st.tuples(*[st.integers(1, 3)] * 4),
)
inputs = st.one_of(st.tuples(st.integers(1, 3), sides), st.tuples(st.integers(1, 3), sides, sides))


@settings(max_examples=100, deadline=None)
@given(
    activation=activations,
    image=inputs,
    width=st.integers(1, 5),
    count=st.integers(1, 3),
)
def test_decoder_fits_any_pair_of_shapes(
    activation: tuple[int, ...], image: tuple[int, ...], width: int, count: int
) -> None:
    decoder = InputDecoder(TensorSpec(activation), TensorSpec(image), width)
    images = decoder(torch.ones(count, *activation))
    assert images.shape == (count, *image)
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize("activation, inputs", [((), (1, 8, 8)), ((4,), (8,)), ((4,), ()), ((4,), (1, 8, 8, 8))])
def test_decoder_refuses_what_is_neither_image_nor_series(activation: tuple[int, ...], inputs: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(C, L\) or \(C, H, W\) inputs, got"):
        InputDecoder(TensorSpec(activation), TensorSpec(inputs))


@pytest.mark.parametrize(
    "activation, inputs, grid",
    [
        ((64, 9), (3, 32, 32), (8, 8)),
        ((4, 9), (1, 28, 28), (2, 2)),
        ((8, 9), (1, 16, 32), (2, 4)),
        ((65, 9), (3, 32, 32), None),
        ((64, 9), (1, 32), None),
        ((64, 9, 1), (3, 32, 32), None),
    ],
)
def test_tokens_lie_where_their_patches_were(
    activation: tuple[int, ...], inputs: tuple[int, ...], grid: tuple[int, int] | None
) -> None:
    assert token_grid(activation, inputs) == grid


def test_decoder_puts_a_token_s_content_at_its_patch() -> None:
    with layers_from(generator_for(1)):
        decoder = InputDecoder(TensorSpec((16, 3)), TensorSpec((1, 32, 32)), 4)
    tokens = torch.zeros(1, 16, 3)
    with torch.no_grad():
        change = decoder(tokens.index_fill(1, torch.tensor([6]), 5.0)) - decoder(tokens)
    row, column = divmod(int(change.abs().argmax()), 32)
    assert (row // 8, column // 8) == divmod(6, 4)


def test_decoder_s_calibration_cancels_the_scale_and_is_saved() -> None:
    activations = torch.randn(8, 4, 6, 6, generator=generator_for(0))
    with layers_from(generator_for(1)):
        decoder = InputDecoder(TensorSpec((4, 6, 6)), TensorSpec((1, 12, 12)), 4)
    with torch.no_grad():
        decoder.calibrate(activations)
        expected = decoder(activations)
        decoder.calibrate(activations * 1000)
        torch.testing.assert_close(decoder(activations * 1000), expected)
    other = InputDecoder(TensorSpec((4, 6, 6)), TensorSpec((1, 12, 12)), 4)
    other.load_state_dict(decoder.state_dict())
    assert torch.equal(other(activations * 1000), decoder(activations * 1000))


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_decoder_begins_with_the_mean_of_each_channel(capacity: str) -> None:
    activations, means = torch.randn(8, 4, 6, 6, generator=generator_for(0)), torch.tensor([0.02, 0.5, 0.9])
    with layers_from(generator_for(1)):
        decoder = InputDecoder(TensorSpec((4, 6, 6)), TensorSpec((3, 12, 12)), 4, capacity)
    decoder.calibrate(activations, means[:, None, None].expand(8, 3, 12, 12))
    with torch.no_grad():
        assert (decoder(torch.zeros(1, 4, 6, 6)).mean((0, 2, 3)) - means).abs().max() < 0.15
    decoder.calibrate(activations, torch.zeros(8, 3, 12, 12))
    assert all(torch.isfinite(parameter).all() for parameter in decoder.parameters())


def test_decoder_is_blind_to_what_is_the_same_for_every_input() -> None:
    activations, mask = torch.randn(8, 4, 6, 6, generator=generator_for(0)), torch.randn(4, 6, 6) * 16
    decoder = InputDecoder(TensorSpec((4, 6, 6)), TensorSpec((1, 12, 12)), 4)
    with torch.no_grad():
        decoder.calibrate(activations + mask)
        expected = decoder(activations + mask)
        decoder.calibrate(activations - 3 * mask)
        torch.testing.assert_close(decoder(activations - 3 * mask), expected)
        decoder.calibrate(activations.relu() + mask)
        assert (decoder.shift - mask).abs().median() == 0
        decoder.calibrate(activations)
        assert not decoder.shift.any()


def test_decoder_can_be_calibrated_on_nothing_but_zeros() -> None:
    decoder = InputDecoder(TensorSpec((4,)), TensorSpec((1, 8, 8)), 4)
    decoder.calibrate(torch.zeros(3, 4))
    assert torch.isfinite(decoder(torch.zeros(3, 4))).all()


def test_layers_come_from_the_passed_generator_alone() -> None:
    before = torch.get_rng_state()

    def made(seed: int) -> str:
        with layers_from(generator_for(seed)):
            return digest(nn.Linear(7, 5).state_dict())

    first = made(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)  # what others draw must not matter
    assert made(1) == first
    assert made(2) != first


def test_layers_leave_the_global_generator_as_it_was_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyError), layers_from(generator_for(1)):
        nn.Linear(2, 2)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_normalisation_never_meets_a_lone_sample() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    images, labels = smooth_images(9, TensorSpec((1, 4, 4))), torch.arange(9) % 2
    options = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "generator": generator_for(0)}
    train_classifier(model, images, labels, **options)
    assert model[2].num_batches_tracked == 2


def test_two_networks_from_one_generator_differ() -> None:
    generator = generator_for(1)
    with layers_from(generator):
        first = nn.Linear(3, 3)
    with layers_from(generator):
        second = nn.Linear(3, 3)
    assert not torch.equal(first.weight, second.weight)


def test_seeds_differ_by_purpose_and_repeat() -> None:
    seeds = {seed_for(seed, *purpose) for seed in range(20) for purpose in [(), ("a",), ("b",), ("a", "b"), ("a", 1)]}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for(3, "target") == seed_for(3, "target")


def trained(seed: int) -> nn.Sequential:
    spec = TensorSpec((1, 16, 16))
    images, labels = smooth_images(48, spec), torch.arange(48) % 4
    generator = generator_for(seed)
    with layers_from(generator):
        model = build("lenet", spec, 4)
    train_classifier(model, images, labels, epochs=3, batch_size=10, learning_rate=1e-2, generator=generator)
    return model


def test_training_is_reproducible_and_leaves_eval_mode() -> None:
    first = trained(1)
    assert digest(first.state_dict()) == digest(trained(1).state_dict())
    assert digest(first.state_dict()) != digest(trained(2).state_dict())
    assert not any(module.training for module in first.modules())


def test_training_learns() -> None:
    labels = torch.arange(60) % 3
    images = labels.view(-1, 1, 1, 1) / 4 + smooth_images(60, TensorSpec((1, 4, 4))) * 0.1
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    epochs: list[int] = []
    train_classifier(
        model,
        images,
        labels,
        epochs=40,
        batch_size=16,
        learning_rate=1e-2,
        generator=generator_for(0),
        after_epoch=epochs.append,
    )
    assert accuracy(model, images, labels) > 0.95
    assert epochs == list(range(40))


def test_every_sample_is_used_once_an_epoch_in_a_new_order() -> None:
    generator = generator_for(0)
    first, second = (torch.cat(list(batches(23, 5, generator))) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(23))
    assert first.tolist() != second.tolist()
    assert [len(b) for b in batches(23, 5, generator)] == [5, 5, 5, 5, 3]
    assert [len(b) for b in batches(11, 5, generator)] == [5, 6]
    assert sorted(torch.cat(list(batches(11, 5, generator))).tolist()) == list(range(11))
    assert [len(b) for b in batches(3, 1, generator)] == [1, 1, 1]
    assert [len(b) for b in batches(1, 5, generator)] == [1]


def test_the_learning_rate_falls_to_nothing() -> None:
    weight = nn.Parameter(torch.zeros(1))
    steps: list[float] = []

    def loss(rows: Tensor) -> Tensor:
        steps.append(float(weight.detach()))
        return weight.sum()

    minimise([weight], loss, 11, epochs=5, batch_size=3, learning_rate=0.1, generator=generator_for(0))
    moved = [abs(b - a) for a, b in zip(steps, [*steps[1:], float(weight.detach())], strict=True)]
    assert len(moved) == 20
    assert moved[0] == pytest.approx(0.1, rel=1e-3)
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.001


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    def model(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]

    images = smooth_images(11, TensorSpec((1, 4, 4)))
    expected = images.flatten(1)[:, :3].argmax(1)
    assert torch.equal(predict(model, images, batch_size=4), expected)
    assert accuracy(model, images, expected) == 1.0
    assert accuracy(model, images, (expected + 1) % 3) == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_spec_knows_its_size_and_survives_json(dtype: str) -> None:
    spec = TensorSpec((3, 5), dtype, low=0.0)
    batch = torch.zeros(2, 3, 5, dtype=spec.torch_dtype)
    assert TensorSpec.of(batch) == TensorSpec((3, 5), dtype)
    assert spec.bytes_per_sample * 2 == batch.nbytes
    assert TensorSpec.from_dict({**asdict(spec), "shape": [3, 5]}) == spec
    assert spec.check(batch) is batch


@pytest.mark.parametrize(
    "batch, text",
    [
        (torch.zeros(2, 3), r"expected shape \(N, 3, 2\), got \(2, 3\)"),
        (torch.zeros(3, 2), "expected shape"),
        (torch.zeros(1, 1, 3, 2), "expected shape"),
        (torch.zeros(1, 2, 3), "expected shape"),
        (torch.zeros(1, 3, 2).double(), "expected dtype float32, got torch.float64"),
        (torch.full((1, 3, 2), -0.1), "at least 0.0, got -0.1"),
        (torch.full((1, 3, 2), 1.5), "at most 1.0, got 1.5"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_with_both_sides(batch: Tensor, text: str) -> None:
    with pytest.raises(SpecError, match=f"the batch: .*{text}"):
        TensorSpec((3, 2), low=0.0, high=1.0).check(batch, "the batch")


def test_values_that_are_no_numbers_do_not_fit_a_range() -> None:
    batch = torch.zeros(1, 3)
    batch[0, 1] = float("nan")
    with pytest.raises(SpecError, match="nan"):
        TensorSpec((3,), low=0.0).check(batch)
    with pytest.raises(SpecError, match="nan"):
        TensorSpec((3,), high=1.0).check(batch)


@pytest.mark.parametrize("shape, dtype", [((0,), "float32"), ((2, -1), "float32"), ((2,), "int8"), ((2,), "")])
def test_an_impossible_spec_is_refused(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(SpecError):
        TensorSpec(shape, dtype)
