"""The referee's figures against values that are known by other means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from experiments.metrics.identification import train_evaluator
from experiments.metrics.image_similarity import similarity
from experiments.statistics import summarise
from parties.datasets.dataset import LabelledImages, partition
from parties.datasets.digits import digits
from split_models.checkpoints import digest
from split_models.tensor_spec import TensorSpec
from split_models.training import accuracy
from tests.support import smooth_images

SPEC = TensorSpec((3, 16, 12))


def test_an_offset_of_a_tenth_is_exactly_20_db() -> None:
    truth = smooth_images(4, SPEC) * 0.8
    found = similarity(truth.double(), truth.double() + 0.1)
    assert found.psnr_db == pytest.approx(np.full(4, 20.0), abs=1e-9)
    assert found.mse == pytest.approx(np.full(4, 0.01), abs=1e-12)


def test_a_perfect_copy_has_160_db_and_ssim_1() -> None:
    truth = smooth_images(3, SPEC)
    found = similarity(truth, truth.clone())
    assert (found.psnr_db == 160).all()
    assert found.ssim == pytest.approx(np.ones(3), abs=1e-12)
    assert (found.mse == 0).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 16, 9)])
def test_figures_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    truth, images = smooth_images(3, TensorSpec(shape), 1), smooth_images(3, TensorSpec(shape), 2)
    found = similarity(truth, images)
    for index in range(3):
        a, b = (x[index].double().permute(1, 2, 0).numpy() for x in (truth, images))
        assert found.psnr_db[index] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0))
        assert found.ssim[index] == pytest.approx(structural_similarity(a, b, data_range=1.0, channel_axis=2))


def test_each_image_is_judged_by_itself() -> None:
    truth = smooth_images(5, SPEC)
    images = truth.clone()
    images[2] = 1 - images[2]
    found, alone = similarity(truth, images), similarity(truth[2:3], images[2:3])
    assert found.psnr_db.argmin() == found.ssim.argmin() == found.mse.argmax() == 2
    assert (np.delete(found.psnr_db, 2) == 160).all()
    assert found.ssim[2] == alone.ssim[0]


@pytest.mark.parametrize("side", [3, 4, 5, 6])
def test_small_images_take_a_smaller_window(side: int) -> None:
    truth = smooth_images(2, TensorSpec((1, side, 10)))
    assert similarity(truth, truth).ssim == pytest.approx(np.ones(2))
    assert (similarity(truth, 1 - truth).ssim < 0.9).all()


@pytest.mark.parametrize("shape", [(2, 3, 16, 11), (1, 3, 16, 12), (2, 1, 16, 12), (3, 16, 12)])
def test_another_shape_is_an_error_that_names_both(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected reconstructions of shape \(2, 3, 16, 12\), got"):
        similarity(torch.zeros(2, *SPEC.shape), torch.zeros(shape))


def test_images_too_small_for_any_window_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 3x3"):
        similarity(torch.zeros(1, 1, 2, 9), torch.zeros(1, 1, 2, 9))


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(120):
        summary = summarise(rng.exponential(2.0, size=100), seed=trial)
        assert summary.low < summary.mean < summary.high
        hits += summary.low <= 2.0 <= summary.high
    assert 0.88 <= hits / 120 <= 0.99


def test_the_interval_is_that_of_a_plain_percentile_bootstrap() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(1.0, size=12) ** 2  # skewed, so that other kinds of interval lie elsewhere
    means = rng.choice(values, size=(20_000, 12)).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    summary = summarise(values)
    assert [summary.low, summary.high] == pytest.approx([low, high], abs=0.1 * (high - low))
    assert abs(low + high - 2 * summary.mean) > 0.15 * (high - low), "otherwise this would prove nothing"


def test_more_victims_make_a_narrower_interval() -> None:
    rng = np.random.default_rng(1)
    few, many = (summarise(rng.normal(size=count)) for count in (25, 2500))
    assert 5 < (few.high - few.low) / (many.high - many.low) < 20


def test_a_single_victim_is_its_own_interval() -> None:
    summary = summarise(np.array([3.25]))
    assert summary.mean == summary.low == summary.high == 3.25
    assert set(summary.percentiles.values()) == {3.25}


def test_equal_values_are_their_own_interval() -> None:
    summary = summarise(np.full(40, 0.5))
    assert (summary.low, summary.mean, summary.high) == (0.5, 0.5, 0.5)


def test_percentiles_and_repetition() -> None:
    values = np.arange(101.0)
    summary = summarise(values)
    assert summary.percentiles == {"5": 5, "25": 25, "50": 50, "75": 75, "95": 95}
    assert summary == summarise(values)
    assert summary != summarise(values, seed=1)


@pytest.fixture(scope="module")
def digit_parts() -> dict[str, LabelledImages]:
    sizes = {"train": 600, "auxiliary": 2, "validation": 2, "victims": 200}
    return partition(digits(), sizes, seed=0)[0]


def test_the_independent_classifier_reads_digits(digit_parts: dict[str, LabelledImages]) -> None:
    evaluator = train_evaluator(digit_parts["train"], 10, seed=0, epochs=4)
    victims = digit_parts["victims"]
    assert accuracy(evaluator, victims.images, victims.labels) > 0.9
    assert accuracy(evaluator, torch.full_like(victims.images, 0.5), victims.labels) < 0.3
    assert not any(module.training for module in evaluator.modules())


def test_the_independent_classifier_depends_on_its_seed_alone(digit_parts: dict[str, LabelledImages]) -> None:
    train = digit_parts["train"][:64]
    before = torch.get_rng_state()
    first, again, other = (digest(train_evaluator(train, 10, seed=s, epochs=1).state_dict()) for s in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)
