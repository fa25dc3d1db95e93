"""What a party can hold: images or series with labels, and their division into parts that share nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from split_models.tensor_spec import TensorSpec

PARTS = ("train", "auxiliary", "validation", "victims", "test", "tuning")
"""Target training; attacker's auxiliary and validation; the private inputs that are attacked; what the referee measures
accuracy on; and what the strengths of defenses are chosen on, which is the same with every seed."""

DATA_VARIABLE = "UNSMASH_DATA"


class DataError(ValueError):
    """Data are missing, broken, or too few; the message says what to do."""


class DataMissing(DataError):
    """A data set's files are not in the data directory."""


@dataclass(frozen=True)
class LabelledImages:
    """Images (N, C, H, W), or series (N, C, L), float32 in [0, 1], with labels (N,), int64, and groups (N,), int64,
    where they are known. `attributes` (N,), int64, by name are what the task has no use for."""

    images: Tensor
    labels: Tensor
    groups: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> LabelledImages:
        groups = None if self.groups is None else self.groups[index]
        attributes = {name: values[index] for name, values in self.attributes.items()}
        return LabelledImages(self.images[index], self.labels[index], groups, attributes)


@dataclass(frozen=True)
class RawData:
    """A data set as it was read: images (N, C, H, W) as bytes, or series (N, C, L) as float32 in [0, 1]; labels."""

    name: str
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    official_train: int | None = None  # the first so many are the official training part, the rest its test part
    shareable: bool = True  # may pictures of it be written into reports?
    groups: npt.NDArray[np.int64] | None = None  # who wrote or who is on each image, if known
    credit: str = ""  # what its license wants said wherever its content is shown
    attributes: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)  # besides the label, from 0
    among_inputs: tuple[str, ...] = ()  # attributes that an input holds as they are

    @property
    def input_spec(self) -> TensorSpec:
        """One image or series as networks get it: (C, H, W) or (C, L), float32 in [0, 1]."""
        return TensorSpec(tuple(self.images.shape[1:]), low=0.0, high=1.0)

    def of_classes(self, first: int, end: int) -> RawData:
        """The images of the classes from `first` to before `end`, whose labels count from 0."""
        kept = np.flatnonzero((self.labels >= first) & (self.labels < end))
        official = None if self.official_train is None else int((kept < self.official_train).sum())
        groups = None if self.groups is None else self.groups[kept]
        return replace(
            self,
            images=self.images[kept],
            labels=self.labels[kept] - first,
            classes=self.classes[first:end],
            official_train=official,
            groups=groups,
            attributes={name: values[kept] for name, values in self.attributes.items()},
        )

    def inputs(self, rows: slice | npt.NDArray[np.int64] | list[int]) -> Tensor:
        """Some of the images or series as networks get them: float32 in [0, 1]."""
        chosen = torch.from_numpy(np.ascontiguousarray(self.images[rows]))
        return chosen.float().div_(255.0) if chosen.dtype == torch.uint8 else chosen


def data_directory(given: Path | None) -> Path:
    """The folder that holds the data sets: `--data-dir`, else the UNSMASH_DATA variable.

    Raises:
        DataMissing: neither is set, or the folder does not exist.
    """
    path = given or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if path is None:
        raise DataMissing(f"this data set is read from files: give --data-dir DIR or set {DATA_VARIABLE}=DIR")
    if not path.is_dir():
        raise DataMissing(f"the data directory {path} does not exist; give another with --data-dir or {DATA_VARIABLE}")
    return path


def partition(raw: RawData, sizes: dict[str, int], seed: int) -> tuple[dict[str, LabelledImages], int]:
    """Divide a data set into the PARTS, class-balanced at random; also says how many duplicates were dropped.

    Tuning, victims, validation and test come from the official test part where there is one, the others from its
    training part. A part that `sizes` leaves out is empty. The tuning part does not depend on `seed`, so that no image
    of it is in a part of any other seed.

    Raises:
        DataError: there are fewer distinct images than asked for.
    """
    distinct = _first_occurrences(raw.images)
    official = len(raw.labels) if raw.official_train is None else raw.official_train
    pools = {"early": distinct[distinct < official], "late": distinct[distinct >= official]}
    chosen: dict[str, npt.NDArray[np.int64]] = {}
    for names, draws in ((("tuning",), 0), (("victims", "validation", "auxiliary", "train", "test"), seed)):
        rng = np.random.default_rng(draws)
        pools = {name: _interleave_classes(np.sort(pool), raw.labels, rng) for name, pool in pools.items()}
        for part in names:
            held_out = part in ("tuning", "victims", "validation", "test") and raw.official_train is not None
            source, size = "late" if held_out else "early", sizes.get(part, 0)
            if len(pools[source]) < size:
                raise DataError(
                    f"{raw.name} has {len(distinct)} distinct images, too few for the parts asked for "
                    f"({', '.join(f'{name} {size}' for name, size in sizes.items())}); make them smaller under [data]"
                )
            chosen[part], pools[source] = pools[source][:size], pools[source][size:]
    parts = {name: _as_tensors(raw, chosen[name]) for name in PARTS}
    check_disjoint(parts)
    return parts, len(raw.labels) - len(distinct)


def check_disjoint(parts: dict[str, LabelledImages]) -> None:
    """Check by content that no image is in two parts.

    Raises:
        DataError: an image is in two parts, so what an attacker reaches would be no reconstruction.
    """
    owner: dict[bytes, str] = {}
    for name, part in parts.items():
        for digest in _digests(part.images.numpy()):
            if owner.setdefault(digest, name) != name:
                raise DataError(f"the same image is in {owner[digest]!r} and {name!r}; the parts must be disjoint")


def _digests(images: npt.NDArray[np.generic]) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def _first_occurrences(images: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    first: dict[bytes, int] = {}
    for index, digest in enumerate(_digests(images)):
        first.setdefault(digest, index)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))


def _interleave_classes(
    indices: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Shuffle, then order so that every prefix holds the classes in about their overall proportions."""
    shuffled = rng.permutation(indices)
    position = np.empty(len(shuffled), dtype=np.float64)
    for label in np.unique(labels[shuffled]):
        where = np.flatnonzero(labels[shuffled] == label)
        position[where] = (np.arange(len(where)) + rng.random()) / len(where)
    return shuffled[np.argsort(position, kind="stable")]


def _as_tensors(raw: RawData, indices: npt.NDArray[np.int64]) -> LabelledImages:
    groups = None if raw.groups is None else torch.from_numpy(raw.groups[indices].astype(np.int64))
    attributes = {name: torch.from_numpy(values[indices].astype(np.int64)) for name, values in raw.attributes.items()}
    labels = torch.from_numpy(raw.labels[indices].astype(np.int64))
    return LabelledImages(raw.inputs(indices), labels, groups, attributes)
