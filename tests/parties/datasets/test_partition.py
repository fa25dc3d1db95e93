"""Four parts that share no image, whatever the data set holds twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parties.datasets import load
from parties.datasets.dataset import PARTS, DataError, LabelledImages, RawData, check_disjoint, partition
from tests.support import smooth_images

SIZES = {"train": 40, "auxiliary": 20, "validation": 12, "victims": 16, "test": 7, "tuning": 2}


def raw(count: int = 120, classes: int = 4, official: int | None = None, seed: int = 0) -> RawData:
    """Random pictures; the label is also written into the first pixel, and the position into the next two."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 1, 6, 6), dtype=np.uint8)
    labels = np.arange(count) % classes
    images[:, 0, 0, 0], images[:, 0, 0, 1], images[:, 0, 0, 2] = labels, np.arange(count) // 256, np.arange(count) % 256
    return RawData("made", images, labels, tuple(map(str, range(classes))), official)


def positions(part: LabelledImages) -> list[int]:
    """Where in the raw data the images of a part come from."""
    pixels = (part.images[:, 0, 0] * 255).round().int()
    return (pixels[:, 1] * 256 + pixels[:, 2]).tolist()


def contents(part: LabelledImages) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.images}


@pytest.mark.parametrize("official", [None, 80])
def test_parts_have_their_sizes_and_share_nothing(official: int | None) -> None:
    parts, dropped = partition(raw(official=official), SIZES, seed=3)
    assert dropped == 0
    assert {name: len(part) for name, part in parts.items()} == SIZES
    assert list(parts) == list(PARTS)
    everything = [position for part in parts.values() for position in positions(part)]
    assert len(set(everything)) == sum(SIZES.values())
    for part in parts.values():
        assert part.images.dtype == torch.float32
        assert part.labels.dtype == torch.int64
        assert part.images.min() >= 0
        assert part.images.max() <= 1
        assert torch.equal((part.images[:, 0, 0, 0] * 255).round().long(), part.labels), "labels stay with their images"


def test_planted_duplicates_are_in_one_part_only() -> None:
    data = raw(160)
    images, labels = data.images.copy(), data.labels.copy()
    images[60:90] = images[:30]
    images[100] = images[0]
    labels[100] = 3  # the same picture under another label is still the same picture
    parts, dropped = partition(RawData("made", images, labels, data.classes), SIZES, seed=3)
    assert dropped == 31
    together = [digest for part in parts.values() for digest in contents(part)]
    assert len(together) == len(set(together)) == sum(SIZES.values())


def test_a_test_image_that_is_in_the_training_part_is_no_victim() -> None:
    data = raw(official=90)
    data.images[90:100] = data.images[:10]
    parts, dropped = partition(data, {**SIZES, "victims": 4, "test": 2}, seed=3)
    assert dropped == 10
    trained = contents(LabelledImages(torch.from_numpy(data.images[:90]).float().div(255), torch.zeros(90)))
    assert not trained & (contents(parts["victims"]) | contents(parts["validation"]))


def test_the_official_test_part_makes_the_victims() -> None:
    parts, _ = partition(raw(official=80), SIZES, seed=3)
    assert min(positions(parts["victims"]) + positions(parts["validation"])) >= 80
    assert max(positions(parts["train"]) + positions(parts["auxiliary"])) < 80


def test_the_seed_decides_alone() -> None:
    first, again, other = (partition(raw(), SIZES, seed=seed)[0] for seed in (3, 3, 4))
    for name in set(PARTS) - {"tuning"}:
        assert torch.equal(first[name].images, again[name].images)
        assert torch.equal(first[name].labels, again[name].labels)
        assert not torch.equal(first[name].images, other[name].images)


@pytest.mark.parametrize("official", [None, 60])
def test_what_defenses_are_tuned_on_is_in_no_part_of_any_seed(official: int | None) -> None:
    sizes = {**SIZES, "train": 20, "tuning": 15}
    tuning, *others = (contents(part) for part in _of_seeds(sizes, official, "tuning"))
    assert len(tuning) == 15
    assert all(other == tuning for other in others), "whichever seed tunes, it tunes on the same images"
    for name in SIZES:
        if name != "tuning":
            assert not any(tuning & contents(part) for part in _of_seeds(sizes, official, name))


def _of_seeds(sizes: dict[str, int], official: int | None, name: str) -> list[LabelledImages]:
    return [partition(raw(official=official), sizes, seed=seed)[0][name] for seed in range(5)]


def test_the_attackers_parts_do_not_change_the_victims() -> None:
    small, large = (partition(raw(), {**SIZES, "train": n, "auxiliary": n}, seed=3)[0] for n in (5, 25))
    assert torch.equal(small["victims"].images, large["victims"].images)


@pytest.mark.parametrize("official", [None, 80])
def test_classes_are_balanced_in_every_part_and_prefix(official: int | None) -> None:
    parts, _ = partition(raw(official=official), SIZES, seed=3)
    for part in parts.values():
        counts = torch.bincount(part.labels, minlength=4)
        assert counts.max() - counts.min() <= 2
    shares = torch.bincount(parts["train"].labels[:20], minlength=4)
    assert shares.max() - shares.min() <= 2


def test_rare_classes_keep_their_share() -> None:
    data = raw(200)
    labels = np.where(np.arange(200) % 10 == 0, 1, 0)
    parts, _ = partition(RawData("rare", data.images, labels, ("a", "b")), SIZES, seed=3)
    assert {name: int(part.labels.sum()) for name, part in parts.items()} == {
        name: pytest.approx(size / 10, abs=1.01) for name, size in SIZES.items()
    }


@pytest.mark.parametrize("official", [None, 80, 100])
def test_too_few_images_are_an_error_that_says_how_many(official: int | None) -> None:
    sizes = {**SIZES, "train": 90} if official is None else {**SIZES, "victims": 30}
    with pytest.raises(DataError, match=r"120 distinct images, too few .*train .*victims"):
        partition(raw(official=official), sizes, seed=0)


def test_all_images_can_be_used() -> None:
    parts, _ = partition(raw(97), SIZES, seed=0)
    assert sorted(p for part in parts.values() for p in positions(part)) == list(range(97))


def test_an_image_in_two_parts_is_noticed() -> None:
    parts, _ = partition(raw(), SIZES, seed=3)
    victim = parts["victims"][:1]
    mixed = LabelledImages(torch.cat([parts["train"].images, victim.images]), torch.zeros(41))
    with pytest.raises(DataError, match="the same image is in 'train' and 'victims'"):
        check_disjoint({**parts, "train": mixed})
    check_disjoint(parts)


def test_digits_are_embedded_and_readable() -> None:
    digits = load("digits")
    assert digits.images.shape == (1797, 1, 28, 28)
    assert digits.images.dtype == np.uint8
    assert digits.images.min() == 0
    assert digits.images.max() >= 250
    assert set(digits.labels.tolist()) == set(range(10)) == set(map(int, digits.classes))
    means = np.stack([digits.images[digits.labels == k].mean(0).ravel() for k in range(10)])
    nearest = ((digits.images.reshape(1797, 1, -1) - means) ** 2).sum(2).argmin(1)
    assert (nearest == digits.labels).mean() > 0.85, "pictures and labels belong together"
    again = load("digits")
    assert np.array_equal(digits.images, again.images)


def test_digits_can_be_divided_as_the_default_scenario_does() -> None:
    sizes = {"train": 1000, "auxiliary": 500, "validation": 100, "victims": 64, "test": 100, "tuning": 33}
    parts, _ = partition(load("digits"), sizes, seed=0)
    assert {name: len(part) for name, part in parts.items()} == sizes


def test_slices_keep_images_and_labels_together() -> None:
    images = LabelledImages(smooth_images(5, raw().input_spec), torch.arange(5))
    chosen = images[torch.tensor([4, 1])]
    assert len(chosen) == 2
    assert torch.equal(chosen.images, images.images[[4, 1]])
    assert chosen.labels.tolist() == [4, 1]
