"""How far reconstructions of a class are from its private samples, where nothing pairs them (Tanaka et al. 2020)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def kl_indicator(private: npt.NDArray[np.floating], found: npt.NDArray[np.floating], k: int = 1) -> float:
    """An estimate of KL(private ‖ found) in nats: low where `found` covers what is private.

    (d/n) Σ log(s_k/r_k) + log(m/(n−1)), where r_k is the distance of a private sample to its k-th neighbour among the
    other private ones, and s_k among those found (Pérez-Cruz 2008, eq. 14). It is biased low in many dimensions:
    rank by it, do not read it as a number of nats. An estimate below 0 is possible.

    Args:
        private: (n, …) samples; flattened.
        found: (m, …) samples of the same shape; flattened.
        k: which neighbour.

    Raises:
        ValueError: other shapes, or fewer samples than neighbours.
    """
    ours, theirs = (np.asarray(s, dtype=np.float64).reshape(len(s), -1) for s in (private, found))
    if ours.shape[1:] != theirs.shape[1:]:
        raise ValueError(f"expected samples of {ours.shape[1]} numbers, got {theirs.shape[1]}")
    if k < 1 or len(ours) <= k or len(theirs) < k:
        raise ValueError(
            f"expected more than {k} private and at least {k} found samples, got {len(ours)}, {len(theirs)}"
        )
    within = _kth_distance(ours, ours, k + 1)  # the nearest private neighbour of a private sample is itself
    across = _kth_distance(theirs, ours, k)
    # A sample that occurs twice, or was found exactly, would be infinitely near; float32 tells no less apart.
    least = 1e-7 * float(np.sqrt(ours.shape[1]))
    ratios = np.log(np.maximum(across, least) / np.maximum(within, least))
    return float(ours.shape[1] * ratios.mean() + np.log(len(theirs) / (len(ours) - 1)))


def _kth_distance(among: npt.NDArray[np.float64], of: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
    from sklearn.neighbors import NearestNeighbors  # takes half a second, which every command would wait for

    distances, _ = NearestNeighbors(n_neighbors=k).fit(among).kneighbors(of)
    return np.asarray(distances[:, -1], dtype=np.float64)
