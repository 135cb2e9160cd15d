"""Frames that are due are sent in their turn; what is too late is given up and counted."""

import socket
import time

import numpy as np
import pytest

from ids_appliance._paced import BATCH, Paced


def paced(*frames: bytes) -> Paced:
    data = np.frombuffer(b"".join(frames), np.uint8)
    return Paced(data, np.cumsum([len(frame) for frame in frames]).astype(np.int64))


@pytest.fixture
def ends():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        other.settimeout(10)
        yield one, other


def test_frames_are_sent_in_turns_until_enough_are(ends) -> None:
    one, other = ends
    frames = paced(b"a", b"bc", b"def")
    start_ns = time.monotonic_ns() - 10**9  # all of them are due
    while not frames.send(one.fileno(), 1e6, start_ns, 7, 100):
        pass
    assert [other.recv(100) for _ in range(7)] == [b"a", b"bc", b"def", b"a", b"bc", b"def", b"a"]
    assert (frames.packets, frames.bytes, frames.given_up, frames.refused) == (7, 13, 0, 0)
    assert frames.send(one.fileno(), 1e6, start_ns, 7, 100)  # there is nothing left to do
    assert frames.packets == 7


def test_nothing_is_sent_before_it_is_due(ends) -> None:
    one, _ = ends
    frames = paced(b"a")
    assert not frames.send(one.fileno(), 1e6, time.monotonic_ns() + 10**12, 5, 100)
    assert frames.packets == frames.given_up == 0


def test_who_is_too_far_behind_gives_the_rest_up(ends) -> None:
    one, other = ends
    frames = paced(b"a")
    assert frames.send(one.fileno(), 1e9, time.monotonic_ns() - 10**9, 1000, 5)
    assert (frames.given_up, frames.packets) == (995, 5)
    other.setblocking(False)
    assert [other.recv(9) for _ in range(5)] == [b"a"] * 5
    with pytest.raises(BlockingIOError):
        other.recv(9)


def test_what_the_socket_does_not_take_is_offered_and_lost(ends) -> None:
    one, other = ends
    one.setblocking(False)
    frames, n = paced(b"a"), 3000
    while not frames.send(one.fileno(), 1e9, time.monotonic_ns() - 10**9, n, n):
        pass
    assert frames.packets == n
    other.setblocking(False)
    arrived = 0
    while arrived < n - frames.refused:
        assert other.recv(9) == b"a"
        arrived += 1
    assert frames.refused > BATCH  # its queue holds a few dozen (net.unix.max_dgram_qlen)
    with pytest.raises(BlockingIOError):
        other.recv(9)


@pytest.mark.parametrize("ends", [[], [0], [2, 1], [1, 1], [4], [-1]])
def test_ends_that_are_none_are_refused(ends) -> None:
    with pytest.raises(ValueError, match=r"frame"):
        Paced(np.zeros(3, np.uint8), np.array(ends, np.int64))
