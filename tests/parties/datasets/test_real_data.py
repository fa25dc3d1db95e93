"""The real data sets, where they are at hand."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from parties.datasets import load
from parties.datasets.dataset import DATA_VARIABLE, DataMissing, partition

pytestmark = [
    pytest.mark.needs_data,
    pytest.mark.skipif(
        not os.environ.get(DATA_VARIABLE),
        reason=f"real data sets are not at hand: set {DATA_VARIABLE} to the folder that holds mnist/, cifar10/, …",
    ),
]


def loaded(name: str):
    try:
        return load(name)
    except DataMissing as missing:
        pytest.skip(f"{missing} ({DATA_VARIABLE}={os.environ[DATA_VARIABLE]})")


@pytest.mark.parametrize(
    "name, shape, train, duplicates, mean",
    [
        ("mnist", (70_000, 1, 28, 28), 60_000, 10, 0.1309),
        ("fashion_mnist", (70_000, 1, 28, 28), 60_000, 200, 0.2861),
        ("cifar10", (60_000, 3, 32, 32), 50_000, 200, 0.4737),
    ],
)
def test_a_real_data_set(name: str, shape: tuple[int, ...], train: int, duplicates: int, mean: float) -> None:
    raw = loaded(name)
    assert raw.images.shape == shape
    assert raw.images.dtype == np.uint8
    assert raw.official_train == train
    assert raw.images.mean() / 255 == pytest.approx(mean, abs=0.003)
    counts = np.bincount(raw.labels, minlength=10)
    assert len(counts) == len(raw.classes) == 10
    assert counts.min() > 6000 - 700
    sizes = {"train": 3000, "auxiliary": 500, "validation": 100, "victims": 100, "test": 100, "tuning": 0}
    parts, dropped = partition(raw, sizes, seed=0)
    assert {part: len(images) for part, images in parts.items()} == sizes
    assert dropped < duplicates


def test_heartbeats_are_series_of_five_classes_that_may_be_shown_with_their_credit() -> None:
    raw = loaded("ecg")
    assert raw.images.shape == (1000, 1, 187)
    assert raw.images.dtype == np.float32
    assert np.bincount(raw.labels).tolist() == [200] * 5
    assert raw.shareable and "ODC Attribution License" in raw.credit
    sizes = {"train": 500, "auxiliary": 150, "validation": 50, "victims": 100, "test": 200, "tuning": 0}
    parts, dropped = partition(raw, sizes, seed=0)
    assert dropped == 0
    assert {part: len(beats) for part, beats in parts.items()} == sizes
    assert parts["victims"].images.dtype == torch.float32
    assert sorted(np.bincount(parts["victims"].labels)) == [20] * 5
