"""Cuts at time slots and frame numbers, nothing lost."""

import numpy as np

from ids_appliance.capture.slices import Slices
from ids_appliance.types import FRAME, FrameBatch, Source


class Given(Source):
    def __init__(self, *batches):
        self.given = batches
        self.closed = False

    def batches(self):
        yield from self.given

    def counters(self):
        return {"delivered": 7}

    def close(self):
        self.closed = True


def batch(times):
    frames = np.zeros(len(times), FRAME)
    frames["timestamp_ns"] = times
    return FrameBatch(np.zeros(4, np.uint8), frames)


def cut(*batches, **how):
    source = Slices(Given(*batches), **how)
    return [None if b is None else b.frames["timestamp_ns"].tolist() for b in source.batches()]


def test_a_batch_ends_with_its_time_slot():
    assert cut(batch([1, 9, 10, 19, 20, 45, 46]), span_ns=10) == [
        [1, 9],
        [10, 19],
        [20],
        [45, 46],
    ]


def test_a_batch_ends_when_it_is_full():
    assert cut(batch([1] * 7), frames=3) == [[1, 1, 1], [1, 1, 1], [1]]


def test_batches_of_the_source_are_not_joined_and_nothing_is_nothing():
    assert cut(batch([1]), None, batch([1, 2]), batch([]), span_ns=10) == [[1], None, [1, 2]]


def test_the_rest_is_the_sources():
    inner = Given()
    source = Slices(inner)
    assert source.counters() == {"delivered": 7}
    source.close()
    assert inner.closed
