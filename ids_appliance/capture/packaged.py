"""A queue read by the package NetfilterQueue in, FRAME records of held packets out, one by one."""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np

from ids_appliance.capture.held import BATCH, QUEUED, Held, Port, connection
from ids_appliance.capture.nfqueue import PacketQueue, QueueOptions
from ids_appliance.types import FRAME, U64, Direction, FrameBatch

_ETHERNET: Final = 14
_RECORD = struct.Struct("<QIIqQIHBB")  # types.FRAME
_ROOM: Final = BATCH * (_ETHERNET + 4096)
_NOBODY: Final = bytes(8)
assert _RECORD.size == FRAME.itemsize


class PackageReader:
    """A `held.Reader`. clock_ns: nanoseconds since the epoch, where the kernel gives a packet no
    time. first: its packets' numbers are above it. Raises what PacketQueue raises."""

    def __init__(
        self, options: QueueOptions, *, clock_ns: Callable[[], int], first: int = QUEUED
    ) -> None:
        self._first = first
        self.held: dict[int, Held] = {}
        self._clock_ns = clock_ns
        self._data = bytearray(_ROOM)
        self._view = np.frombuffer(self._data, np.uint8)
        self._frames = np.zeros(BATCH, FRAME)
        self._records = self._frames.view(np.uint8).data
        self._end = self._n = 0
        self._ports: Mapping[int, Port] = {}
        self._received = self._accepted = self._dropped = self._untimed = 0
        self._queue = PacketQueue(options, self._on_packet)
        self.fileno = self._queue.fileno
        self.close = self._queue.close

    def know(self, ports: Mapping[int, Port]) -> None:
        """As Reader.know."""
        self._ports = ports

    def read(self) -> FrameBatch | None:
        """As Reader.read."""
        self._n = self._end = 0
        if not self._queue.take(BATCH):
            return None
        return FrameBatch(self._view, self._frames[: self._n])

    def pass_clean(self, piece: object, *, named: int) -> tuple[list[int], int] | None:
        """As Reader.pass_clean: never, the package speaks of packets one by one."""
        return None

    def payload(self, number: int) -> bytes:
        """As Reader.payload."""
        one = self.held.get(number)
        return one.payload if one is not None else b""

    def connections(self, numbers: U64) -> list[bytes]:
        """As Reader.connections."""
        there = [self.held.get(number) for number in numbers.tolist()]
        return [connection(one.payload)[0] if one is not None else b"" for one in there]

    def verdict(self, numbers: Iterable[int] | U64, *, drop: bool, mark: int | None) -> list[int]:
        """As Reader.verdict; the kernel hears of it at once."""
        if isinstance(numbers, np.ndarray):
            numbers = numbers.tolist()
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

    def overdue(self, before_ns: int) -> list[int]:
        """As Reader.overdue."""
        found = []
        for number, one in self.held.items():  # the oldest first
            if one.timestamp_ns > before_ns:
                break
            found.append(number)
        return found

    def calm(self) -> None:
        """As Reader.calm: nobody else reads it."""

    def flush(self) -> None:
        """The package has told the kernel already."""

    def counters(self) -> dict[str, int]:
        """As Reader.counters."""
        return self._queue.counters() | {
            "queue_received": self._received,
            "queue_accepted": self._accepted,
            "queue_dropped": self._dropped,
            "queue_held": len(self.held),
            "queue_untimed": self._untimed,
        }

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
        number = self._first + self._received
        port = self._ports.get(packet.indev)
        incoming = port is not None
        if port is None:
            port = self._ports.get(packet.outdev) or Port(packet.indev, bytes(6), True)
        shown = port.shown
        sender = (packet.get_hw() or _NOBODY)[:6] if incoming else port.mac
        if incoming and port.by_mac is not None:
            shown = port.by_mac(sender)
        self.held[number] = Held(packet, payload, timestamp_ns, incoming, shown)
        at, size = self._end, len(payload)
        data = self._data
        six = payload[:1] >= b"\x60"
        if port.ethernet:
            data[at : at + 12] = (port.mac if incoming else bytes(6)) + sender
            data[at + 12 : at + 14] = b"\x86\xdd" if six else b"\x08\x00"
            start = at + _ETHERNET
        else:
            start = at
        data[start : start + size] = payload
        hop = start + (7 if six else 8)
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
            shown,
            1 if port.ethernet else 101,
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
