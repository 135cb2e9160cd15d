"""Counts and shares in, intervals of confidence out."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

Z95 = 1.959963984540054


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927); (0, 1) where nothing was counted.

    It takes the counted things to be independent: senders of one capture are not, packets never.
    """
    if not of:
        return 0.0, 1.0
    share, z2 = hits / of, Z95 * Z95
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 * sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(shares: Sequence[float], *, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of shares, each of one origin: origins are
    what a sample of networks consists of. (0, 1) for fewer than two."""
    if len(shares) < 2:
        return 0.0, 1.0
    values = np.asarray(shares, np.float64)
    drawn = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
