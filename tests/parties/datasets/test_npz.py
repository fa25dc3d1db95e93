"""A user's own .npz: every accepted layout, every refused one."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.datasets import load
from parties.datasets.dataset import DataError, DataMissing, RawData
from parties.datasets.npz import own_npz

COUNT = 6
LABELS = np.arange(COUNT) % 3


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, *shape), dtype=np.uint8)


def written(folder: Path, **arrays: Any) -> Path:
    path = folder / "own.npz"
    np.savez(path, **arrays)
    return path


def read(folder: Path, images: np.ndarray, labels: Any = LABELS, **more: Any) -> RawData:
    return own_npz(written(folder, images=images, labels=labels, **more))


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (1, 9, 7), (3, 9, 7)], ids=str)
def test_each_layout_becomes_channels_first(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = pixels(*shape)
    raw = read(tmp_path, images)
    expected = images[:, None] if len(shape) == 2 else images.transpose(0, 3, 1, 2) if shape[-1] in (1, 3) else images
    assert raw.images.dtype == np.uint8
    assert raw.images.shape[2:] == (9, 7)
    assert np.array_equal(raw.images, expected)
    assert np.array_equal(raw.labels, LABELS)
    assert raw.classes == ("0", "1", "2")
    assert raw.official_train is None
    assert raw.input_spec.shape == expected.shape[1:]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_the_bytes_they_came_from(tmp_path: Path, dtype: type) -> None:
    images = pixels(5, 5)
    assert np.array_equal(read(tmp_path, (images / 255).astype(dtype)).images[:, 0], images)


def test_big_endian_and_fortran_ordered_arrays_are_read(tmp_path: Path) -> None:
    images = np.asfortranarray(pixels(5, 4, 3))
    raw = read(tmp_path, images, LABELS.astype(">i4"))
    assert np.array_equal(raw.images, images.transpose(0, 3, 1, 2))
    assert np.array_equal(raw.labels, LABELS)
    assert raw.labels.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_any_whole_numbers_are_labels(tmp_path: Path, dtype: type) -> None:
    assert np.array_equal(read(tmp_path, pixels(4, 4), LABELS.astype(dtype)).labels, LABELS)


def test_class_names_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, pixels(4, 4), class_names=np.array(["ä", "b", "c"])).classes == ("ä", "b", "c")
    with pytest.raises(DataError, match="expected 3 class_names, got 2"):
        read(tmp_path, pixels(4, 4), class_names=np.array(["a", "b"]))


def test_load_takes_a_path(tmp_path: Path) -> None:
    assert load(str(written(tmp_path, images=pixels(4, 4), labels=LABELS))).name == "own"


def floats(value: float) -> np.ndarray:
    images = np.full((COUNT, 4, 4), 0.5)
    images[2, 1, 1] = value
    return images


@pytest.mark.parametrize(
    "images, text",
    [
        (pixels(), r"got images of shape \(6,\)"),
        (pixels(4), r"got images of shape \(6, 4\)"),
        (pixels(4, 4, 2), "with C 1 or 3"),
        (pixels(2, 4, 4), "with C 1 or 3"),
        (pixels(1, 4, 4, 3), "with C 1 or 3"),
        (pixels(0, 4), "expected images, got none"),
        (np.zeros((0, 4, 4), np.uint8), "expected images, got none"),
        (pixels(4, 4).astype(np.int64), "got int64; convert"),
        (pixels(4, 4) > 100, "got bool"),
        (pixels(4, 4).astype(complex), "got complex128"),
        (pixels(4, 4).astype(str), "got <U"),
        (floats(1.01), r"in \[0, 1\], got 0.5 to 1.01"),
        (floats(-0.01), r"got -0.01 to 0.5"),
        (floats(255.0), "scale"),
        (floats(np.nan), "nan"),
        (floats(np.inf), "inf"),
    ],
)
def test_images_that_are_no_images_are_refused(tmp_path: Path, images: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text):
        read(tmp_path, images)


@pytest.mark.parametrize(
    "labels, text",
    [
        (LABELS[:-1], r"expected 6 labels of shape \(6,\), got \(5,\)"),
        (LABELS[:, None], r"got \(6, 1\)"),
        (np.eye(COUNT, dtype=int), r"got \(6, 6\)"),
        (np.int64(3), r"got \(\)"),
        (LABELS.astype(float), "whole numbers, got float64"),
        (LABELS.astype(str), "whole numbers, got <U"),
        (LABELS > 0, "whole numbers, got bool"),
        (LABELS - 1, "expected labels from 0"),
        (np.full(COUNT, 2**64 - 1, np.uint64), "expected labels from 0"),
        (np.zeros(COUNT, int), "at least two classes"),
        (LABELS * 10_000, "labels below 10000, got 20000"),
    ],
)
def test_labels_that_are_no_labels_are_refused(tmp_path: Path, labels: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        read(tmp_path, pixels(4, 4), labels)


@pytest.mark.parametrize("shape", [(30,), (1, 30), (4, 30)], ids=str)
def test_series_stay_the_floats_they_are(tmp_path: Path, shape: tuple[int, ...]) -> None:
    series = np.random.default_rng(0).random((COUNT, *shape))
    raw = own_npz(written(tmp_path, series=series, labels=LABELS))
    assert raw.images.dtype == np.float32
    assert raw.input_spec.shape == (shape if len(shape) == 2 else (1, 30))
    assert np.array_equal(raw.images.reshape(series.shape), series.astype(np.float32))
    assert np.array_equal(raw.inputs([2, 0]).numpy(), raw.images[[2, 0]])


@pytest.mark.parametrize(
    "series, text",
    [
        (np.zeros((COUNT, 30), np.uint8), "series as floats"),
        (np.full((COUNT, 30), 1.5), r"float series in \[0, 1\]"),
        (np.full((COUNT, 30), np.nan), r"float series in \[0, 1\]"),
        (np.zeros((COUNT, 1, 1, 30)), "series of shape"),
        (np.zeros((COUNT, 0)), "series of shape"),
    ],
)
def test_what_is_no_series_is_refused(tmp_path: Path, series: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        own_npz(written(tmp_path, series=series, labels=LABELS))


def test_images_and_series_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it holds images, labels, series"):
        own_npz(written(tmp_path, images=pixels(4, 4), series=np.zeros((COUNT, 9)), labels=LABELS))


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_a_missing_array_is_said_with_what_is_there(tmp_path: Path, missing: str) -> None:
    arrays = {"images": pixels(4, 4), "labels": LABELS, "extra": LABELS}
    del arrays[missing]
    with pytest.raises(DataError, match=f"expected arrays `images`.*it holds {', '.join(sorted(arrays))}"):
        own_npz(written(tmp_path, **arrays))


class Bomb:
    """Would leave a file behind if it was ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["images", "labels", "class_names"])
def test_objects_are_refused_without_being_unpickled(tmp_path: Path, place: str) -> None:
    harm = tmp_path / "harm"
    arrays = {"images": pixels(4, 4), "labels": LABELS, "class_names": np.array(["a", "b", "c"])}
    arrays[place] = np.array([Bomb(harm)] * COUNT, dtype=object)
    with pytest.raises(DataError, match="cannot be read"):
        own_npz(written(tmp_path, **arrays))
    assert not harm.exists()


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, images=pixels(8, 8), labels=LABELS)
    content = path.read_bytes()
    for size in (0, 3, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"cannot be read as \.npz"):
            own_npz(path)


def test_a_file_with_changed_bytes_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, images=pixels(8, 8), labels=LABELS)
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 200] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        own_npz(path)


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, images=pixels(4, 4), labels=LABELS)
    content = bytearray(path.read_bytes())
    start = 0
    while (start := content.find(b"PK\x01\x02", start)) >= 0:  # the flag in every entry of the directory
        content[start + 8] |= 1
        start += 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        own_npz(path)


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    path.write_text("images")
    with pytest.raises(DataError, match="cannot be read"):
        own_npz(path)
    with path.open("wb") as file:
        np.save(file, pixels(4, 4))  # an .npy under the wrong name
    with pytest.raises(DataError, match="cannot be read"):
        own_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00nonsense")
        archive.writestr("labels.npy", b"")
    with pytest.raises(DataError, match="cannot be read"):
        own_npz(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(DataMissing, match="does not exist"):
            own_npz(path)
