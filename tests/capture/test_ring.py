"""Live source without a kernel: `close` from another thread at the worst moments."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ids_appliance.capture import ring
from ids_appliance.capture.netlink import Link
from ids_appliance.types import FRAME

LINK = Link(2, "eth0", 1, True, bytes(6), 0, "", 0)


class FakeRing:
    """Hands over one frame at a time, and complains like the real one when used after `close`."""

    attached = True
    drained = True

    def __init__(self, **_: Any) -> None:
        self.closed = 0
        self.frames = 1
        self.on_take = lambda: None

    def fileno(self) -> int:
        return 0

    def know(self, *_: Any) -> None: ...

    def attach_filter(self, *_: Any) -> None: ...

    def bind(self, *_: Any) -> None: ...

    def take_error(self) -> int:
        return 0

    def take(self, frames: np.ndarray[Any, Any], number: int) -> int:
        self.on_take()
        if self.closed:
            raise ValueError("the ring is closed")
        frames[: self.frames] = np.zeros((), FRAME)
        return self.frames

    def statistics(self) -> dict[str, int]:
        return {}

    def stop(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[ring.RingSource]:
    monkeypatch.setattr(ring, "Ring", FakeRing)
    monkeypatch.setattr(ring, "memoryview", lambda _: bytes(64), raising=False)
    monkeypatch.setattr(ring, "links", lambda: {2: LINK})
    made = ring.RingSource("eth0", timeout_s=0.01)
    yield made
    made.close()


def test_close_while_batches_has_just_found_it_open(
    source: ring.RingSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread decides to release everything; it is slow, and `batches` goes on meanwhile."""
    taking, decided, released = (threading.Event() for _ in range(3))
    release = source._release

    def slow_release() -> None:
        decided.set()
        taking.wait(0.5)
        release()
        released.set()

    def close() -> None:
        source.close()
        decided.set()

    monkeypatch.setattr(source, "_release", slow_release)
    closer = threading.Thread(target=close)
    state = {"closed": False, "looks": 0}

    class Watched(ring.RingSource):
        @property
        def _closed(self) -> bool:
            answer = state["closed"]
            if threading.current_thread() is not closer:
                state["looks"] += 1
                if state["looks"] == 1:  # open; the other thread runs now
                    closer.start()
                    decided.wait(5)
            return bool(answer)

        @_closed.setter
        def _closed(self, value: bool) -> None:
            state["closed"] = value

    def on_take() -> None:
        taking.set()
        released.wait(0.5)

    fake: Any = source._ring
    fake.on_take = on_take
    del source.__dict__["_closed"]
    source.__class__ = Watched
    assert len(list(source.batches())) <= 1
    closer.join(5)
    assert fake.closed == 1


def test_a_signal_handler_that_closes_in_the_middle_of_close(source: ring.RingSource) -> None:
    held = source._ring
    assert isinstance(held, FakeRing)
    inner = held.close

    def close_again() -> None:
        inner()
        source.close()

    held.close = close_again
    source.close()
    assert held.closed == 1
    source.wake()
    source.stop()


class Waits:
    """Notes how long is waited for, and says what has come meanwhile."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.come: list[tuple[int, int]] = []

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        self.asked.append(milliseconds)
        return self.come


@pytest.fixture
def waits(source: ring.RingSource) -> Waits:
    found: Any = Waits()
    source._aside = found
    return found


@pytest.mark.parametrize(("frames", "waiting"), [(1, 0), (31, 0), (32, 1), (511, 1), (512, 0)])
def test_who_has_some_frames_at_once_waits_for_more(
    source: ring.RingSource, waits: Waits, frames: int, waiting: int
) -> None:
    fake: Any = source._ring
    fake.frames = frames
    batches = source.batches()
    found = [next(batches) for _ in range(4)]
    assert [len(batch.frames) for batch in found if batch is not None] == [frames] * 4
    # One burst is none of many; and the last batch is not done with yet.
    assert waits.asked == [10] * (2 * waiting)


def test_who_waits_for_more_is_woken(source: ring.RingSource, waits: Waits) -> None:
    fake: Any = source._ring
    fake.frames = 100
    batches = source.batches()
    assert next(batches) is not None and next(batches) is not None
    source.wake()
    waits.come = [(source._wake, 1)]
    assert next(batches) is None  # there is something else to look after
    assert next(batches) is not None
    source.close()
    assert list(batches) == []


def test_who_is_asked_beside_something_else_does_not_wait(
    source: ring.RingSource, waits: Waits
) -> None:
    fake: Any = source._ring
    fake.frames = 100
    source._timeout_s = 0.0
    batches = source.batches()
    assert [next(batches) is None for _ in range(3)] == [False] * 3
    assert waits.asked == []
