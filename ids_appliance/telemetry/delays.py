"""Delays in, a histogram out: how long packets waited for their verdict."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

BOUNDS_US: Final = (
    *(10, 20, 30, 45, 60, 80, 100, 150, 200, 300, 450, 600, 800),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000),
)
"""Upper bounds of the buckets, microseconds; one more takes what is beyond."""


class Delays:
    """A histogram with fixed buckets; adding costs a search among 23 numbers."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        self.total_us = 0.0
        self.most_us = 0.0

    def add(self, delays_ns: Iterable[int]) -> None:
        """Count delays in nanoseconds; a negative one, where a clock was set back, is 0."""
        counts = self.counts
        for delay_ns in delays_ns:
            us = delay_ns / 1000 if delay_ns > 0 else 0.0
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
