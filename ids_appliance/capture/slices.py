"""A source's batches in, short ones out: so that what is decided takes effect as soon as live."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from ids_appliance.types import FrameBatch, Source

FRAMES: Final = 256
SPAN_NS: Final = 20 * 10**6
"""Packet time in one batch; the ring hands over what it has at least every few milliseconds."""


class Slices(Source):
    """A Source that cuts another one's batches where a time slot of `span_ns` or a number of
    frames is full. Batches are counted anew in each of the other's: cuts depend on the file alone.
    """

    def __init__(self, source: Source, *, frames: int = FRAMES, span_ns: int = SPAN_NS) -> None:
        self._source = source
        self._frames = frames
        self._span_ns = span_ns

    def batches(self) -> Iterator[FrameBatch | None]:
        """Yield the other's frames in shorter batches."""
        for batch in self._source.batches():
            if batch is None:
                yield None
                continue
            n = len(batch.frames)
            slots = batch.frames["timestamp_ns"] // self._span_ns
            begins = np.flatnonzero(np.diff(slots)) + 1
            at = 0
            for end in [*begins.tolist(), n]:
                while at < end:
                    until = min(end, at + self._frames)
                    yield FrameBatch(batch.data, batch.frames[at:until])
                    at = until

    def counters(self) -> dict[str, int]:
        """Return the other's."""
        return self._source.counters()

    def close(self) -> None:
        """Close the other."""
        self._source.close()
