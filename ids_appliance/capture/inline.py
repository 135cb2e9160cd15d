"""A packet queue and a ring beside it in, one stream of frames out; packets held for a verdict.

What the gateway routes comes through the queue (hook forward) and is shown as the frame that a ring
on the protected interface would show: what came in there with its sender's MAC and its TTL of
arrival, what leaves there as OUTGOING with our MAC, where parsing adds the one that forwarding took
off. So one capture has one record and one verdict, however it is captured. Everything else on those
interfaces (ARP, what is for the gateway itself, what is bridged) comes from the ring.
"""

import select
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ids_appliance.capture.bridge_ports import BridgePorts
from ids_appliance.capture.netlink import Link
from ids_appliance.capture.nfqueue import PacketQueue, QueueOptions
from ids_appliance.capture.ring import LINKTYPES, RingSource
from ids_appliance.types import FRAME, Direction, FrameBatch

QUEUED: Final = 1 << 62
"""Numbers of queued packets begin above it: the ring's are below."""
BATCH: Final = 128
"""Packets in one batch: what comes behind them waits that long for its verdict."""

_ETHERNET: Final = 14
_RECORD = struct.Struct("<QIIqQIHBB")  # types.FRAME
_ROOM: Final = BATCH * (_ETHERNET + 4096)
_TAPPED: Final = 8  # batches of the ring between two looks at the queue
assert _RECORD.size == FRAME.itemsize


@dataclass(slots=True)
class Held:
    """A packet that the kernel keeps until it has a verdict."""

    packet: Any
    payload: bytes
    """From its IP header on, as it was at the hook; at most copy_bytes."""
    timestamp_ns: int
    incoming: bool
    """It came in at a protected interface; else it leaves there."""
    port: int
    """Index of the captured interface that its frame shows."""


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
        self.held: dict[int, Held] = {}
        """By the number of their frame, the oldest first."""
        self.patience_s = timeout_s
        """While packets are held, None is yielded after so long at the latest."""
        self._clock_ns = clock_ns
        self._timeout_s = timeout_s
        self._data = bytearray(_ROOM)
        self._view = np.frombuffer(self._data, np.uint8)
        self._frames = np.zeros(BATCH, FRAME)
        self._records = self._frames.view(np.uint8).data
        self._end = self._n = 0
        self._ports: dict[int, tuple[int, bytes, bool]] = {}
        self._bridges: dict[int, BridgePorts] = {}
        self._received = self._accepted = self._dropped = self._untimed = 0
        self._closed = False
        self._last: dict[str, int] = {}
        self._queue = PacketQueue(options, self._on_packet)

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
        found, bridges = {}, {}
        for met, there in below.items():
            first = next(iter(there.values()))
            ethernet = LINKTYPES.get(links[first].hardware_type, 1) == 1
            found[index[met]] = (first, links[index[met]].mac or bytes(6), ethernet)
            if len(there) > 1:
                bridges[index[met]] = BridgePorts(
                    there.values(), otherwise=first, clock_ns=self._clock_ns
                )
        self._ports, self._bridges = found, bridges

    def batches(self) -> Iterator[FrameBatch | None]:
        """Yield batches of either; a batch is valid until the next one is asked for."""
        tapped = self.ring.batches()
        poller, seen = select.poll(), -1
        busy = False
        while not self._closed:
            if seen != self.ring.changes:
                seen = self.ring.changes
                poller = self._poller()
            waiting = self.patience_s if self.held else self._timeout_s
            ready = {fd for fd, _ in poller.poll(0 if busy else waiting * 1000)}
            busy = False
            if self._queue.fileno() in ready:
                self._n = self._end = 0
                self._queue.take(BATCH)
                if self._n:
                    busy = True
                    yield FrameBatch(self._view, self._frames[: self._n])
            if self._closed:
                break
            if ready - {self._queue.fileno()}:
                for batch in self._tapped(tapped):
                    busy = busy or batch is not None
                    yield batch
                continue
            if not busy:
                yield None
        self.close()

    def verdict(
        self, numbers: Iterable[int], *, drop: bool = False, mark: int | None = None
    ) -> list[int]:
        """Let held packets go on or drop them; return the timestamps (ns) of those still held.

        mark: what the kernel shall mark them with. Each packet has one verdict: one that has had
        it is passed over.
        """
        stamps = []
        take = self.held.pop
        for number in numbers:
            one = take(number, None)
            if one is None:
                continue
            stamps.append(one.timestamp_ns)
            if mark is not None:
                one.packet.set_mark(mark)
            if drop:
                one.packet.drop()
            else:
                one.packet.accept()
        if drop:
            self._dropped += len(stamps)
        else:
            self._accepted += len(stamps)
        return stamps

    def counters(self) -> dict[str, int]:
        """Return the ring's totals and the queue's; received = accepted + dropped + held."""
        if not self._closed:
            self._last = self._queue.counters()
        return (
            self.ring.counters()
            | self._last
            | {
                "queue_received": self._received,
                "queue_accepted": self._accepted,
                "queue_dropped": self._dropped,
                "queue_held": len(self.held),
                "queue_untimed": self._untimed,
            }
        )

    def drain(self, most: int = 1 << 16) -> None:
        """Accept what is held and what still waits in the queue: nothing new comes any more."""
        self.verdict(list(self.held))
        while most > 0:
            self._n = self._end = 0
            taken = self._queue.take(BATCH)
            if not taken:
                return
            most -= taken
            self.verdict(list(self.held))

    def close(self) -> None:
        """End; what the kernel still holds is dropped by it. Safe to call twice."""
        if not self._closed:
            self.counters()
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

    def _on_packet(self, packet: Any) -> None:
        """Show a queued packet as a frame; called by the binding, and never raises for a packet."""
        payload: bytes = packet.get_payload()
        self._received += 1
        stamp = packet.get_timestamp()
        if stamp:
            # A double holds microseconds exactly until the year 2100.
            timestamp_ns = round(stamp * 1e6) * 1000
        else:
            timestamp_ns = self._clock_ns()
            self._untimed += 1
        number = QUEUED + self._received
        incoming = packet.indev in self._ports
        port, mac, ethernet = self._ports.get(
            packet.indev if incoming else packet.outdev, (packet.indev, bytes(6), True)
        )
        sender = (packet.get_hw() or bytes(8))[:6] if incoming else mac
        if incoming and packet.indev in self._bridges:
            port = self._bridges[packet.indev].of(sender)
        self.held[number] = Held(packet, payload, timestamp_ns, incoming, port)
        at, size = self._end, len(payload)
        data = self._data
        if ethernet:
            data[at : at + 12] = (mac if incoming else bytes(6)) + sender
            data[at + 12 : at + 14] = b"\x86\xdd" if payload[:1] >= b"\x60" else b"\x08\x00"
            start = at + _ETHERNET
        else:
            start = at
        data[start : start + size] = payload
        hop = start + (7 if payload[:1] >= b"\x60" else 8)
        if incoming and hop < start + size and data[hop] < 255:
            data[hop] += 1  # forwarding has taken one off already
        _RECORD.pack_into(
            self._records,
            self._n * _RECORD.size,
            at,
            start + size - at,
            start - at + _length(payload),
            timestamp_ns,
            number,
            port,
            1 if ethernet else 101,
            Direction.HOST if incoming else Direction.OUTGOING,
            0,
        )
        self._n += 1
        self._end = start + size


def _length(payload: bytes) -> int:
    """Return the packet's own length: what was copied may be shorter."""
    if len(payload) >= 6 and payload[0] >> 4 == 6:
        return max(len(payload), 40 + int.from_bytes(payload[4:6], "big"))
    if len(payload) >= 4:
        return max(len(payload), int.from_bytes(payload[2:4], "big"))
    return len(payload)
