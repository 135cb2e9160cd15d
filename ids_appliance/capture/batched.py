"""A queue's own socket in, FRAME records of held packets out, as many as can be read at once.

The socket is set up here (NFQA_CFG_* of linux/nfnetlink_queue.h); reading, holding and answering
is compiled: ext/nfqueue.pyx.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ids_appliance._nfqueue import HeldPackets
from ids_appliance.capture.held import BATCH, QUEUED, Held, Port
from ids_appliance.capture.nfqueue import (
    QueueOptions,
    configure,
    kernel_counts,
    no_capability,
    refuse_held,
    set_fail_open,
    stamped,
)
from ids_appliance.errors import InlineError
from ids_appliance.types import FRAME, U64, FrameBatch

_NETFILTER: Final = 12  # NETLINK_NETFILTER (linux/netlink.h)
_CMD, _PARAMS, _MAX_LENGTH = 1, 2, 3  # NFQA_CFG_*
_BIND, _COPY_PACKET = 1, 2
_SO_RCVBUFFORCE: Final = 33


@dataclass(frozen=True, slots=True)
class _Packet:
    """What is known of a held packet beside its bytes."""

    indev: int
    mark: int
    hw: bytes | None

    def get_hw(self) -> bytes | None:
        """Return its sender's hardware address in eight bytes."""
        return self.hw


class _HeldView(Mapping[int, Held]):
    """Held packets; an object is made of one only where it is asked for."""

    def __init__(self, packets: HeldPackets) -> None:
        self._packets = packets

    def __len__(self) -> int:
        return len(self._packets)

    def __iter__(self) -> Iterator[int]:
        return iter(self._packets.numbers())

    def __contains__(self, number: object) -> bool:
        return number in self._packets

    def __getitem__(self, number: int) -> Held:
        found = self._packets.about(number)
        if found is None:
            raise KeyError(number)
        payload, stamp_ns, incoming, port, indev, mark, hw = found
        return Held(_Packet(indev, mark, hw), payload, stamp_ns, incoming, port)


class BatchReader:
    """A `held.Reader`. clock_ns: nanoseconds since the epoch, where the kernel gives a packet no
    time. first: its packets' numbers are above it. Raises InlineError in one line: another process
    has the queue, the kernel has none; PermissionMissing."""

    def __init__(
        self, options: QueueOptions, *, clock_ns: Callable[[], int], first: int = QUEUED
    ) -> None:
        self.options = options
        self._clock_ns = clock_ns
        self._frames = np.zeros(BATCH, FRAME)
        self._stamps = np.zeros(BATCH, np.int64)
        self._ports: Mapping[int, Port] = {}
        self._last: dict[str, int] = {}
        self._socket, self._early = _bound(options)
        self._stamping = stamped()
        self._packets = HeldPackets(
            self._socket.fileno(),
            queue=options.number,
            copy_bytes=options.copy_bytes,
            length=options.length,
            most=BATCH,
            first=first,
        )
        self._data = np.frombuffer(memoryview(self._packets), np.uint8)
        self.held = _HeldView(self._packets)
        self.flush = self._packets.flush
        self.payload = self._packets.payload
        self.overdue = self._packets.overdue

    def fileno(self) -> int:
        """As Reader.fileno."""
        return self._socket.fileno()

    def know(self, ports: Mapping[int, Port]) -> None:
        """As Reader.know. Raises ValueError for more than 4,096."""
        self._ports = ports
        self._packets.set_ports(
            (met, port.shown, port.mac, port.ethernet, port.by_mac is not None)
            for met, port in ports.items()
        )

    def read(self) -> FrameBatch | None:
        """As Reader.read. Raises OSError for what no retry can mend."""
        if self._early:
            n, bridged = self._read_early()
        else:
            got, n, bridged = self._packets.read(self._frames, self._clock_ns())
            if not got:
                return None
        if bridged:
            self._find_ports(n)
        self._packets.flush()  # of what could not be read
        return FrameBatch(self._data, self._frames[:n])

    def verdict(self, numbers: Iterable[int] | U64, *, drop: bool, mark: int | None) -> list[int]:
        """As Reader.verdict."""
        if not isinstance(numbers, np.ndarray):
            numbers = np.array(list(numbers), np.uint64)
        if len(numbers) > len(self._stamps):
            self._stamps = np.zeros(len(numbers), np.int64)
        n = self._packets.say(numbers, self._stamps, drop=drop, mark=mark)
        stamps: list[int] = self._stamps[:n].tolist()
        return stamps

    def pass_clean(self, piece: object, *, named: int) -> tuple[list[int], int] | None:
        """As Reader.pass_clean."""
        n, standing = self._packets.pass_clean(piece, self._stamps, named)
        return None if n < 0 else (self._stamps[:n].tolist(), standing)

    def connections(self, numbers: U64) -> list[bytes]:
        """As Reader.connections."""
        return self._packets.connections(numbers)

    def counters(self) -> dict[str, int]:
        """As Reader.counters. queue_malformed: messages that were not read as they should be, their
        packets let go; queue_refused: words about packets that the kernel had given up meanwhile
        (an interface went down); queue_unanswered: words that could not be sent."""
        packets = self._packets
        if self._socket.fileno() >= 0:
            self._last = kernel_counts(self.options.number)
        received, accepted, dropped, held = packets.books()
        return self._last | {
            "queue_lost_messages": packets.lost_messages,
            "queue_malformed": packets.malformed,
            "queue_refused": packets.refused,
            "queue_unanswered": packets.unsent,
            "queue_received": received,
            "queue_accepted": accepted,
            "queue_dropped": dropped,
            "queue_held": held,
            "queue_untimed": packets.untimed,
        }

    def calm(self) -> None:
        """As Reader.calm: nobody else reads it."""

    def close(self) -> None:
        """As Reader.close."""
        if self._socket.fileno() >= 0:
            self.counters()
            self._packets.close()
            self._socket.close()
            self._stamping.close()

    def _read_early(self) -> tuple[int, int]:
        now_ns = self._clock_ns()
        early, self._early = self._early[:BATCH], self._early[BATCH:]
        n = bridged = 0
        for message in early:
            more, at_bridge = self._packets.put(message, self._frames[n:], now_ns)
            n, bridged = n + more, bridged + at_bridge
        return n, bridged

    def _find_ports(self, n: int) -> None:
        """Show what came in at a bridge at the port of its sender."""
        for frame in self._frames[:n]:
            number, at = int(frame["number"]), int(frame["offset"])
            indev = self._packets.indev(number)
            port = self._ports.get(indev)
            if port is not None and port.by_mac is not None:
                shown = port.by_mac(self._data[at + 6 : at + 12].tobytes())
                frame["ifindex"] = shown
                self._packets.show_at(number, shown)


def _bound(options: QueueOptions) -> tuple[socket.socket, list[bytes]]:
    """Return the queue's socket, and packets' messages that have come already."""
    refuse_held(options.number)
    try:
        queue = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        queue.bind((0, 0))
    except OSError as error:
        raise no_capability(error) from error
    try:
        _give_room(queue, options.receive_bytes)
        # One message: a packet that met the queue between two would have nowhere to go.
        setting = (
            struct.pack("=HHBxH", 8, _CMD, _BIND, 0)
            + struct.pack("=HH", 9, _PARAMS)
            + struct.pack(">IBxxx", options.copy_bytes, _COPY_PACKET)
            + struct.pack("=HH", 8, _MAX_LENGTH)
            + struct.pack(">I", options.length)
        )
        early = configure(queue, options.number, setting)
        if options.fail_open:
            early += set_fail_open(queue, options.number)
    except OSError as error:
        queue.close()
        if os.geteuid() != 0 or error.errno not in (errno.EPERM, errno.EBUSY):
            raise no_capability(error) from error
        raise InlineError(
            f"queue {options.number} cannot be bound: another program has it, or CAP_NET_ADMIN is "
            f"missing ({error.strerror})"
        ) from error
    except InlineError:
        queue.close()
        raise
    return queue, early


def _give_room(queue: socket.socket, octets: int) -> None:
    try:
        queue.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, octets)
    except PermissionError:  # as much as everybody may have, then
        queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)
