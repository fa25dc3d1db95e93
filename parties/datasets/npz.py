"""A user's own data set: one .npz file with `images`, or `series`, and `labels`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parties.datasets.dataset import DataError, DataMissing, RawData

ATTRIBUTE = "attribute_"
EXPECTED = (
    "expected arrays `images` (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3, or `series` (N, L) or (N, C, L), "
    "and `labels` (N,)"
)


def own_npz(path: Path) -> RawData:
    """`images` as uint8, or as floats in [0, 1], or `series` as floats in [0, 1]; `labels` as whole numbers from 0;
    optional `class_names`, `groups`, whole numbers that say who wrote or who is on each image, and `attribute_NAME`,
    whole numbers from 0.

    Raises:
        DataMissing: there is no such file.
        DataError: it is no .npz, holds objects, or its arrays have another shape, dtype or range.
    """
    if not path.is_file():
        raise DataMissing(f"{path} does not exist; give the path of an .npz file")
    if not zipfile.is_zipfile(path):  # numpy would suggest to unpickle it
        raise DataError(f"{path} cannot be read as .npz (no archive, or a broken one); write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            kinds = [name for name in ("images", "series") if name in archive.files]
            if len(kinds) != 1 or "labels" not in archive.files:
                raise DataError(f"{path}: {EXPECTED}; it holds {', '.join(sorted(archive.files)) or 'nothing'}")
            given, labels = archive[kinds[0]], archive["labels"]
            names = tuple(map(str, archive["class_names"])) if "class_names" in archive.files else None
            groups = archive["groups"] if "groups" in archive.files else None
            others = {name: archive[name] for name in archive.files if name.startswith(ATTRIBUTE)}
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        # A RuntimeError is how zipfile says that an archive is encrypted or packed by a method it does not know.
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as .npz ({error}); write it with numpy.savez") from error
    content: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    content = _series(path, given) if kinds == ["series"] else _bytes_of(path, _channels_first(path, given))
    numbers = _labels(path, labels, len(content))
    classes = int(numbers.max()) + 1
    if names is not None and len(names) < classes:
        raise DataError(f"{path}: expected {classes} class_names, got {len(names)}")
    whose = None if groups is None else _groups(path, groups, len(content))
    attributes = {
        name.removeprefix(ATTRIBUTE): _labels(path, values, len(content), name) for name, values in others.items()
    }
    classes_named = names or tuple(map(str, range(classes)))
    return RawData(path.stem, content, numbers, classes_named, groups=whose, attributes=attributes)


def _channels_first(path: Path, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[-1] in (1, 3):
        return np.moveaxis(images, -1, 1)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    raise DataError(f"{path}: {EXPECTED}; got images of shape {images.shape}")


def _bytes_of(path: Path, images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if images.size == 0:
        raise DataError(f"{path}: expected images, got none")
    if images.dtype == np.uint8:
        return np.asarray(images, dtype=np.uint8)
    if images.dtype.kind != "f":
        raise DataError(f"{path}: expected images as uint8 or as floats in [0, 1], got {images.dtype}; convert them")
    _check_range(path, images, "images")
    return np.asarray(np.rint(images * 255), dtype=np.uint8)


def _series(path: Path, series: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if series.ndim not in (2, 3) or series.size == 0:
        raise DataError(f"{path}: {EXPECTED}; got series of shape {series.shape}")
    if series.dtype.kind != "f":
        raise DataError(f"{path}: expected series as floats in [0, 1], got {series.dtype}; convert them")
    _check_range(path, series, "series")
    return (series if series.ndim == 3 else series[:, None]).astype(np.float32)


def _check_range(path: Path, given: npt.NDArray[Any], what: str) -> None:
    if not np.isfinite(given).all() or given.min() < 0 or given.max() > 1:
        raise DataError(f"{path}: expected float {what} in [0, 1], got {given.min():.4g} to {given.max():.4g}; scale")


def _groups(path: Path, groups: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    if groups.shape != (count,) or groups.dtype.kind not in "iu":
        raise DataError(f"{path}: expected groups as {count} whole numbers, got {groups.dtype} of shape {groups.shape}")
    return groups.astype(np.int64)


def _labels(path: Path, labels: npt.NDArray[Any], count: int, what: str = "labels") -> npt.NDArray[np.int64]:
    if labels.shape != (count,):
        raise DataError(f"{path}: expected {count} {what} of shape ({count},), got {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path}: expected {what} as whole numbers, got {labels.dtype}; convert them")
    numbers = labels.astype(np.int64)
    if numbers.min() < 0 or len(np.unique(numbers)) < 2:
        raise DataError(f"{path}: expected {what} from 0 with at least two classes, got {np.unique(numbers)[:8]}")
    if numbers.max() > 9999:
        raise DataError(f"{path}: expected {what} below 10000, got {numbers.max()}; number the classes from 0")
    return numbers
