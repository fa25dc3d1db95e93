"""Faces: what is read, what is refused, and that all of them say that they show people."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from parties.datasets import DATASETS, load
from parties.datasets.dataset import DataError, DataMissing, LabelledImages
from parties.datasets.shares import divide
from tests.parties.datasets.test_real_data import loaded
from tests.parties.datasets.test_real_data import pytestmark as real_data

GREY = ("umist_faces", "gt_faces", "yale_faces")


def pgm(value: int, size: tuple[int, int] = (92, 112), kind: str = "PPM") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, kind)
    return buffer.getvalue()


def orl_archive(folder: Path, **replaced: bytes | None) -> None:
    """40 people whose pictures all have their number as grey level; `s3_7` replaces one, None leaves it out."""
    (folder / "orl_faces").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "orl_faces" / "orl_faces_pgm.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for person in range(1, 41):
            for number in range(1, 11):
                content = replaced.get(f"s{person}_{number}", pgm(person))
                if content is not None:
                    archive.writestr(f"s{person}/{number}.pgm", content)


def test_the_archive_of_orl_becomes_forty_people(tmp_path: Path) -> None:
    orl_archive(tmp_path)
    raw = load("orl_faces", tmp_path)
    assert raw.images.shape == (400, 1, 112, 92)
    assert np.bincount(raw.labels).tolist() == [10] * 40
    assert raw.classes[:2] == ("s1", "s2")
    assert (raw.images[:, 0, 0, 0] == raw.labels + 1).all()
    assert not raw.shareable
    assert raw.groups is not None
    part = LabelledImages(torch.zeros(400, 1), torch.from_numpy(raw.labels), torch.from_numpy(raw.groups))
    held = [set(part.labels[rows].tolist()) for rows in divide(part, 3, "group", 1.0, 0)]
    assert set.union(*held) == set(part.labels.tolist())
    assert sum(map(len, held)) == len(set.union(*held)), "somebody is with two owners"


@pytest.mark.parametrize(
    "broken",
    [None, b"", b"no picture", pgm(3, (50, 112)), pgm(3, kind="PNG"), pgm(3)[:-200], bytes(2 << 20)],
    ids=["missing", "empty", "text", "size", "png", "cut short", "huge"],
)
def test_one_broken_picture_is_an_error_of_one_line(tmp_path: Path, broken: bytes | None) -> None:
    orl_archive(tmp_path, s3_7=broken)
    with pytest.raises(DataError, match=r"is not the expected archive .*fetch it again"):
        load("orl_faces", tmp_path)


def test_a_file_that_is_no_archive_is_an_error(tmp_path: Path) -> None:
    orl_archive(tmp_path)
    (tmp_path / "orl_faces" / "orl_faces_pgm.zip").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="is not the expected archive"):
        load("orl_faces", tmp_path)
    with pytest.raises(DataMissing, match=r"umist_faces\.npz is missing"):
        load("umist_faces", tmp_path)


@pytest.mark.parametrize("name", GREY)
def test_people_are_numbered_from_zero(tmp_path: Path, name: str) -> None:
    (tmp_path / "aux_faces").mkdir()
    path = tmp_path / "aux_faces" / f"{name}.npz"
    images = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
    np.savez(path, x=images, y=[7, 7, 2, 9])
    raw = load(name, tmp_path)
    assert raw.labels.tolist() == [1, 1, 0, 2]
    assert raw.classes == ("2", "7", "9")
    assert np.array_equal(raw.images[:, 0], images)
    for wrong in ({"x": images}, {"x": images, "y": [1]}, {"x": images / 255, "y": [1] * 4}, {"x": images[0], "y": 1}):
        np.savez(path, **wrong)
        with pytest.raises(DataError, match="fetch it again"):
            load(name, tmp_path)


def test_all_faces_say_that_they_show_people(tmp_path: Path) -> None:
    for folder in ("aux_faces", "lfw"):
        (tmp_path / folder).mkdir()
    orl_archive(tmp_path)
    for name in GREY:
        np.savez(tmp_path / "aux_faces" / f"{name}.npz", x=np.zeros((2, 6, 5), np.uint8), y=[0, 1])
    for name in ("lfw_identities_64", "lfw_public_64"):
        np.savez(tmp_path / "lfw" / f"{name}.npz", x=np.zeros((2, 8, 8, 3), np.uint8), y=[0, 1])
    people = [name for name in DATASETS if "faces" in name or "lfw" in name]
    assert len(people) == 6
    for name in people:
        assert not load(name, tmp_path).shareable


class TestReal:
    """Counts that the sources state."""

    pytestmark = real_data

    @pytest.mark.parametrize(
        "name, shape, people",
        [
            ("orl_faces", (400, 1, 112, 92), 40),
            ("umist_faces", (380, 1, 112, 92), 20),
            ("gt_faces", (750, 1, 40, 30), 50),
            ("yale_faces", (165, 1, 100, 100), 15),
            ("lfw_faces", (1485, 3, 64, 64), 62),
            ("lfw_public", (1500, 3, 64, 64), 1500),
        ],
    )
    def test_as_many_pictures_of_as_many_people(self, name: str, shape: tuple[int, ...], people: int) -> None:
        raw = loaded(name)
        assert raw.images.shape == shape
        assert len(np.unique(raw.labels)) == len(raw.classes) == people
        assert 60 < raw.images.mean() < 170
