"""The digits that scikit-learn carries: 1,797 scans of 8×8, resized to MNIST's 28×28."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from parties.datasets.dataset import RawData


def digits(data_dir: Path | None = None) -> RawData:
    """Embedded: needs no files, so `data_dir` is not looked at."""
    # Imported here because party processes, which hold other data, start a second faster without them.
    from skimage.transform import resize
    from sklearn.datasets import load_digits

    scans = load_digits()
    small = scans.images / 16.0  # 17 grey levels
    large = resize(small, (len(small), 28, 28), order=1, anti_aliasing=False)
    images = np.rint(large * 255).astype(np.uint8)[:, None]
    return RawData("digits", images, scans.target.astype(np.int64), tuple("0123456789"))
