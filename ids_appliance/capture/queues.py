"""Several packet queues in, one reader out: the kernel spreads packets, one thread judges them all.

The kernel chooses a packet's queue by both its addresses, in either order (nfqueue_hash,
include/net/netfilter/nf_queue.h): a conversation stays in one queue and so in order. Each queue has
a thread of its own that reads and answers without Python's lock (ext/nfqueue.pyx); what is judged
comes from all of them, so that rules, evidence and decisions see everything. The package's readers
have no threads: they are read in turns.
"""

import os
import select
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance.capture.batched import BatchReader
from ids_appliance.capture.held import MOST_QUEUES, QUEUED, Held, Port, Reader
from ids_appliance.capture.nfqueue import QueueOptions
from ids_appliance.capture.packaged import PackageReader
from ids_appliance.types import FRAME, U64, FrameBatch

_SHIFT: Final = 59
"""A packet's number has its queue's place in the bits from here on, below QUEUED."""
assert QUEUED >> _SHIFT == MOST_QUEUES
_OF_EACH: Final = ("received", "held", "waiting", "full", "unsent")
assert FRAME.fields is not None
_FIRST: Final = 8 + FRAME.fields["number"][1]
"""Where in a piece (ext/judged.pxd) the first frame's number is."""


class ThreadReader(BatchReader):
    """A BatchReader whose packets are read and answered by a thread of its own; held.Reader."""

    def __init__(
        self, options: QueueOptions, *, clock_ns: Callable[[], int], first: int = QUEUED
    ) -> None:
        super().__init__(options, clock_ns=clock_ns, first=first)
        self._work = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._tell = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # so that the first read comes
        self._thread: threading.Thread | None = None
        self._alone = False

    def fileno(self) -> int:
        """As Reader.fileno; readable as soon as the thread has read something."""
        return self._tell

    def read(self) -> FrameBatch | None:
        """As Reader.read. Raises OSError: the thread could not go on."""
        if self._alone or self._early:
            return super().read()
        if self._thread is None:
            # Not before: the interfaces are known by now.
            self._packets.begin(self._work, self._tell)
            name = f"queue-{self.options.number}"
            self._thread = threading.Thread(target=self._packets.serve, name=name, daemon=True)
            self._thread.start()
        n, bridged = self._packets.take(self._frames, self._clock_ns())
        if not n:
            return None
        if bridged:
            self._find_ports(n)
        return FrameBatch(self._data, self._frames[:n])

    def calm(self) -> None:
        """As Reader.calm."""
        if self._thread is not None:
            self._packets.end()
            self._thread.join()
            self._thread = None
            self._packets.alone()
        self._alone = True

    def close(self) -> None:
        """As Reader.close."""
        self.calm()
        super().close()
        for fd in (self._work, self._tell):
            if fd >= 0:
                os.close(fd)
        self._work = self._tell = -1


class _Together(Mapping[int, Held]):
    """What several queues hold, by number; those of a queue the oldest first."""

    def __init__(self, parts: list[Reader]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(len(part.held) for part in self._parts)

    def __iter__(self) -> Iterator[int]:
        for part in self._parts:
            yield from part.held

    def __getitem__(self, number: int) -> Held:
        return self._parts[_place(number)].held[number]

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number in self._parts[_place(number)].held


class Queues:
    """A `held.Reader` of `options.queues` queues, 2 .. MOST_QUEUES. Raises what its parts raise."""

    def __init__(self, options: QueueOptions, *, clock_ns: Callable[[], int]) -> None:
        made = ThreadReader if options.reader == "batch" else PackageReader
        self._parts: list[Reader] = []
        with ExitStack() as stack:
            for place in range(options.queues):
                one = replace(options, number=options.number + place, queues=1)
                part: Reader = made(one, clock_ns=clock_ns, first=QUEUED + (place << _SHIFT))
                stack.callback(part.close)
                self._parts.append(part)
            self._ready = select.epoll()
            self._stack = stack.pop_all()
        for part in self._parts:
            self._ready.register(part.fileno(), select.EPOLLIN)
        self.held = _Together(self._parts)
        self._first = 0

    def fileno(self) -> int:
        """As Reader.fileno: readable as long as one of them is."""
        return self._ready.fileno()

    def know(self, ports: Mapping[int, Port]) -> None:
        """As Reader.know."""
        for part in self._parts:
            part.know(ports)

    def read(self) -> FrameBatch | None:
        """As Reader.read: a batch of one of them, in turns."""
        count = len(self._parts)
        for i in range(count):
            place = (self._first + i) % count
            batch = self._parts[place].read()
            if batch is not None:
                self._first = (place + 1) % count
                return batch
        return None

    def verdict(self, numbers: Iterable[int] | U64, *, drop: bool, mark: int | None) -> list[int]:
        """As Reader.verdict."""
        if not isinstance(numbers, np.ndarray):
            numbers = np.array(list(numbers), np.uint64)
        if not len(numbers):
            return []
        places = _places(numbers)
        stamps: list[int] = []
        for place in np.unique(places).tolist():
            those = numbers[places == place]
            stamps += self._parts[place].verdict(those, drop=drop, mark=mark)
        return stamps

    def flush(self) -> None:
        """As Reader.flush."""
        for part in self._parts:
            part.flush()

    def pass_clean(self, piece: Any, *, named: int) -> tuple[list[int], int] | None:
        """As Reader.pass_clean; a batch is of one queue."""
        octets = memoryview(piece)
        if len(octets) < _FIRST + 8:
            return None  # of no packets
        number = int.from_bytes(octets[_FIRST : _FIRST + 8], sys.byteorder)
        return self._parts[_place(number)].pass_clean(piece, named=named)

    def connections(self, numbers: U64) -> list[bytes]:
        """As Reader.connections."""
        found = [b""] * len(numbers)
        places = _places(numbers)
        for place in np.unique(places).tolist():
            which = np.flatnonzero(places == place)
            keys = self._parts[place].connections(numbers[which])
            for i, key in zip(which.tolist(), keys, strict=True):
                found[i] = key
        return found

    def overdue(self, before_ns: int) -> list[int]:
        """As Reader.overdue, of each queue."""
        return [number for part in self._parts for number in part.overdue(before_ns)]

    def calm(self) -> None:
        """As Reader.calm."""
        for part in self._parts:
            part.calm()

    def payload(self, number: int) -> bytes:
        """As Reader.payload."""
        return self._parts[_place(number)].payload(number)

    def counters(self) -> dict[str, int]:
        """As Reader.counters, added up; of each queue, from 0 on, also queue_0_received, _held,
        _waiting, _full and _unsent."""
        total: dict[str, int] = {}
        for place, part in enumerate(self._parts):
            counts = part.counters()
            for name, n in counts.items():
                total[name] = total.get(name, 0) + n
            for name in _OF_EACH:
                total[f"queue_{place}_{name}"] = counts[f"queue_{name}"]
        return total

    def close(self) -> None:
        """As Reader.close."""
        self._stack.close()
        self._ready.close()


def _place(number: int) -> int:
    return (number >> _SHIFT) % MOST_QUEUES


def _places(numbers: U64) -> npt.NDArray[np.int64]:
    return ((numbers >> np.uint64(_SHIFT)) % np.uint64(MOST_QUEUES)).astype(np.int64)
