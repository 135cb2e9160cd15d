"""What hosts say to each other in, Ethernet frames with times out; written as one classic pcap.

The capture point is an access point: it sees what its devices say to the router and to each other.
Checksums are left 0, as offloading leaves them; the record never looks at them.
"""

import random
import struct
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final

MAGIC: Final = 0xA1B23C4D  # classic pcap, nanoseconds
BROADCAST: Final = b"\xff" * 6
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MSS: Final = 1448
S: Final = 10**9


@dataclass(frozen=True, slots=True)
class Host:
    """Somebody with an address; of a host beyond the router, `mac` is the router's."""

    mac: bytes
    ip: bytes
    ttl: int = 64
    """As it arrives at the capture point."""


def multicast(ip: bytes) -> Host:
    """Return a group as somebody to send to (RFC 1112, 6.4)."""
    return Host(b"\x01\x00\x5e" + bytes([ip[1] & 0x7F]) + ip[2:], ip)


class Wire:
    """Frames of one home; `rng` decides delays and losses, so that a seed gives the same bytes."""

    def __init__(self, rng: random.Random, *, loss: float = 0.0) -> None:
        self.rng = rng
        self.loss = loss
        """Share of TCP segments that is sent a second time."""
        self.frames: list[tuple[int, bytes]] = []
        self.cut: list[tuple[float, float]] = []
        """When nothing beyond the router answers, as (begin, end) in seconds."""

    def answers(self, t: float, server: Host, router: bytes) -> bool:
        """Tell whether a host can be reached at a time."""
        return server.mac != router or not any(a <= t < b for a, b in self.cut)

    def raw(self, t: float, source: bytes, target: bytes, kind: int, payload: bytes) -> None:
        """Add an Ethernet II frame at t (seconds)."""
        frame = target + source + struct.pack("!H", kind) + payload
        self.frames.append((round(t * S), frame.ljust(60, b"\0")))

    def ip(self, t: float, a: Host, b: Host, proto: int, payload: bytes) -> None:
        """Add an IPv4 packet."""
        head = struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            0,
            20 + len(payload),
            self.rng.getrandbits(16),
            0x4000,
            a.ttl,
            proto,
            0,
            a.ip,
            b.ip,
        )
        self.raw(t, a.mac, b.mac, 0x0800, head + payload)

    def udp(self, t: float, ends: tuple[Host, Host], ports: tuple[int, int], data: bytes) -> None:
        """Add a datagram."""
        self.ip(t, *ends, 17, struct.pack("!HHHH", *ports, 8 + len(data), 0) + data)

    def icmp(self, t: float, ends: tuple[Host, Host], kind: tuple[int, int], data: bytes) -> None:
        """Add an ICMP message; data: all that follows the checksum."""
        self.ip(t, *ends, 1, struct.pack("!BBH", *kind, 0) + data)

    def arp(self, t: float, a: Host, operation: int, who: tuple[bytes, bytes, bytes]) -> None:
        """Add an ARP packet from `a`; who: MAC it is sent to, sender's and target's address."""
        to, spa, tpa = who
        known = bytes(6) if to == BROADCAST else to
        head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
        self.raw(t, a.mac, to, 0x0806, head + a.mac + spa + known + tpa)

    def resolve(self, t: float, a: Host, b: Host) -> None:
        """Let `a` ask for the MAC of `b`, which answers."""
        self.arp(t, a, 1, (BROADCAST, a.ip, b.ip))
        self.arp(t + self.rng.uniform(0.0005, 0.02), b, 2, (a.mac, b.ip, a.ip))

    def save(self, path: Path, *, begin_s: int) -> int:
        """Write the frames in the order of their times; return how many."""
        self.frames.sort(key=itemgetter(0))
        with path.open("wb") as file:
            file.write(struct.pack("=IHHiIII", MAGIC, 2, 4, 0, 0, 262_144, 1))
            for at, frame in self.frames:
                seconds, rest = divmod(at + begin_s * S, S)
                file.write(struct.pack("=IIII", seconds, rest, len(frame), len(frame)) + frame)
        return len(self.frames)


class Tcp:
    """One connection, from SYN to its end, as both ends' kernels would have it."""

    def __init__(self, wire: Wire, ends: tuple[Host, Host], ports: tuple[int, int]) -> None:
        self.wire, self.ends, self.ports = wire, ends, ports
        self.rtt = wire.rng.lognormvariate(-3.6, 0.7)
        self.at = [wire.rng.getrandbits(32), wire.rng.getrandbits(32)]
        self.window = wire.rng.choice((5840, 14600, 29200, 64240, 65535))

    def _send(
        self, t: float, who: int, flags: int, data: bytes = b"", *, options: bytes = b""
    ) -> None:
        a, b = (self.ends, self.ports) if not who else (self.ends[::-1], self.ports[::-1])
        head = struct.pack(
            "!HHIIBBHHH",
            *b,
            self.at[who] & 0xFFFFFFFF,
            self.at[1 - who] & 0xFFFFFFFF if flags & ACK else 0,
            (5 + len(options) // 4) << 4,
            flags,
            self.window,
            0,
            0,
        )
        self.wire.ip(t, *a, 6, head + options + data)
        if data and self.wire.rng.random() < self.wire.loss:
            self.wire.ip(t + max(0.2, 2 * self.rtt), *a, 6, head + options + data)

    def open(self, t: float, *, reached: str = "yes", tries: int = 4) -> float | None:
        """Shake hands; reached: yes, no (silence), or refused. Returns when, None without."""
        options = bytes.fromhex("020405b40402080a") + bytes(8) + bytes.fromhex("01030307")
        for again in range(tries):
            self._send(t, 0, SYN, options=options)
            lost = reached == "yes" and self.wire.rng.random() < self.wire.loss
            if reached == "yes" and not lost:
                self.at[0] += 1
                self._send(t + self.rtt * 0.9, 1, SYN | ACK, options=options)
                self.at[1] += 1
                self._send(t + self.rtt, 0, ACK)
                return t + self.rtt
            if reached == "refused":
                self.at[0] += 1
                self._send(t + self.rtt * 0.9, 1, RST | ACK)
                return None
            t += 2.0**again
        return None

    def exchange(self, t: float, up: bytes, down: bytes) -> float:
        """Send a request and get an answer; return when the last of it is acknowledged."""
        for who, data, wait in ((0, up, 0.0), (1, down, self.rtt)):
            t += wait
            for number, i in enumerate(range(0, len(data), MSS)):
                piece = data[i : i + MSS]
                self._send(t, who, ACK | (PSH if i + MSS >= len(data) else 0), piece)
                self.at[who] += len(piece)
                t += len(piece) * 8 / 20e6
                if number % 2 or i + MSS >= len(data):
                    self._send(t + self.rtt / 2, 1 - who, ACK)
        return t + self.rtt / 2

    def close(self, t: float) -> float:
        """End it, with FINs or as many devices do, with a reset."""
        if self.wire.rng.random() < 0.12:
            self._send(t, 0, RST | ACK)
            return t
        self._send(t, 0, FIN | ACK)
        self.at[0] += 1
        self._send(t + self.rtt, 1, FIN | ACK)
        self.at[1] += 1
        self._send(t + self.rtt * 1.1, 0, ACK)
        return t + self.rtt * 1.1
