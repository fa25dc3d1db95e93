"""Faces of people: pictures of them never enter a report unasked, and no file of theirs is part of this project."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from parties.datasets.dataset import DataError, DataMissing, RawData, data_directory

PEOPLE, PICTURES = 40, 10
ORL_SIZE = (112, 92)
LARGEST_PGM = 1 << 20
"""No picture's file is larger, in bytes; an archive that unpacks to more is none of ours."""


def orl_faces(data_dir: Path | None) -> RawData:
    """The AT&T Database of Faces (ORL): 40 people, 10 grey pictures of each, 112×92 (Samaria and Harter, 1994).

    Raises:
        DataMissing: there is no `orl_faces/orl_faces_pgm.zip` in the data directory.
        DataError: the archive is broken.
    """
    path = _file(data_dir, "orl_faces/orl_faces_pgm.zip")
    try:
        with zipfile.ZipFile(path) as archive:
            images = [_pgm(archive, f"s{s}/{n}.pgm") for s in range(1, PEOPLE + 1) for n in range(1, PICTURES + 1)]
    except (OSError, KeyError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not the expected archive ({error}); fetch it again") from error
    labels = np.repeat(np.arange(PEOPLE), PICTURES)
    names = tuple(f"s{s}" for s in range(1, PEOPLE + 1))
    return RawData("orl_faces", np.stack(images)[:, None], labels, names, shareable=False, groups=labels)


def umist_faces(data_dir: Path | None) -> RawData:
    """UMIST: 20 people, 380 grey pictures from profile to front, 112×92 (Graham and Allinson, 1998)."""
    return _grey("umist_faces", data_dir)


def gt_faces(data_dir: Path | None) -> RawData:
    """Georgia Tech: 50 people, 750 grey pictures, 40×30 (Nefian)."""
    return _grey("gt_faces", data_dir)


def yale_faces(data_dir: Path | None) -> RawData:
    """Yale: 15 people, 165 grey pictures, 100×100 (Belhumeur, Hespanha and Kriegman, 1997)."""
    return _grey("yale_faces", data_dir)


def lfw_faces(data_dir: Path | None) -> RawData:
    """Labeled Faces in the Wild: 62 people, 1,485 colour pictures, 64×64 (Huang, Ramesh, Berg and Learned-Miller)."""
    images, labels = _arrays(_file(data_dir, "lfw/lfw_identities_64.npz"), 4, labelled=True)
    return _people("lfw_faces", np.moveaxis(images, -1, 1), labels)


def lfw_public(data_dir: Path | None) -> RawData:
    """One colour picture, 64×64, of each of 1,500 people of LFW, none of whom is in `lfw_faces`."""
    images, labels = _arrays(_file(data_dir, "lfw/lfw_public_64.npz"), 4, labelled=False)
    return _people("lfw_public", np.moveaxis(images, -1, 1), labels)


def _grey(name: str, data_dir: Path | None) -> RawData:
    images, labels = _arrays(_file(data_dir, f"aux_faces/{name}.npz"), 3, labelled=True)
    return _people(name, images[:, None], labels)


def _people(name: str, images: npt.NDArray[np.uint8], people: npt.NDArray[np.int64]) -> RawData:
    numbers, found = np.unique(people, return_inverse=True)
    labels = found.astype(np.int64)
    return RawData(name, images, labels, tuple(map(str, numbers)), shareable=False, groups=labels)


def _file(data_dir: Path | None, name: str) -> Path:
    path = data_directory(data_dir) / name
    if not path.is_file():
        raise DataMissing(f"{path} is missing; put it there or give another --data-dir")
    return path


def _pgm(archive: zipfile.ZipFile, name: str) -> npt.NDArray[np.uint8]:
    if archive.getinfo(name).file_size > LARGEST_PGM:
        raise ValueError(f"{name} is larger than {LARGEST_PGM} bytes")
    try:
        with Image.open(io.BytesIO(archive.read(name)), formats=["PPM"]) as picture:
            pixels = np.asarray(picture)
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is no PGM file") from error
    if pixels.shape != ORL_SIZE or pixels.dtype != np.uint8:
        raise ValueError(f"{name}: expected {ORL_SIZE} grey bytes, got {pixels.shape} {pixels.dtype}")
    return pixels


def _arrays(path: Path, dimensions: int, labelled: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            images = archive["x"]
            labels = archive["y"] if labelled else np.arange(len(images))
    except (OSError, KeyError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not the expected file ({error}); fetch it again") from error
    if images.dtype != np.uint8 or images.ndim != dimensions or labels.shape != images.shape[:1]:
        raise DataError(
            f"{path}: expected uint8 pictures of {dimensions} dimensions, each with a label, "
            f"got {images.dtype} {images.shape} and {labels.shape}; fetch it again"
        )
    return images, labels.astype(np.int64)
