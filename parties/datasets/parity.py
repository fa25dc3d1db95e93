"""Digits of which the task asks only whether they are even or odd; which digit it is, is for others to read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from parties.datasets.dataset import RawData
from parties.datasets.digits import digits
from parties.datasets.idx import mnist


def digits_parity(data_dir: Path | None = None) -> RawData:
    """The digits that scikit-learn carries, even or odd, with the attribute `digit`."""
    return _by_parity(digits(data_dir))


def mnist_parity(data_dir: Path | None = None) -> RawData:
    """MNIST, even or odd, with the attribute `digit`."""
    return _by_parity(mnist(data_dir))


def _by_parity(raw: RawData) -> RawData:
    return replace(
        raw,
        name=f"{raw.name}_parity",
        labels=raw.labels % 2,
        classes=("even", "odd"),
        attributes={"digit": raw.labels},
    )
