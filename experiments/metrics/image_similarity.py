"""How close reconstructions are to the private images: MSE, PSNR and SSIM of scikit-image, with stated settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity
from torch import Tensor

DATA_RANGE = 1.0
"""Images are in [0, 1], so the peak of PSNR and the dynamic range of SSIM are 1, never 255."""

MSE_FLOOR = 1e-16
"""Float32 images cannot be told apart below this; it caps PSNR at 160 dB, where a perfect copy has infinity."""

SSIM_WINDOW = 7
"""Side of SSIM's uniform window in pixels or samples; smaller inputs take the largest odd window that fits."""


@dataclass(frozen=True)
class Similarity:
    """Per image: MSE, PSNR in dB, and SSIM, each of shape (N,)."""

    mse: npt.NDArray[np.float64]
    psnr_db: npt.NDArray[np.float64]
    ssim: npt.NDArray[np.float64]


def similarity(truth: Tensor, images: Tensor) -> Similarity:
    """Compare images (N, C, H, W), or series (N, C, L), in [0, 1] one by one with the truth of the same shape.

    Raises:
        ValueError: the shapes differ, or the images are too small for any SSIM window.
    """
    if truth.shape != images.shape:
        raise ValueError(f"expected reconstructions of shape {tuple(truth.shape)}, got {tuple(images.shape)}")
    sizes = truth.shape[2:]
    if min(sizes) < 3:
        raise ValueError(f"expected images of at least 3x3 pixels, or 3 samples, got {tuple(sizes)}")
    expected, found = truth.double().numpy(), images.double().numpy()
    mse = ((expected - found) ** 2).mean(axis=tuple(range(1, truth.ndim)))
    side = min(SSIM_WINDOW, *sizes)
    window = side if side % 2 else side - 1
    ssim = [
        structural_similarity(a, b, data_range=DATA_RANGE, win_size=window, channel_axis=0)
        for a, b in zip(expected, found, strict=True)
    ]
    return Similarity(mse, 10 * np.log10(DATA_RANGE**2 / np.maximum(mse, MSE_FLOOR)), np.array(ssim))
