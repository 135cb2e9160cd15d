"""A packet queue and a ring beside it in, one stream of frames out; packets held for a verdict.

What the gateway routes comes through the queue (hook forward) and is shown as the frame that a ring
on the protected interface would show: what came in there with its sender's MAC and its TTL of
arrival, what leaves there as OUTGOING with our MAC, where parsing adds the one that forwarding took
off. So one capture has one record and one verdict, however it is captured. Everything else on those
interfaces (ARP, what is for the gateway itself, what is bridged) comes from the ring.
"""

import select
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from ids_appliance.capture.batched import BatchReader
from ids_appliance.capture.bridge_ports import BridgePorts
from ids_appliance.capture.held import QUEUED, Held, Port, Reader
from ids_appliance.capture.netlink import Link
from ids_appliance.capture.nfqueue import QueueOptions
from ids_appliance.capture.packaged import PackageReader
from ids_appliance.capture.queues import Queues
from ids_appliance.capture.ring import LINKTYPES, RingSource
from ids_appliance.types import U64, FrameBatch

__all__ = ["QUEUED", "Held", "InlineSource"]

_TURNS: Final = 8  # batches of the queue between two looks at the ring
_TAPPED: Final = 8  # batches of the ring between two looks at the queue


class InlineSource:
    """Frames to be judged before they are forwarded; a `types.Source`.

    ring: sees what the queue does not, and is closed with this. clock_ns: nanoseconds since the
    epoch, where the kernel gives a packet no time. Raises what PacketQueue raises.
    """

    def __init__(
        self,
        ring: RingSource,
        options: QueueOptions,
        *,
        clock_ns: Callable[[], int],
        timeout_s: float = 0.05,
    ) -> None:
        self.ring = ring
        self.patience_s = timeout_s
        """While packets are held, None is yielded after so long at the latest."""
        self._clock_ns = clock_ns
        self._timeout_s = timeout_s
        self._closed = False
        self._queue: Reader
        if options.queues > 1:
            self._queue = Queues(options, clock_ns=clock_ns)
        else:
            made = BatchReader if options.reader == "batch" else PackageReader
            self._queue = made(options, clock_ns=clock_ns)
        self.held: Mapping[int, Held] = self._queue.held
        """By the number of their frame, those of a queue the oldest first."""
        self.overdue = self._queue.overdue

    # What the ring's user asks of it -----------------------------------------------------------

    @property
    def changes(self) -> int:
        """As RingSource.changes."""
        return self.ring.changes

    @property
    def down(self) -> tuple[str, ...]:
        """As RingSource.down."""
        return self.ring.down

    def ports(self) -> dict[str, dict[str, int]]:
        """Return the ring's totals of each interface by its name."""
        return self.ring.ports()

    def wake(self) -> None:
        """Make `batches` yield soon, from any thread."""
        self.ring.wake()

    def set_filter(self, instructions: tuple[tuple[int, int, int, int], ...]) -> None:
        """Use another socket filter for the ring beside the queue."""
        self.ring.set_filter(instructions)

    # -------------------------------------------------------------------------------------------

    def know(self, links: Mapping[int, Link], ports: Iterable[tuple[str, str]]) -> None:
        """Take over the interfaces that there are; ports: (interface at which routed packets are
        met, captured port that stands for it)."""
        index = {link.name: i for i, link in links.items()}
        below: dict[str, dict[str, int]] = {}
        for met, port in ports:
            if met in index and port in index:
                below.setdefault(met, {})[port] = index[port]
        found = {}
        for met, there in below.items():
            first = next(iter(there.values()))
            ethernet = LINKTYPES.get(links[first].hardware_type, 1) == 1
            by_mac = None
            if len(there) > 1:
                bridge = BridgePorts(there.values(), otherwise=first, clock_ns=self._clock_ns)
                by_mac = bridge.of
            found[index[met]] = Port(first, links[index[met]].mac or bytes(6), ethernet, by_mac)
        self._queue.know(found)

    def batches(self) -> Iterator[FrameBatch | None]:
        """Yield batches of either; a batch is valid until the next one is asked for."""
        tapped = self.ring.batches()
        poller, seen = self._poller(), self.ring.changes
        queue = self._queue
        while not self._closed:
            if seen != self.ring.changes:
                seen = self.ring.changes
                poller = self._poller()
            waiting = self.patience_s if self.held else self._timeout_s
            ready = {fd for fd, _ in poller.poll(waiting * 1000)}
            if queue.fileno() in ready:
                # What comes meanwhile is taken without asking first, but the ring has its turns.
                for _ in range(_TURNS):
                    batch = queue.read()
                    if batch is None:
                        break
                    if len(batch.frames):
                        yield batch
                    if self._closed:
                        break
            if self._closed:
                break
            if ready - {queue.fileno()}:
                yield from self._tapped(tapped)
            elif not ready:
                yield None
        self.close()

    def verdict(
        self, numbers: Iterable[int] | U64, *, drop: bool = False, mark: int | None = None
    ) -> list[int]:
        """Let held packets go on or drop them; return the timestamps (ns) of those still held.

        mark: what the kernel shall mark them with. Each packet has one verdict: one that has had
        it is passed over.
        """
        stamps = self._queue.verdict(numbers, drop=drop, mark=mark)
        self._queue.flush()
        return stamps

    def say(
        self, numbers: Iterable[int] | U64, *, drop: bool = False, mark: int | None = None
    ) -> list[int]:
        """As `verdict`, but the kernel hears of it with the next `flush` or `verdict`: words that
        are given together need fewer messages."""
        return self._queue.verdict(numbers, drop=drop, mark=mark)

    def flush(self) -> None:
        """Let the kernel know what was said."""
        self._queue.flush()

    def pass_clean(self, piece: object, *, named: int) -> tuple[list[int], int] | None:
        """As Reader.pass_clean."""
        return self._queue.pass_clean(piece, named=named)

    def connections(self, numbers: U64) -> list[bytes]:
        """As Reader.connections."""
        return self._queue.connections(numbers)

    def payload(self, number: int) -> bytes:
        """As Reader.payload."""
        return self._queue.payload(number)

    def counters(self) -> dict[str, int]:
        """Return the ring's totals and the queue's; received = accepted + dropped + held."""
        return self.ring.counters() | self._queue.counters()

    def drain(self, most: int = 1 << 16) -> None:
        """Accept what is held and what still waits in the queue: nothing new comes any more."""
        self._queue.calm()
        self.verdict(list(self.held))
        while most > 0:
            batch = self._queue.read()
            if batch is None:
                return
            most -= max(1, len(batch.frames))
            self.verdict(list(self.held))

    def close(self) -> None:
        """End; what the kernel still holds is dropped by it. Safe to call twice."""
        self._closed = True
        self._queue.close()
        self.ring.close()

    # -------------------------------------------------------------------------------------------

    def _poller(self) -> select.poll:
        poller = select.poll()
        for descriptor in (self._queue.fileno(), *self.ring.descriptors()):
            poller.register(descriptor, select.POLLIN)
        return poller

    @staticmethod
    def _tapped(tapped: Iterator[FrameBatch | None]) -> Iterator[FrameBatch | None]:
        for _ in range(_TAPPED):
            batch = next(tapped, None)
            yield batch
            if batch is None:
                return
