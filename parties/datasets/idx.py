"""MNIST and Fashion-MNIST in their original IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parties.datasets.dataset import DataError, DataMissing, RawData, data_directory

FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def mnist(data_dir: Path | None) -> RawData:
    """60,000 + 10,000 handwritten digits, 28×28 grey (LeCun, Bottou, Bengio and Haffner, 1998)."""
    return _four_files("mnist", data_directory(data_dir) / "mnist", tuple("0123456789"))


def fashion_mnist(data_dir: Path | None) -> RawData:
    """60,000 + 10,000 pictures of clothes, 28×28 grey (Xiao, Rasul and Vollgraf, 2017)."""
    return _four_files("fashion_mnist", data_directory(data_dir) / "fashion_mnist", FASHION)


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes with so many dimensions, from `path` or `path`.gz.

    Raises:
        DataMissing: there is neither file.
        DataError: the file is no IDX file of that many dimensions, or is cut short.
    """
    packed = path.with_name(path.name + ".gz")
    if not path.exists() and not packed.exists():
        raise DataMissing(f"{packed} is missing; put the official IDX files there or give another --data-dir")
    try:
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{packed} cannot be unpacked ({error}); fetch it again") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path}: expected an IDX file of bytes with {dimensions} dimensions; fetch it again")
    shape = tuple(np.frombuffer(content[4:header], dtype=">u4").astype(np.int64).tolist())
    if len(content) - header != int(np.prod(shape)):
        raise DataError(f"{path}: its header says {shape}, but {len(content) - header} bytes follow; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _four_files(name: str, folder: Path, classes: tuple[str, ...]) -> RawData:
    images, labels = [], []
    for part in ("train", "t10k"):
        images.append(read_idx(folder / f"{part}-images-idx3-ubyte", 3))
        labels.append(read_idx(folder / f"{part}-labels-idx1-ubyte", 1))
        if len(images[-1]) != len(labels[-1]):
            raise DataError(f"{folder}: {len(images[-1])} {part} images but {len(labels[-1])} labels; fetch them again")
        if len(labels[-1]) and labels[-1].max() >= len(classes):
            raise DataError(f"{folder}: expected labels below {len(classes)}, got {labels[-1].max()}; fetch them again")
    together = np.concatenate(images)[:, None]
    return RawData(name, together, np.concatenate(labels).astype(np.int64), classes, official_train=len(images[0]))
