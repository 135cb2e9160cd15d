"""Two ends in, the frames of a simulated anomaly out: bounded in number and rate, to one address.

What the model knows of such attacks comes from well-known tools, so the packets look like theirs:
a flood's SYNs with a window of 512 and no options, a scan's with 1024 and an MSS.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_FRAMES: Final = 2000
MAX_PPS: Final = 500

_SYN, _FIN, _XMAS = 0x02, 0x01, 0x29
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ODD_FLAGS: Final = (0x00, _FIN, _XMAS, _SYN | _FIN, 0x3F)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a drill."""

    mac: bytes
    address: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """Who sends to whom, and which MAC is next on the way: the victim's, or the gateway's."""

    attacker: End
    victim: End
    next_hop: bytes
    claimed: bytes
    """Address that the attacker's ARP replies claim: the victim's, or the gateway's port's."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One simulated anomaly."""

    name: str
    about: str
    pps: int
    count: int


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("syn_burst", "2,000 SYNs to one port in 4 s, no handshake completed", 500, 2000),
        Kind("scan", "SYNs to 240 ports of one host, all closed, in 4 s", 60, 240),
        Kind("arp_conflict", "ARP replies that claim an address of the drill's other end", 4, 16),
        Kind("odd_packets", "TCP with flags that make no sense, to 240 closed ports", 60, 240),
    )
}
assert all(kind.pps <= MAX_PPS and kind.count <= MAX_FRAMES for kind in KINDS.values())


def frames(kind: Kind, line: Line) -> Iterator[bytes]:
    """Yield the kind's frames, `kind.count` of them; all of them to the victim."""
    for n in range(kind.count):
        if kind.name == "arp_conflict":
            yield _arp(line, n)
        elif kind.name == "syn_burst":
            yield _tcp(line, n, port=80, flags=_SYN, window=512)
        elif kind.name == "scan":
            mss = struct.pack(">BBH", 2, 4, 1460)
            yield _tcp(line, n, port=1000 + n, flags=_SYN, window=1024, options=mss)
        else:
            flags = _ODD_FLAGS[n % len(_ODD_FLAGS)]
            yield _tcp(line, n, port=2000 + n, flags=flags, window=1024)


def _arp(line: Line, n: int) -> bytes:
    """Return, in turn, the question who has an address and the claim to have it (RFC 826).

    Its owner answers the question, so its own claim is seen between two of ours. Both go to the
    next MAC on the way only: nobody else hears them."""
    asks = n % 2 == 0
    sender = line.attacker.address if asks else line.claimed
    operation = _ARP_REQUEST if asks else _ARP_REPLY
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
    body += line.attacker.mac + sender
    body += (bytes(6) if asks else line.next_hop) + line.claimed
    return _ethernet(line, 0x0806, body)


def _tcp(line: Line, n: int, *, port: int, flags: int, window: int, options: bytes = b"") -> bytes:
    source = 1024 + n % 60_000
    header = struct.pack(
        ">HHIIBBHHH", source, port, 0x1D5D0000 + 7919 * n, 0, (20 + len(options)) << 2, flags,
        window, 0, 0,
    )  # fmt: skip
    segment = header + options
    ends = line.attacker.address + line.victim.address
    total = _checksum(ends + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(segment)) + segment)
    segment = segment[:16] + total + segment[18:]
    ip = struct.pack(
        ">BBHHHBBH", 0x45, 0, 20 + len(segment), (0x1D5D + n) & 0xFFFF, 0, 64, socket.IPPROTO_TCP, 0
    )
    ip = ip[:10] + _checksum(ip + ends) + ends
    return _ethernet(line, 0x0800, ip + segment)


def _ethernet(line: Line, ethertype: int, payload: bytes) -> bytes:
    frame = line.next_hop + line.attacker.mac + ethertype.to_bytes(2) + payload
    return frame.ljust(60, b"\0")


def _checksum(data: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2)
