"""What the tests in this directory send, and how live frames are read and told apart."""

import socket
import struct
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.capture.interfaces import identity
from ids_appliance.capture.ring import RingSource
from ids_appliance.types import FRAME, SENDER, FrameBatch
from tests.net.namespaces import wait_for

LAN4, WAN4 = socket.inet_aton("192.0.2.77"), socket.inet_aton("198.51.100.77")
LAN6, WAN6 = (socket.inet_pton(socket.AF_INET6, a) for a in ("2001:db8:1::77", "2001:db8:2::77"))
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
Key = tuple[bytes, int]
"""Source address, and IPv4 id or IPv6 flow label."""


def checksum(data: bytes) -> int:
    """RFC 1071"""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    proto: int, body: bytes, *, to_wan: bool, ident: int, ttl: int = 64, frag: int = 0
) -> bytes:
    source, target = (LAN4, WAN4) if to_wan else (WAN4, LAN4)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, frag, ttl, proto, 0)
    head += source + target
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ipv6(proto: int, body: bytes, *, to_wan: bool, label: int, hops: int = 64) -> bytes:
    source, target = (LAN6, WAN6) if to_wan else (WAN6, LAN6)
    return struct.pack("!IHBB", 0x60000000 | label, len(body), proto, hops) + source + target + body


def tcp(ports: tuple[int, int], flags: int, payload: bytes = b"", options: bytes = b"") -> bytes:
    offset = (5 + len(options) // 4) << 4
    return struct.pack("!HHIIBBHHH", *ports, 1, 2, offset, flags, 512, 0, 0) + options + payload


def udp(ports: tuple[int, int], payload: bytes) -> bytes:
    return struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload


def icmp(kind: int, payload: bytes) -> bytes:
    body = struct.pack("!BBHHH", kind, 0, 0, 9, 9) + payload
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


QUESTION = struct.pack("!HHHHHH", 77, 0x100, 1, 0, 0, 0) + b"\7example\4test\0\0\1\0\1"
ANSWER = b"\x00\x4d\x81\x80" + QUESTION[4:] + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc6\x33\x64\4"


def conversation(*, to_wan: bool) -> list[bytes]:
    """Return packets of many kinds in one direction, each with an id of its own."""
    number = count(100)

    def ports(service: int) -> tuple[int, int]:
        return (40_000, service) if to_wan else (service, 40_000)

    mss = bytes.fromhex("020405b40402080a0000000100000000010303 07".replace(" ", ""))
    bodies = [
        (TCP, tcp(ports(80), 0x02, options=mss)),
        (TCP, tcp(ports(80), 0x12)),
        (TCP, tcp(ports(80), 0x18, b"GET / HTTP/1.1\r\nHost: www.example.test\r\n\r\n")),
        (TCP, tcp(ports(443), 0x18, bytes(range(256)) * 5)),
        (TCP, tcp(ports(2323), 0x14)),
        (TCP, tcp(ports(22), 0xFF, b"x")),
        (UDP, udp(ports(53), QUESTION)),
        (UDP, udp(ports(53), ANSWER)),
        (UDP, udp(ports(5683), b"")),
        (UDP, udp(ports(5353), bytes(1400))),
        (47, b"\0\0\x08\0" + bytes(40)),
    ]
    four = [ipv4(p, b, to_wan=to_wan, ident=next(number)) for p, b in bodies]
    echo = icmp(8 if to_wan else 0, b"ping" * 10)
    four += [
        ipv4(ICMP, echo, to_wan=to_wan, ident=next(number), ttl=ttl) for ttl in (2, 63, 128, 255)
    ]
    four += [
        ipv4(UDP, udp(ports(9), b"f" * 16), to_wan=to_wan, ident=next(number), frag=0x2000),
        ipv4(UDP, b"second part", to_wan=to_wan, ident=next(number), frag=3),
    ]
    options = struct.pack("!BBBBI", UDP, 0, 1, 4, 0)  # destination options, padded
    six = [ipv6(p, b, to_wan=to_wan, label=next(number)) for p, b in bodies]
    six += [
        ipv6(60, options + udp(ports(53), QUESTION), to_wan=to_wan, label=next(number)),
        ipv6(ICMPV6, icmp(128, b"p" * 30), to_wan=to_wan, label=next(number), hops=2),
        ipv6(ICMPV6, icmp(129, b"p" * 30), to_wan=to_wan, label=next(number), hops=255),
    ]
    return four + six


def ethernet(packet: bytes, target: bytes, source: bytes) -> bytes:
    return target + source + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def key_of(packet: bytes) -> Key | None:
    """Return what tells a test packet from all others; None for what is not of the tests."""
    if len(packet) >= 20 and packet[0] >> 4 == 4 and packet[12:16] in (LAN4, WAN4):
        return packet[12:16], struct.unpack_from("!H", packet, 4)[0]
    if len(packet) >= 40 and packet[0] >> 4 == 6 and packet[8:24] in (LAN6, WAN6):
        return packet[8:24], struct.unpack_from("!I", packet)[0] & 0xFFFFF
    return None


class Judge:
    """Records of frames, by the key of the test packet in them (after an Ethernet header)."""

    def __init__(self, host: HostIdentity) -> None:
        self.host = host
        self.rows: dict[Key, list[int]] = {}
        self.senders: dict[Key, np.void] = {}
        self.outcomes: list[int] = []
        self.keyed: list[tuple[Key, int]] = []
        self.counters = np.zeros(len(COUNTER_NAMES), np.uint64)

    def take(self, batch: FrameBatch) -> None:
        n = len(batch.frames)
        rows, senders = np.zeros((n, 60), np.uint16), np.zeros(n, SENDER)
        outcomes = np.zeros(n, np.uint8)
        extract(batch.data, batch.frames, self.host, rows, senders, outcomes, self.counters)
        self.outcomes += outcomes.tolist()
        for i, frame in enumerate(batch.frames):
            start = int(frame["offset"])
            data = batch.data[start : start + int(frame["caplen"])].tobytes()
            key = key_of(data[18:] if data[12:14] == b"\x81\x00" else data[14:])
            if key is not None:
                self.rows[key] = rows[i].tolist()
                self.senders[key] = senders[i].copy()
                self.keyed.append((key, int(outcomes[i])))


def host_identity(*names: str) -> HostIdentity:
    own = identity(names)
    return HostIdentity(own.macs, own.addresses, all_ports=own.all_ports)


def read_until(
    batches: Iterator[FrameBatch | None],
    take: Callable[[FrameBatch], object],
    done: Callable[[], object],
) -> None:
    """Read a live source until `done`."""

    def look() -> object:
        batch = next(batches)
        if batch is not None:
            take(batch)
        return done()

    wait_for(look)


def identity_holds(source: RingSource) -> None:
    """Ring delivered + kernel drops = kernel packets (and what is still in the ring)."""
    c = source.counters()
    assert c["kernel_packets"] == (
        c["delivered"] + c["kernel_drops"] + c["in_ring"] + c["malformed"]
    )
    assert c["malformed"] == 0


def frames_of(data: list[bytes]) -> FrameBatch:
    """Return frames as a batch, as a capture file would give it."""
    frames = np.zeros(len(data), FRAME)
    frames["caplen"] = frames["wirelen"] = [len(d) for d in data]
    frames["offset"] = np.cumsum([0, *(len(d) for d in data[:-1])])
    frames["number"] = np.arange(1, len(data) + 1)
    frames["linktype"], frames["direction"] = 1, 255
    return FrameBatch(np.frombuffer(b"".join(data), np.uint8), frames)
