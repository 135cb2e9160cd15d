"""Held packets with a thread that reads and answers: what it takes in, shows, and gives back."""

import errno
import os
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ids_appliance._nfqueue import HeldPackets
from ids_appliance.types import FRAME
from tests.reference.netfilter import message, model, packet

QUEUE, MOST, LENGTH, COPY, FIRST = 7, 8, 8, 64, 1 << 40
SLOTS = LENGTH + MOST
NOW = 1_700_000_000 * 10**9
PATIENCE_S = 60.0
"""For what comes at once on an idle machine."""


class Bed:
    """The compiled part with its thread between two ends of a socket: ours is the kernel's."""

    def __init__(self, fd: int = -1) -> None:
        self.kernel, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.kernel.settimeout(PATIENCE_S)
        self.held = HeldPackets(
            fd if fd >= 0 else self.end.fileno(),
            queue=QUEUE,
            copy_bytes=COPY,
            length=LENGTH,
            most=MOST,
            first=FIRST,
        )
        self.frames = np.zeros(MOST, FRAME)
        self.work, self.tell = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        self.held.begin(self.work, self.tell)
        self._thread = threading.Thread(target=self.held.serve)
        self._thread.start()

    def send(self, *idents: int, payload: bytes | None = None) -> None:
        for ident in idents:
            ip = packet(ident) if payload is None else payload
            self.kernel.send(message(QUEUE, ip, id=ident))

    def take(self, count: int, *, room: int = MOST) -> list[int]:
        """Wait until so many frames were taken; return their numbers."""
        found: list[int] = []
        while len(found) < count:
            assert select.select([self.tell], [], [], PATIENCE_S)[0], "nothing came"
            n, _ = self.held.take(self.frames[:room], NOW)
            found += self.frames["number"][:n].tolist()
        assert len(found) == count
        return found

    def came(self, count: int) -> None:
        """Wait until the thread has read so many packets, taken or not."""
        end = time.monotonic() + PATIENCE_S
        while self.held.received < count:
            assert time.monotonic() < end, "they were not read"
            os.sched_yield()

    def say(self, *numbers: int, drop: bool = False) -> int:
        stamps = np.zeros(len(numbers), np.int64)
        n = self.held.say(np.array(numbers, np.uint64), stamps, drop=drop)
        self.held.flush()
        return n

    def heard(self, last: int) -> list[tuple[str, int, int, int | None]]:
        """Wait until the kernel's end has heard of a packet; return all messages up to it."""
        found: list[tuple[str, int, int, int | None]] = []
        while last not in [ident for _, ident, _, _ in found]:
            found += model(self.kernel.recv(1 << 16), QUEUE)
        return found

    def join(self) -> None:
        self.held.end()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.join()
        self.kernel.close()
        self.end.close()
        os.close(self.work)
        os.close(self.tell)


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.close()


def test_packets_are_shown_in_their_order_and_words_go_out(bed: Bed) -> None:
    bed.send(1, 2, 3)
    a, b, c = bed.take(3)
    assert a < b < c and len(bed.held) == 3
    assert bed.frames["timestamp_ns"][0] == NOW, "the kernel gave no time: the taker's"
    assert bed.say(a, b) == 2 and bed.say(c, drop=True) == 1
    words = bed.heard(3)
    assert words[-1][1:3] == (3, 0) and all(word[2] == 1 for word in words[:-1])
    assert bed.held.books() == (3, 2, 1, 0) and len(bed.held) == 0


def test_bytes_stay_until_the_next_batch_is_taken(bed: Bed) -> None:
    bed.send(*range(1, MOST + 1))
    first = bed.take(MOST)
    bed.say(*first)
    bed.heard(MOST)
    bed.send(*range(101, 101 + SLOTS - MOST))  # every other slot
    bed.came(SLOTS)
    assert [bed.held.payload(n) for n in first] == [packet(i) for i in range(1, MOST + 1)]
    bed.take(SLOTS - MOST)
    bed.send(*range(201, 201 + MOST))  # in the slots of the first, which are free only now
    assert len(bed.take(MOST)) == MOST and len(bed.held) == SLOTS
    assert bed.held.payload(first[0]) == b""


def test_what_cannot_be_read_is_let_go_though_nobody_takes(bed: Bed) -> None:
    """Nothing of it is shown, and so nobody comes to give slots back."""
    for ident in range(1, 3 * SLOTS + 1):
        bed.send(ident, payload=b"")
        bed.heard(ident)
    assert (bed.held.malformed, len(bed.held)) == (3 * SLOTS, 0)
    bed.send(99)
    assert len(bed.take(1)) == 1


def test_who_had_its_word_unseen_is_not_shown(bed: Bed) -> None:
    bed.send(*range(1, 5))
    (shown,) = bed.take(1, room=1)
    bed.came(4)
    numbers = bed.held.numbers()
    assert bed.say(*numbers[1:3]) == 2
    bed.heard(3)
    bed.send(5, 6, 7)  # in their slots
    bed.came(7)
    taken = bed.take(4)
    assert taken[0] == numbers[3] and numbers[1] not in taken and numbers[2] not in taken
    assert [bed.held.payload(n) for n in taken] == [packet(i) for i in (4, 5, 6, 7)]
    assert bed.held.numbers() == [shown, *taken]


def test_many_that_had_their_word_unseen_leave_no_trace(bed: Bed) -> None:
    for last in range(MOST, SLOTS + 1, MOST):  # as many as can be listed
        bed.send(*range(last - MOST + 1, last + 1))
        bed.came(last)
        assert bed.say(*bed.held.numbers()) == MOST
        bed.heard(last)
    bed.send(*range(101, 101 + MOST))
    numbers = bed.take(MOST)
    assert [bed.held.payload(n) for n in numbers] == [packet(i) for i in range(101, 101 + MOST)]
    assert bed.held.numbers() == numbers and bed.held.take(bed.frames, NOW) == (0, False)


def test_what_was_said_before_the_end_is_sent(bed: Bed) -> None:
    bed.send(1, 2)
    numbers = bed.take(2)
    bed.say(*numbers)
    bed.join()
    assert bed.heard(2)[-1][1:3] == (2, 1)
    bed.held.alone()
    bed.send(3)
    assert bed.held.read(bed.frames, NOW)[:2] == (1, 1), "the caller reads again"


def test_a_thread_that_cannot_go_on_says_why() -> None:
    no_socket = os.eventfd(1)
    bed = Bed(no_socket)
    assert select.select([bed.tell], [], [], PATIENCE_S)[0]
    with pytest.raises(OSError, match="packet queue") as caught:
        bed.held.take(bed.frames, NOW)
    assert caught.value.errno == errno.ENOTSOCK
    bed.close()
    os.close(no_socket)


def test_each_packet_has_the_word_that_was_said_about_it(bed: Bed) -> None:
    """The thread, who judges, and the kernel each at a pace of their own; few slots, and packets
    that are held back while later ones go."""
    count, at_once, rng = 4000, 4, random.Random(1)
    idents = {}  # number -> id
    said: dict[int, int] = {}
    heard: dict[int, int] = {}

    def kernel() -> None:
        waiting = deque[int]()
        following = iter(range(1, count + 1))
        while len(heard) < count:
            ready, room, _ = select.select([bed.kernel], [bed.kernel], [], PATIENCE_S)
            if ready:
                for kind, ident, verdict, _ in model(bed.kernel.recv(1 << 16), QUEUE):
                    # Of a batch: all that are held up to it.
                    which = [i for i in waiting if i <= ident] if kind == "batch" else [ident]
                    for one in which:
                        waiting.remove(one)
                        assert one not in heard
                        heard[one] = verdict
            elif room and (ident := next(following, 0)):
                # Noted first: its word may come before `send` returns.
                waiting.append(ident)
                bed.send(ident)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(kernel)
        held: list[int] = []
        while len(said) < count:
            if len(said) + len(held) < count:
                assert select.select([bed.tell], [], [], PATIENCE_S)[0], "nothing came"
            n, _ = bed.held.take(bed.frames, NOW)
            for number in bed.frames["number"][:n].tolist():
                idents[number] = int.from_bytes(bed.held.payload(number)[4:6], "big")
                held.append(number)
            rng.shuffle(held)
            keep = min(len(held), rng.randrange(at_once)) if len(idents) < count else 0
            going, held = held[keep:], held[:keep]
            for word in (0, 1):
                those = [number for number in going if idents[number] % 3 // 2 == word]
                assert bed.say(*those, drop=not word) == len(those)
                said |= {idents[number]: word for number in those}
            received, accepted, dropped, left = bed.held.books()
            assert received == accepted + dropped + left
        done.result(PATIENCE_S)
    assert heard == said and len(bed.held) == 0
