"""Delays in, a histogram out: how long packets waited for their verdict."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np

BOUNDS_US: Final = (
    *(10, 20, 30, 45, 60, 80, 100, 150, 200, 300, 450, 600, 800),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000),
)
"""Upper bounds of the buckets, microseconds; one more takes what is beyond."""

_BOUNDS: Final = np.array(BOUNDS_US, np.float64)
_MANY: Final = 16


class Delays:
    """A histogram with fixed buckets; adding costs a search among 23 numbers."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        self.total_us = 0.0
        self.most_us = 0.0

    def add(self, stamps_ns: Sequence[int], *, now_ns: int) -> None:
        """Count how long ago these were, in nanoseconds; what is to come, where a clock was set
        back, counts as now."""
        counts = self.counts
        if len(stamps_ns) > _MANY:
            delays = np.maximum(now_ns - np.array(stamps_ns, np.int64), 0) / 1000
            found = np.bincount(np.searchsorted(_BOUNDS, delays), minlength=len(counts))
            for i in np.flatnonzero(found).tolist():
                counts[i] += int(found[i])
            self.total_us += float(delays.sum())
            self.most_us = max(self.most_us, float(delays.max()))
            return
        for stamp_ns in stamps_ns:
            us = max(0, now_ns - stamp_ns) / 1000
            counts[bisect_left(BOUNDS_US, us)] += 1
            self.total_us += us
            if us > self.most_us:
                self.most_us = us

    def quantile(self, share: float) -> float:
        """Return the delay in microseconds that this share stays under, interpolated inside its
        bucket; 0 where nothing was counted."""
        total = sum(self.counts)
        wanted, before = share * total, 0
        for i, n in enumerate(self.counts):
            if n and before + n >= wanted:
                low = BOUNDS_US[i - 1] if i else 0
                high = BOUNDS_US[i] if i < len(BOUNDS_US) else self.most_us
                return min(self.most_us, low + (high - low) * (wanted - before) / n)
            before += n
        return 0.0

    def counters(self, name: str) -> dict[str, int]:
        """Return the cumulative buckets (NAME_us_le_10, ..., _le_inf), their sum and quantiles."""
        found, so_far = {}, 0
        for bound, n in zip((*BOUNDS_US, "inf"), self.counts, strict=True):
            so_far += n
            found[f"{name}_us_le_{bound}"] = so_far
        quantiles = {f"{name}_us_p{p}": round(self.quantile(p / 100)) for p in (50, 99)}
        return found | {f"{name}_us_sum": round(self.total_us)} | quantiles
