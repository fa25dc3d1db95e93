"""The data sets by name; `load` also takes the path of a user's own .npz file.

To add one, write a file with a reader `(data_directory or None) -> RawData` and add a line to `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from parties.datasets.cifar import cifar10
from parties.datasets.dataset import DataError, RawData
from parties.datasets.digits import digits
from parties.datasets.idx import fashion_mnist, mnist
from parties.datasets.npz import own_npz

DATASETS: dict[str, Callable[[Path | None], RawData]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}


def load(name: str, data_dir: Path | None = None) -> RawData:
    """Read a data set by its registry name, or a user's own `.npz` by its path.

    Raises:
        DataError: an unknown name, missing files (`DataMissing`), or files that are not what they should be.
    """
    if name.endswith(".npz"):
        return own_npz(Path(name))
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; use one of: {', '.join(DATASETS)}, or the path of an .npz file")
    return DATASETS[name](data_dir)
