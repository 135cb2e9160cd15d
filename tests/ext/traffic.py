"""Choices in, small frames and their times out: made-up traffic in which everything meets.

Few hosts, few ports and few sequence numbers, so that answers, retransmissions, forged claims and
closed connections come about by chance. Whoever chooses is a function of `n` that returns
0 .. n - 1: a random generator's, or one that eats a fuzzer's bytes.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ids_appliance.types import Direction

Choose = Callable[[int], int]

GATEWAY_MAC: Final = bytes.fromhex("02aa00000001")
GATEWAY4: Final = bytes([192, 0, 2, 254])
GATEWAY6: Final = bytes.fromhex("20010db8000000000000000000000254")
DEVICES: Final = tuple(
    (bytes([2, 0, 0, 0, 0, i]), bytes([192, 0, 2, i]), GATEWAY6[:14] + bytes([1, i]))
    for i in range(1, 7)
)
"""(MAC, IPv4, IPv6) on the protected side."""
BEYOND: Final = tuple(
    (bytes([198, 51, 100, i]), bytes.fromhex("20010db800ff") + bytes([0, i]) + bytes([i] * 8))
    for i in range(1, 5)
)
PORTS: Final = (23, 80, 443, 1883, 5353, 40000, 40002, 40016, 40017, 40032)
GROUP4, GROUP6 = bytes([224, 0, 0, 251]), bytes.fromhex("ff0200000000000000000000000000fb")
NUMBERS: Final = (0, 1, 2, 100, 101, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Sent:
    """One frame as captured."""

    data: bytes
    time_ns: int
    direction: int = Direction.HOST
    linktype: int = 1
    ifindex: int = 3


def tcp(
    ports: tuple[int, int], flags: int, seq: int = 0, ack: int = 0, payload: bytes = b""
) -> bytes:
    return struct.pack("!HHIIBBHHH", *ports, seq, ack, 0x50, flags, 1024, 0, 0) + payload


def udp(ports: tuple[int, int], payload: bytes = b"") -> bytes:
    return struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload


def echo(kind: int, number: int) -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, number, 1)


def ip(source: bytes, target: bytes, proto: int, payload: bytes) -> bytes:
    if len(source) == 4:
        size = 20 + len(payload)
        head = struct.pack("!BBHHHBBH", 0x45, 0, size, 7, 0, 64, proto, 0)
    else:
        head = struct.pack("!IHBB", 6 << 28, len(payload), proto, 64)
    return head + source + target + payload


def ethernet(source: bytes, packet: bytes, ethertype: int, target: bytes = b"\x02" * 6) -> bytes:
    return target + source + ethertype.to_bytes(2, "big") + packet


def arp(op: int, sha: bytes, spa: bytes, tpa: bytes, tha: bytes = bytes(6)) -> bytes:
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + sha + spa + tha + tpa


def dhcp_ack(address: bytes, mac: bytes, lease_s: int) -> bytes:
    head = b"\x02\x01\x06\0" + bytes(12) + address + bytes(8) + mac.ljust(16, b"\0")
    options = b"\x63\x82\x53\x63\x35\x01\x05\x33\x04" + lease_s.to_bytes(4, "big") + b"\xff"
    return head + bytes(192) + options


class Story:
    """Frames of devices, of a gateway in between, and of others beyond it."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.now_ns = 1_000_000_000_000
        self.number = 0
        self.last: tuple[bytes, bytes, tuple[int, int], int] | None = None

    def pick(self, things: tuple) -> object:  # type: ignore[type-arg]
        return things[self.choose(len(things))]

    def frames(self, count: int) -> Iterator[Sent]:
        for _ in range(count):
            self.pass_time()
            yield self.one()

    def pass_time(self) -> None:
        kind = self.choose(40)
        if kind < 24:
            self.now_ns += self.choose(50) * 1_000_000
        elif kind < 36:
            self.now_ns += self.choose(200) * 10_000_000
        elif kind == 36:
            self.now_ns += self.choose(70) * 1_000_000_000
        elif kind == 37:
            self.now_ns -= self.choose(12) * 1_000_000_000
        elif kind == 38:
            self.now_ns += self.choose(3) * 2_000_000_000_000

    def one(self) -> Sent:
        kind = self.choose(16)
        if kind < 3:
            return self.arp()
        if kind == 3:
            return self.dhcp()
        return self.packet()

    def mac(self) -> bytes:
        return self.pick(DEVICES)[0]  # type: ignore[index]

    def sent(self, data: bytes, mac: bytes) -> Sent:
        direction = Direction.OUTGOING if mac == GATEWAY_MAC else Direction.HOST
        return Sent(data, self.now_ns, direction)

    def arp(self) -> Sent:
        own = self.choose(8) == 0
        mac, address, _ = DEVICES[self.choose(3)]
        if own:
            mac, address = GATEWAY_MAC, GATEWAY4
        elif self.choose(4) == 0:
            address = GATEWAY4 if self.choose(3) == 0 else DEVICES[self.choose(3)][1]
        sha = self.mac() if self.choose(10) == 0 else mac
        asked = (*(d[1] for d in DEVICES), GATEWAY4, address)[self.choose(8)]
        packet = arp(1 + self.choose(2), sha, address, asked)
        if self.choose(20) == 0:
            mac = bytes(6)
        return self.sent(ethernet(mac, packet, 0x0806), mac)

    def dhcp(self) -> Sent:
        mac = GATEWAY_MAC if self.choose(2) else self.mac()
        source = GATEWAY4 if mac == GATEWAY_MAC else DEVICES[0][1]
        lease = (0, 2, 60, 86400)[self.choose(4)]
        body = dhcp_ack(DEVICES[self.choose(6)][1], self.mac(), lease)
        packet = ip(source, DEVICES[1][1], 17, udp((67, 68), body))
        return self.sent(ethernet(mac, packet, 0x0800), mac)

    def ends(self) -> tuple[bytes, bytes, bytes]:
        """Return source MAC, source and target address; what is from beyond leaves through us."""
        six = self.choose(4) == 0
        device = DEVICES[self.choose(6)]
        inside = device[2 if six else 1]
        outside = BEYOND[self.choose(4)][1 if six else 0]
        way = self.choose(8)
        if way < 3:
            return device[0], inside, outside
        if way < 6:
            return GATEWAY_MAC, outside, inside
        if way == 6:
            return device[0], inside, DEVICES[self.choose(6)][2 if six else 1]
        own = GATEWAY6 if six else GATEWAY4
        return (GATEWAY_MAC, own, inside) if self.choose(2) else (device[0], inside, own)

    def packet(self) -> Sent:
        mac, source, target = self.ends()
        ports = (PORTS[self.choose(10)], PORTS[self.choose(10)])
        number = 0
        if self.last is not None and self.choose(4):  # stay with the exchange, often the other way
            source, target, ports, number = self.last
            if self.choose(3):
                source, target, ports = target, source, ports[::-1]
            known = {d[i]: d[0] for d in DEVICES for i in (1, 2)}
            mac = known.get(source, GATEWAY_MAC)
        if self.choose(24) == 0:
            target = GROUP4 if len(source) == 4 else GROUP6
        kind = self.choose(8)
        proto, payload = self.upper(kind, source, target, ports, number)
        if kind != 7:
            self.last = (source, target, ports, self.number)
        ethertype = 0x0800 if len(source) == 4 else 0x86DD
        return self.sent(ethernet(mac, ip(source, target, proto, payload), ethertype), mac)

    def upper(
        self, kind: int, source: bytes, target: bytes, ports: tuple[int, int], number: int
    ) -> tuple[int, bytes]:
        if kind < 5:
            flags = (2, 2, 2, 18, 18, 16, 16, 16, 20, 4, 17, 1, 0, 41, 24, 25)[self.choose(16)]
            seq, ack = NUMBERS[self.choose(6)], NUMBERS[self.choose(6)]
            if self.choose(2):  # to what came last
                ack = (number + 1) & 0xFFFFFFFF
            self.number = seq
            return 6, tcp(ports, flags, seq, ack, b"x" * (self.choose(3) if flags & 26 else 0))
        if kind == 5:
            return 17, udp(ports, b"hello")
        four = len(source) == 4
        proto = 1 if four else 58
        if kind == 6:
            kinds = (8, 0) if four else (128, 129)
            return proto, echo(kinds[self.choose(2)], self.choose(3))
        quoted = tcp(ports[::-1], 2)[:8] if self.choose(2) else udp(ports[::-1])
        inner = 6 if len(quoted) == 8 and self.choose(2) else 17
        head = bytes([((3, 11) if four else (1, 3))[self.choose(2)], 3]) + bytes(6)
        return proto, head + ip(target, source, inner, quoted)
