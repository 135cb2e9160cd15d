"""Where the running gateway has its time from."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from."""

    monotonic_ns: Callable[[], int]
    wall_ns: Callable[[], int]

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self.monotonic_ns() / 1e9

    def wall_of(self, monotonic_ns: int) -> int:
        """Return a time of the monotonic clock as nanoseconds since the epoch."""
        return self.wall_ns() - self.monotonic_ns() + monotonic_ns
