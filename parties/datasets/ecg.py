"""Heartbeats of the MIT-BIH Arrhythmia Database: series, not images."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from parties.datasets.dataset import DataError, DataMissing, RawData, data_directory

CLASSES = ("normal", "supraventricular", "ventricular", "fusion", "unknown")  # N, S, V, F, Q
SAMPLES = 187
CREDIT = (
    "contains information from the MIT-BIH Arrhythmia Database (Moody and Mark 2001; PhysioNet, Goldberger et al. "
    "2000), which is made available under the ODC Attribution License 1.0; beats as cut by Kachuee et al. 2018"
)


def ecg(data_dir: Path | None) -> RawData:
    """1,000 heartbeats of MIT-BIH, 187 samples each at 125 Hz, five classes alike (Moody and Mark, 2001).

    Each is scaled to [0, 1] and ends in zeros (Kachuee, Fazeli and Sarrafzadeh, 2018). Its two halves were drawn by
    beat and not by patient, so neither is a test part in its own right: they are one pool here. PhysioNet publishes
    the recordings, which name nobody, for redistribution with attribution, so beats may be shown.

    Raises:
        DataMissing: there is no `ecg/mitbih_ptb_sample.npz` in the data directory.
        DataError: the file is broken, or holds something else.
    """
    path = data_directory(data_dir) / "ecg" / "mitbih_ptb_sample.npz"
    if not path.is_file():
        raise DataMissing(f"{path} is missing; put it there or give another --data-dir")
    try:
        with np.load(path, allow_pickle=False) as archive:
            beats = np.concatenate([archive["x_train"], archive["x_test"]])
            labels = np.concatenate([archive["y_train"], archive["y_test"]])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not the expected file ({error}); fetch it again") from error
    if beats.dtype != np.float32 or beats.shape != (len(labels), SAMPLES) or labels.shape != (len(labels),):
        raise DataError(
            f"{path}: expected float32 beats of {SAMPLES} samples with a label each, got {beats.dtype} of shape "
            f"{beats.shape} and {labels.shape}; fetch it again"
        )
    if not (beats.min() >= 0 and beats.max() <= 1 and labels.min() >= 0 and labels.max() < len(CLASSES)):
        raise DataError(f"{path}: expected beats in [0, 1] and labels below {len(CLASSES)}; fetch it again")
    return RawData("ecg", beats[:, None], labels.astype(np.int64), CLASSES, credit=CREDIT)
