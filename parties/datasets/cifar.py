"""CIFAR-10: the 60,000 pictures as JPEG files kept in one .npz."""

from __future__ import annotations

import io
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from parties.datasets.dataset import DataError, DataMissing, RawData, data_directory

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(data_dir: Path | None) -> RawData:
    """50,000 + 10,000 colour pictures, 32×32 (Krizhevsky, 2009), about 30 dB off the originals through JPEG.

    Raises:
        DataMissing: there is no `cifar10/cifar10_jpeg.npz` in the data directory.
        DataError: the file is broken.
    """
    path = data_directory(data_dir) / "cifar10" / "cifar10_jpeg.npz"
    if not path.is_file():
        raise DataMissing(f"{path} is missing; put it there or give another --data-dir")
    try:
        with np.load(path, allow_pickle=False) as archive:
            parts = [_decode(archive[f"{p}_jpeg"], archive[f"{p}_offset"]) for p in ("train", "test")]
            labels = np.concatenate([archive["train_label"], archive["test_label"]]).astype(np.int64)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, UnidentifiedImageError) as error:
        raise DataError(f"{path} is not the expected file ({error}); fetch it again") from error
    if len(labels) != sum(map(len, parts)):
        raise DataError(f"{path} holds {sum(map(len, parts))} pictures but {len(labels)} labels; fetch it again")
    return RawData("cifar10", np.concatenate(parts), labels, CLASSES, official_train=len(parts[0]))


def _decode(joined: npt.NDArray[np.uint8], offsets: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    images = np.empty((len(offsets) - 1, 3, 32, 32), dtype=np.uint8)
    for index, (start, end) in enumerate(pairwise(offsets)):
        with Image.open(io.BytesIO(joined[start:end].tobytes()), formats=["JPEG"]) as picture:
            images[index] = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    return images
