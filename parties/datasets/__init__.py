"""The data sets by name; `load` also takes the path of a user's own .npz file.

To add one, write a file with a reader `(data_directory or None) -> RawData` and add a line to `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from parties.datasets.adult import adult, adult_inputs, adult_whole
from parties.datasets.cifar import cifar10
from parties.datasets.dataset import DataError, RawData
from parties.datasets.digits import digits
from parties.datasets.ecg import ecg
from parties.datasets.faces import gt_faces, lfw_faces, lfw_public, orl_faces, umist_faces, yale_faces
from parties.datasets.gss_happiness import gss_happiness
from parties.datasets.idx import fashion_mnist, mnist
from parties.datasets.iwpc_warfarin import iwpc_warfarin
from parties.datasets.npz import own_npz
from parties.datasets.parity import digits_parity, mnist_parity
from parties.datasets.steak import steak
from parties.datasets.table import Table

DATASETS: dict[str, Callable[[Path | None], RawData]] = {
    "digits": digits,
    "mnist": mnist,
    "digits_parity": digits_parity,
    "mnist_parity": mnist_parity,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "ecg": ecg,
    "adult": adult_inputs,
    "adult_whole": adult_whole,
    "orl_faces": orl_faces,
    "umist_faces": umist_faces,
    "gt_faces": gt_faces,
    "yale_faces": yale_faces,
    "lfw_faces": lfw_faces,
    "lfw_public": lfw_public,
}

TABLES: dict[str, Callable[[Path | None], Table]] = {
    "steak": steak,
    "gss_happiness": gss_happiness,
    "adult": adult,
    "iwpc_warfarin": iwpc_warfarin,
}


def load_table(name: str, data_dir: Path | None = None) -> Table:
    """Read a table by its registry name.

    Raises:
        DataError: an unknown name, missing files (`DataMissing`), or files that are not what they should be.
    """
    if name not in TABLES:
        raise DataError(f"unknown table {name!r}; use one of: {', '.join(TABLES)}")
    return TABLES[name](data_dir)


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
