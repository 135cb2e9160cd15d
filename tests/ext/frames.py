"""Header fields in, bytes of frames out: what the tests of the packet record are made of.

Every builder takes what a test wants to get wrong and puts the right value where it does not say.
Checksums are left 0: the record never looks at them.
"""

import ctypes
import mmap
import struct
from typing import Final

import numpy as np

from ids_appliance.types import FRAME, Direction

SRC4, DST4 = bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2])
SRC6 = bytes.fromhex("20010db8000000000000000000000001")
DST6 = bytes.fromhex("20010db8000000000000000000000002")
SRC_MAC, DST_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ETHERNET, COOKED_V1, COOKED_V2, RAW, NULL, LOOP = 1, 113, 276, 101, 0, 108
IPV4, IPV6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
HOP, ROUTING, FRAGMENT, ESP, AH, NONE, OPTIONS = 0, 43, 44, 50, 51, 59, 60
SYN: Final = 2


def ethernet(payload: bytes, ethertype: int = IPV4, *, tags: tuple[int, ...] = ()) -> bytes:
    """`tags`: TPIDs from the outside in; each tag names the next one's type."""
    types = [*tags, ethertype]
    tagged = b"".join(struct.pack("!HH", 100 + i, t) for i, t in enumerate(types[1:]))
    return DST_MAC + SRC_MAC + struct.pack("!H", types[0]) + tagged + payload


def cooked_v1(
    payload: bytes, protocol: int = IPV4, *, kind: int = 0, mac: bytes = SRC_MAC
) -> bytes:
    """`kind`: PACKET_* (4 outgoing); a MAC of another length than 6 is legal on other media."""
    head = struct.pack("!HHH", kind, 1, len(mac))
    return head + mac.ljust(8, b"\0")[:8] + struct.pack("!H", protocol) + payload


def cooked_v2(
    payload: bytes, protocol: int = IPV4, *, kind: int = 0, mac: bytes = SRC_MAC
) -> bytes:
    head = struct.pack("!HHIHBB", protocol, 0, 3, 1, kind, len(mac))
    return head + mac.ljust(8, b"\0")[:8] + payload


def loopback(payload: bytes, family: int = 2, *, order: str = "<") -> bytes:
    return struct.pack(order + "I", family) + payload


def ipv4(
    payload: bytes,
    proto: int = TCP,
    *,
    ihl: int = 5,
    total: int | None = None,
    ttl: int = 64,
    fragment: int = 0,
    source: bytes = SRC4,
) -> bytes:
    """`fragment`: the flags-and-offset field; `ihl` above 5 brings no-operation options along."""
    options = b"\x01" * (4 * max(0, ihl - 5))
    if total is None:
        total = 20 + len(options) + len(payload)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | ihl, 0, total & 0xFFFF, 7, fragment, ttl, proto, 0, source, DST4
    )
    return head + options + payload


def ipv6(
    payload: bytes,
    proto: int = TCP,
    *,
    length: int | None = None,
    hops: int = 64,
    source: bytes = SRC6,
) -> bytes:
    """`length`: the payload length field."""
    if length is None:
        length = len(payload)
    return struct.pack("!IHBB", 6 << 28, length & 0xFFFF, proto, hops) + source + DST6 + payload


def extension(following: int, *, units: int = 0) -> bytes:
    """A hop-by-hop, routing or destination options header of 8 + 8 * units bytes."""
    return bytes([following, units]) + b"\x01\x04\0\0\0\0" + bytes(8 * units)


def authentication(following: int, *, words: int = 4) -> bytes:
    """An AH of 8 + 4 * words bytes; its length field is in 4-byte words, minus 2 (RFC 4302)."""
    return bytes([following, words, 0, 0]) + bytes(4 + 4 * words)


def fragment(following: int, *, offset: int = 0, more: bool = False) -> bytes:
    """An IPv6 fragment header; `offset` in units of 8 bytes."""
    return struct.pack("!BBHI", following, 0, offset << 3 | more, 42)


def extended(*chain: tuple[int, bytes], proto: int = TCP, payload: bytes = b"") -> bytes:
    """An IPv6 packet of the given (type, header) chain; the headers name what follows them."""
    body = b"".join(header for _, header in chain)
    return ipv6(body + payload, chain[0][0] if chain else proto)


def tcp(
    payload: bytes = b"",
    *,
    ports: tuple[int, int] = (40000, 80),
    flags: int = SYN,
    offset: int = 5,
) -> bytes:
    """`offset`: the data offset; above 5 it brings options along."""
    options = b"\x01" * (4 * max(0, offset - 5))
    head = struct.pack("!HHIIBBHHH", *ports, 1, 2, offset << 4, flags, 1024, 0, 0)
    return head + options + payload


def udp(payload: bytes = b"", *, ports: tuple[int, int] = (40000, 53)) -> bytes:
    return struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload


def icmp(payload: bytes = b"", *, kind: int = 8) -> bytes:
    return bytes([kind, 0, 0, 0, 0, 1, 0, 1]) + payload


def arp(*, source: bytes = SRC4, mac: bytes = SRC_MAC) -> bytes:
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + mac + source + bytes(6) + DST4


def records(
    frames: list[bytes], linktype: int = ETHERNET, *, direction: int = Direction.UNKNOWN
) -> tuple[np.ndarray, np.ndarray]:
    """Lay frames end to end, so that the byte after each is another's: (buffer, FRAME records)."""
    table = np.zeros(len(frames), FRAME)
    table["caplen"] = table["wirelen"] = [len(f) for f in frames]
    table["offset"] = np.cumsum(table["caplen"]) - table["caplen"]
    table["number"] = np.arange(1, len(frames) + 1)
    table["linktype"] = linktype
    table["direction"] = direction
    return np.frombuffer(b"".join(frames), np.uint8), table


class Guarded:
    """A buffer between two pages that nobody may touch: one byte too far is a crash.

    `at_end(frame)` and `at_start(frame)` copy a frame against either fence and return it as an
    array of exactly its size.
    """

    def __init__(self, size: int = 1 << 17) -> None:
        page = mmap.PAGESIZE
        self._map = mmap.mmap(-1, size + 2 * page)
        whole = np.frombuffer(self._map, np.uint8)
        self._room = whole[page : page + size]
        libc = ctypes.CDLL(None, use_errno=True)
        for fence in (0, page + size):
            at = ctypes.c_void_p(whole.ctypes.data + fence)
            if libc.mprotect(at, ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def at_end(self, frame: bytes) -> np.ndarray:
        place = self._room[self._room.size - len(frame) :]
        place[:] = np.frombuffer(frame, np.uint8)
        return place

    def at_start(self, frame: bytes) -> np.ndarray:
        place = self._room[: len(frame)]
        place[:] = np.frombuffer(frame, np.uint8)
        return place
