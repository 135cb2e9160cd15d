"""What a reader of a packet queue promises: frames in batches, and a word for each held packet."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ids_appliance.types import U64, FrameBatch

QUEUED: Final = 1 << 62
"""Numbers of queued packets begin above it: a ring's are below."""
BATCH: Final = 128
"""Packets in one batch: what comes behind them waits that long for its verdict."""
MOST_QUEUES: Final = 8
_TCP: Final = 6


@dataclass(frozen=True, slots=True)
class Port:
    """An interface at which routed packets are met."""

    shown: int
    """Index of the captured interface that its packets' frames show."""
    mac: bytes
    """Our own there; zeros where it has none."""
    ethernet: bool
    by_mac: Callable[[bytes], int] | None = None
    """A bridge: the captured port at which a sender's MAC is."""


@dataclass(slots=True)
class Held:
    """A packet that the kernel keeps until it has a verdict."""

    packet: Any
    """Has `indev`, `mark` and `get_hw()`, as the package's."""
    payload: bytes
    """From its IP header on, as it was at the hook; at most copy_bytes."""
    timestamp_ns: int
    incoming: bool
    """It came in at a protected interface; else it leaves there."""
    port: int
    """Index of the captured interface that its frame shows."""


def connection(payload: bytes) -> tuple[bytes, int, int]:
    """Return (key, which way, where TCP's header begins) of an IP packet's TCP connection: its
    ends, the lower one first, so that both ways have one key; b"" for what is not TCP, for
    fragments, and for what was cut before its flags."""
    size = len(payload)
    if size < 20:
        return b"", 0, 0
    if payload[0] >> 4 == 4:
        at = (payload[0] & 15) * 4
        if payload[9] != _TCP or at < 20 or (payload[6] & 0x1F or payload[7]):
            return b"", 0, 0
        source, target = payload[12:16], payload[16:20]
    else:
        at = 40
        if size < 40 or payload[6] != _TCP:
            return b"", 0, 0
        source, target = payload[8:24], payload[24:40]
    if size < at + 14:
        return b"", 0, 0
    one, other = source + payload[at : at + 2], target + payload[at + 2 : at + 4]
    way = int(one > other)
    return (other + one if way else one + other), way, at


class Reader(Protocol):
    """One bound queue. Implementations: batched.BatchReader, packaged.PackageReader; several in
    one: queues.Queues.

    The contract, tested for each: a packet is shown once and held until its word; a word about
    one that is not held is passed over; words reach the kernel with the next `flush`, packets
    in the order in which they came as far as their words were given together.
    """

    @property
    def held(self) -> Mapping[int, Held]:
        """Packets without a word by the number of their frame, the oldest first."""

    def fileno(self) -> int:
        """Return the descriptor to poll."""

    def know(self, ports: Mapping[int, Port]) -> None:
        """Take over the interfaces, by the index at which routed packets are met."""

    def read(self) -> FrameBatch | None:
        """Return what can be read now, at most BATCH packets, none perhaps; None: nothing waits.
        Never waits; the batch is valid until the next is asked for."""

    def verdict(self, numbers: Iterable[int] | U64, *, drop: bool, mark: int | None) -> list[int]:
        """Give held packets their word; return the timestamps (ns) of those still held.

        mark: what the kernel shall mark them with."""

    def flush(self) -> None:
        """Let the kernel know."""

    def pass_clean(self, piece: object, *, named: int) -> tuple[list[int], int] | None:
        """Let a judged batch (JudgedBatch.piece) go on if each of its packets was judged, none of
        them malicious and none with a bit of `named` in its standing; the kernel knows at once.

        Return (the timestamps (ns) of those still held, what any has in its standing); None:
        nothing was done, it is for whoever looks at packets one by one."""

    def connections(self, numbers: U64) -> list[bytes]:
        """Return the TCP connection of each packet that is held, or was let go by `pass_clean`
        since the last read, as `connection` says it; b"" where there is none."""

    def overdue(self, before_ns: int) -> list[int]:
        """Return the numbers of the oldest packets that were shown and are held, up to the first
        that has come later (in ns since the epoch)."""

    def calm(self) -> None:
        """From now on read in nobody's thread but the caller's: it is about to end."""

    def payload(self, number: int) -> bytes:
        """Return the bytes (as Held.payload) of such a packet; b"" of others."""

    def counters(self) -> dict[str, int]:
        """Return totals by name; queue_received = accepted + dropped + held."""

    def close(self) -> None:
        """Give the queue up; what the kernel still holds is dropped by it. Safe to call twice."""
