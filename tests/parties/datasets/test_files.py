"""Data sets read from a data directory: IDX files, and CIFAR-10's pictures."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parties.datasets import DATASETS, load
from parties.datasets.dataset import DATA_VARIABLE, DataError, DataMissing, data_directory
from parties.datasets.idx import read_idx

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def arrays(train: int = 5, test: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(train, 28, 28), (train,), (test, 28, 28), (test,)]
    return {n: rng.integers(0, 10, s, dtype=np.uint8) for n, s in zip(FILES, shapes, strict=True)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mnist").mkdir()
    for name, array in arrays().items():
        (tmp_path / "mnist" / name).write_bytes(idx(array))
    return tmp_path


def change(folder: Path, name: str, content: bytes) -> None:
    (folder / "mnist" / name).write_bytes(content)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_four_files_become_a_data_set(tmp_path: Path, name: str, packed: bool) -> None:
    (tmp_path / name).mkdir()
    for file, array in arrays().items():
        content = gzip.compress(idx(array)) if packed else idx(array)
        (tmp_path / name / (file + ".gz" * packed)).write_bytes(content)
    raw, given = load(name, tmp_path), arrays()
    assert raw.name == name
    assert np.array_equal(raw.images[:, 0], np.concatenate([given[FILES[0]], given[FILES[2]]]))
    assert np.array_equal(raw.labels, np.concatenate([given[FILES[1]], given[FILES[3]]]))
    assert raw.official_train == 5
    assert len(raw.classes) == 10


def test_a_missing_file_is_named(folder: Path) -> None:
    for name in FILES:
        content = (folder / "mnist" / name).read_bytes()
        (folder / "mnist" / name).unlink()
        with pytest.raises(DataMissing, match=rf"{name}\.gz is missing"):
            load("mnist", folder)
        change(folder, name, content)
    load("mnist", folder)


@pytest.mark.parametrize("file", FILES)
def test_a_file_cut_short_or_too_long_is_refused(folder: Path, file: str) -> None:
    content = (folder / "mnist" / file).read_bytes()
    for broken in (b"", content[:3], content[:6], content[:-1], content + b"\0"):
        change(folder, file, broken)
        with pytest.raises(DataError, match="fetch it again"):
            load("mnist", folder)


@pytest.mark.parametrize("magic", [b"\0\0\x08\x01", b"\0\0\x0d\x03", b"\x01\0\x08\x03", b"GIF8"])
def test_a_wrong_magic_number_is_refused(folder: Path, magic: bytes) -> None:
    content = (folder / "mnist" / FILES[0]).read_bytes()
    change(folder, FILES[0], magic + content[4:])
    with pytest.raises(DataError, match="expected an IDX file of bytes with 3 dimensions"):
        load("mnist", folder)


def test_a_broken_gzip_is_refused(folder: Path) -> None:
    path = folder / "mnist" / FILES[0]
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    flipped = bytearray(packed)
    flipped[len(flipped) // 2] ^= 0xFF
    for broken in (b"", packed[:-5], packed[:40], b"no gzip at all", bytes(flipped)):
        change(folder, FILES[0] + ".gz", broken)
        with pytest.raises(DataError, match="fetch it again"):
            load("mnist", folder)
    change(folder, FILES[0] + ".gz", packed)
    load("mnist", folder)


def test_labels_have_to_match_the_images(folder: Path) -> None:
    change(folder, FILES[3], idx(np.zeros(2, np.uint8)))
    with pytest.raises(DataError, match="3 t10k images but 2 labels"):
        load("mnist", folder)
    change(folder, FILES[3], idx(np.array([0, 10, 1], np.uint8)))
    with pytest.raises(DataError, match="labels below 10, got 10"):
        load("mnist", folder)


def test_a_header_may_not_promise_more_than_there_is(tmp_path: Path) -> None:
    huge = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 4) + b"1234"
    (tmp_path / "huge").write_bytes(huge)
    with pytest.raises(DataError, match="4 bytes follow"):
        read_idx(tmp_path / "huge", 3)


def test_the_data_directory_is_given_or_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    for name in set(DATASETS) - {"digits", "digits_parity"}:
        with pytest.raises(DataMissing, match=f"--data-dir DIR or set {DATA_VARIABLE}"):
            load(name)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataMissing, match="nowhere does not exist"):
        data_directory(None)
    assert data_directory(tmp_path) == tmp_path
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert data_directory(None) == tmp_path
    with pytest.raises(DataMissing, match=r"cifar10_jpeg\.npz is missing"):
        load("cifar10")


def test_an_unknown_data_set_names_those_there_are() -> None:
    with pytest.raises(DataError, match=r"unknown data set 'mnits'; use one of: digits, mnist, .* path of an \.npz"):
        load("mnits")


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def cifar_file(folder: Path, pictures: list[bytes], train: int = 2, labels: int | None = None) -> None:
    parts = {"train": pictures[:train], "test": pictures[train:]}
    content = {}
    for part, own in parts.items():
        content[f"{part}_jpeg"] = np.frombuffer(b"".join(own), np.uint8)
        content[f"{part}_offset"] = np.cumsum([0, *map(len, own)])
        content[f"{part}_label"] = np.arange(len(own) if labels is None else labels)
    (folder / "cifar10").mkdir(exist_ok=True)
    np.savez(folder / "cifar10" / "cifar10_jpeg.npz", **content)


COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]


def test_pictures_are_decoded_channels_first(tmp_path: Path) -> None:
    cifar_file(tmp_path, [jpeg(colour) for colour in COLOURS])
    raw = load("cifar10", tmp_path)
    assert raw.images.shape == (3, 3, 32, 32)
    assert raw.official_train == 2
    assert raw.labels.tolist() == [0, 1, 0]
    assert raw.images.mean((2, 3)).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("broken", [b"no picture", b"", jpeg((1, 2, 3), (16, 16)), jpeg((1, 2, 3))[:-200]])
def test_a_picture_that_is_none_is_an_error(tmp_path: Path, broken: bytes) -> None:
    cifar_file(tmp_path, [jpeg(COLOURS[0]), broken, jpeg(COLOURS[1])])
    with pytest.raises(DataError, match="is not the expected file"):
        load("cifar10", tmp_path)


def test_pictures_without_as_many_labels_are_an_error(tmp_path: Path) -> None:
    cifar_file(tmp_path, [jpeg(colour) for colour in COLOURS], labels=1)
    with pytest.raises(DataError, match="labels"):
        load("cifar10", tmp_path)


def heartbeats(folder: Path, **changes: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    (folder / "ecg").mkdir()
    arrays = {f"x_{part}": rng.random((4, 187), dtype=np.float32) for part in ("train", "test")}
    arrays |= {f"y_{part}": np.arange(4, dtype=np.uint8) for part in ("train", "test")}
    np.savez(folder / "ecg" / "mitbih_ptb_sample.npz", **{**arrays, **changes})
    return folder


def test_heartbeats_of_both_halves_are_one_pool_of_series(tmp_path: Path) -> None:
    raw = load("ecg", heartbeats(tmp_path))
    assert raw.input_spec.shape == (1, 187)
    assert len(raw.labels) == 8
    assert raw.official_train is None


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"x_test": np.zeros((4, 100), np.float32)}, "not the expected file"),
        ({"x_train": np.zeros((5, 187), np.float32)}, "expected float32 beats of 187 samples with a label each"),
        ({"x_train": np.full((4, 187), 2, np.float32)}, r"expected beats in \[0, 1\]"),
        ({"x_train": np.full((4, 187), np.nan, np.float32)}, r"expected beats in \[0, 1\]"),
        ({"y_test": np.full(4, 9, np.uint8)}, "labels below 5"),
    ],
)
def test_a_file_that_holds_no_heartbeats_is_refused(tmp_path: Path, changes: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(DataError, match=text):
        load("ecg", heartbeats(tmp_path, **changes))


def test_missing_heartbeats_are_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"mitbih_ptb_sample\.npz is missing"):
        load("ecg", tmp_path)
