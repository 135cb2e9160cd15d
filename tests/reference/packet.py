"""A captured frame in, the record's 68 integers, its outcome and its counters out: the slow twin.

Written from docs/features.md alone and read top to bottom like it; it shares no line with
ext/packet.pxd, which it is the oracle of. Python's own slicing keeps every read inside the frame.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final

COUNTERS: Final = (
    "truncated_l2",
    "other_l2",
    "truncated_l3",
    "bad_version",
    "bad_ihl",
    "truncated_l4",
    "bad_data_offset",
    "too_many_extensions",
)

N_PAYLOAD: Final = 32
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
VLAN_TAGS: Final = (0x8100, 0x88A8)  # 802.1Q, 802.1ad
ETHERNET, COOKED_V1, COOKED_V2, BSD_NULL, BSD_LOOP = 1, 113, 276, 0, 108
RAW_LINKS: Final = {12: (IPV4, IPV6), 101: (IPV4, IPV6), 228: (IPV4,), 229: (IPV6,)}
LINK_TYPES: Final = (ETHERNET, COOKED_V1, COOKED_V2, *RAW_LINKS, BSD_NULL, BSD_LOOP)
# AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24 NetBSD and OpenBSD, 28 FreeBSD, 30 macOS.
FAMILIES: Final = {2: IPV4, 10: IPV6, 24: IPV6, 28: IPV6, 30: IPV6}

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS: Final = (HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION)
MAX_EXTENSIONS: Final = 8

SERVICES: Final = (  # in the order of the columns: protocols, ports
    ((TCP, UDP), {53, 5353}),  # dns
    ((UDP,), {67, 68, 546, 547}),  # dhcp
    ((TCP,), {80, 8080}),  # http
    ((TCP,), {443, 8443}),  # https
    ((TCP,), {22}),  # ssh
    ((TCP,), {25, 465, 587}),  # smtp
    ((TCP,), {*range(6660, 6670), 6697}),  # irc
    ((TCP,), {23, 2323}),  # telnet
)

JUDGED, UNPARSABLE, OWN, ECHO = 0, 1, 2, 3  # Outcome in types.py
OUTGOING, UNKNOWN = 4, 255  # Direction in types.py

Networks = tuple[tuple[int, ipaddress.IPv4Network | ipaddress.IPv6Network], ...]
Row = list[int]
Raised = set[str]


@dataclass(frozen=True, slots=True)
class Host:
    """The gateway itself, as seen from the captured interfaces; empty for a foreign capture."""

    macs: frozenset[bytes] = frozenset()
    addresses: frozenset[bytes] = frozenset()
    all_ports: bool = False
    """Every port of the bridge is captured, so a foreign frame going out was seen coming in."""
    routers: frozenset[bytes] = frozenset()
    """MACs of those who forward for others on the protected side."""
    networks: Networks = ()
    """(interface index, on-link network) of the captured interfaces."""

    @property
    def known(self) -> bool:
        return bool(self.macs or self.addresses or self.all_ports)


@dataclass(frozen=True, slots=True)
class Judged:
    """All that one frame comes to."""

    outcome: int
    row: Row | None
    """None unless the outcome is JUDGED."""
    raised: Raised
    mac: bytes | None
    """None where the link has none."""
    address: bytes
    """4, 16 or no bytes."""
    side: int
    """1 where the sender lies beyond our own forwarding."""


def judge(frame: bytes, linktype: int, direction: int, host: Host, *, ifindex: int = 0) -> Judged:
    """Return what becomes of a frame at the capture point of `host`, on interface `ifindex`."""
    raised: Raised = set()
    kind, packet = layer3(frame, linktype, raised)
    mac, direction = link_sender(frame, linktype, direction)
    if kind == 0:
        return Judged(UNPARSABLE, None, raised, mac, b"", 0)
    at, size = {ARP: (14, 4), IPV4: (12, 4), IPV6: (8, 16)}[kind]
    address = packet[at : at + size] if len(packet) >= at + size else b""

    # Only what leaves through us, or what a capture cannot tell from it, can be ours.
    leaving = host.known and direction in (OUTGOING, UNKNOWN)
    ours = leaving and (direction == OUTGOING if mac is None else mac in host.macs)
    unroutable = bool(address) and (not any(address) or _link_local(address))
    own = ours and (kind == ARP or address in host.addresses or unroutable)
    echo = leaving and not ours and direction == OUTGOING and host.all_ports
    if ours and not own and address:
        # Routed from another captured interface, where it was seen coming in.
        source = ipaddress.ip_address(address)
        echo = any(
            index != ifindex and source.version == net.version and source in net
            for index, net in host.networks
        )
    forwarded = ours and not own and not echo
    beyond = bool(kind != ARP and address and not unroutable and mac in host.routers)
    columns = record(kind, packet, forwarded, raised)
    outcome = OWN if own else ECHO if echo else JUDGED
    return Judged(
        outcome, columns if outcome == JUDGED else None, raised, mac, address, forwarded | beyond
    )


def _link_local(address: bytes) -> bool:
    return len(address) == 16 and ipaddress.IPv6Address(address).is_link_local


def link_sender(frame: bytes, linktype: int, direction: int) -> tuple[bytes | None, int]:
    """Return the source MAC, None where the link has none, and the direction.

    Linux cooked headers tell the direction themselves, and better than the capture does.
    """
    if linktype == ETHERNET and len(frame) >= 14:
        return frame[6:12], direction
    if linktype == COOKED_V1 and len(frame) >= 16:
        told, size, mac = int.from_bytes(frame[:2], "big"), frame[5] + 256 * frame[4], frame[6:12]
    elif linktype == COOKED_V2 and len(frame) >= 20:
        told, size, mac = frame[10], frame[11], frame[12:18]
    else:
        return None, direction
    return mac if size == 6 else None, told if told <= 4 else direction


def parse(
    frame: bytes, linktype: int = ETHERNET, forwarded: bool = False
) -> tuple[Row | None, Raised]:
    """Return the 68 integers, or None where the frame cannot be judged, and the counters raised.

    `forwarded`: the capture point lies behind our own forwarding, so the TTL on arrival was one
    more than the one in the frame.
    """
    raised: Raised = set()
    kind, packet = layer3(frame, linktype, raised)
    return record(kind, packet, forwarded, raised), raised


def record(kind: int, packet: bytes, forwarded: bool, raised: Raised) -> Row | None:
    """Return the 68 integers of a layer-3 packet of a known kind; None for kind 0."""
    if kind == ARP:
        if len(packet) < 28:
            raised.add("truncated_l3")
        return row(header_length=28, length=28, is_arp=1)
    if kind == IPV4:
        return ipv4(packet, forwarded, raised)[:-8] + octets(packet)
    if kind == IPV6:
        return ipv6(packet, forwarded, raised)
    return None


def octets(packet: bytes) -> Row:
    """Return the bytes of both addresses of an IPv4 packet; 0 for one not wholly captured."""
    ends = (packet[12:16], packet[16:20])
    return [byte for end in ends for byte in (end if len(end) == 4 else bytes(4))]


def layer3(frame: bytes, linktype: int, raised: Raised) -> tuple[int, bytes]:
    """Return the kind of packet (0: cannot be judged) and its bytes, link header removed."""
    if linktype == ETHERNET:
        header, at = 14, 12
    elif linktype == COOKED_V1:
        header, at = 16, 14
    elif linktype == COOKED_V2:
        header, at = 20, 0
    elif linktype in (BSD_NULL, BSD_LOOP):
        header, at = 4, 0
    elif linktype in RAW_LINKS:
        header, at = 0, 0
    else:
        raised.add("other_l2")
        return 0, b""

    if len(frame) < header:
        raised.add("truncated_l2")
        return 0, b""

    if linktype in RAW_LINKS:
        if not frame:
            raised.add("truncated_l2")
            return 0, b""
        kind = {4: IPV4, 6: IPV6}.get(frame[0] >> 4, 0)
        if kind not in RAW_LINKS[linktype]:
            raised.add("bad_version")
            return 0, b""
        return kind, frame

    if linktype in (BSD_NULL, BSD_LOOP):
        # NULL is in the byte order of whoever captured, LOOP in network byte order.
        family = int.from_bytes(frame[:4], "big")
        if linktype == BSD_NULL and family not in FAMILIES:
            family = int.from_bytes(frame[:4], "little")
        kind = FAMILIES.get(family, 0)
    else:
        kind = int.from_bytes(frame[at : at + 2], "big")
        tags = 0
        while kind in VLAN_TAGS and tags < 2:
            if len(frame) < header + 4:
                raised.add("truncated_l2")
                return 0, b""
            kind = int.from_bytes(frame[header + 2 : header + 4], "big")
            header += 4
            tags += 1

    packet = frame[header:]
    if kind not in (IPV4, IPV6, ARP):
        raised.add("other_l2")
        return 0, b""
    if kind == ARP:
        return kind, packet
    if not packet:
        raised.add("truncated_l2")
        return 0, b""
    if packet[0] >> 4 != (4 if kind == IPV4 else 6):
        raised.add("bad_version")
        return 0, b""
    return kind, packet


def ipv4(packet: bytes, forwarded: bool, raised: Raised) -> Row:
    """Return the row of an IPv4 packet (RFC 791); at least its first byte is there."""
    captured = len(packet)
    header = (packet[0] & 15) * 4
    total = int.from_bytes(packet[2:4], "big") if captured >= 4 else 0
    if captured >= 4 and total == 0:  # segmentation offload
        total = captured
    ttl = arrival(packet, 8, forwarded)
    proto = packet[9] if captured >= 10 else 0
    if header < 20:
        raised.add("bad_ihl")
        return row(proto=proto, length=total, ttl=ttl)
    end = min(captured, total)
    if end < header:
        raised.add("truncated_l3")
        return row(proto=proto, header_length=header, length=total, ttl=ttl)
    first = int.from_bytes(packet[6:8], "big") & 0x1FFF == 0
    return upper(packet[:end], header, proto, first, total, ttl, raised)


def ipv6(packet: bytes, forwarded: bool, raised: Raised) -> Row:
    """Return the row of an IPv6 packet (RFC 8200); at least its first byte is there."""
    captured = len(packet)
    length = 40 + int.from_bytes(packet[4:6], "big") if captured >= 6 else 0
    proto = packet[6] if captured >= 7 else 0
    ttl = arrival(packet, 7, forwarded)
    if captured < 40:
        raised.add("truncated_l3")
        if proto in EXTENSIONS:
            proto = 0
        return row(proto=proto, header_length=40, length=length, ttl=ttl)

    packet = packet[:length]
    header = 40
    walked = 0
    first = True
    while proto in EXTENSIONS and first:
        if walked == MAX_EXTENSIONS:
            raised.add("too_many_extensions")
            return row(header_length=header, length=length, ttl=ttl)
        extension = packet[header : header + 8]
        if len(extension) < 2:
            size = 8  # whatever it is, it is not inside
        elif proto == FRAGMENT:
            size = 8
        elif proto == AH:
            size = (extension[1] + 2) * 4
        else:
            size = (extension[1] + 1) * 8
        if header + size > len(packet):
            raised.add("truncated_l3")
            return row(header_length=header, length=length, ttl=ttl)
        if proto == FRAGMENT and int.from_bytes(extension[2:4], "big") >> 3 != 0:
            first = False
        proto = extension[0]
        header += size
        walked += 1
    if proto in EXTENSIONS:  # behind a fragment header: nobody can walk on from here
        proto = 0
    return upper(packet, header, proto, first, length, ttl, raised)


def upper(
    packet: bytes, header: int, proto: int, first: bool, length: int, ttl: int, raised: Raised
) -> Row:
    """Return the row of a packet cut to its end, its layer-3 header complete.

    `first`: not a later fragment, so the layer-4 header is there.
    """
    segment = packet[header:]
    size = len(segment)
    ports = (0, 0)
    flags = 0
    counted = 0  # bytes of layer-4 header that count
    payload = segment
    if first and proto in (TCP, UDP) and size >= 4:
        ports = (int.from_bytes(segment[:2], "big"), int.from_bytes(segment[2:4], "big"))
    if first and proto == TCP:
        offset = (segment[12] >> 4) * 4 if size >= 13 else 0
        flags = segment[13] if size >= 14 else 0
        if size < max(20, offset):
            raised.add("truncated_l4")
        if size >= 13 and offset < 20:
            raised.add("bad_data_offset")
        counted = offset if offset >= 20 else 0
        payload = segment[counted:] if counted else b""
    elif first and proto in (UDP, ICMP, ICMPV6):
        if size < 8:
            raised.add("truncated_l4")
        counted = 8
        payload = segment[8:]
    return row(
        ports=ports,
        proto=proto,
        header_length=header + counted,
        length=length,
        ttl=ttl,
        flags=flags,
        payload=payload,
    )


def arrival(packet: bytes, at: int, forwarded: bool) -> int:
    """Return the TTL or hop limit at byte `at` as it was on arrival; 0 where it is cut off."""
    if len(packet) <= at:
        return 0
    return min(255, packet[at] + forwarded)


def row(
    *,
    ports: tuple[int, int] = (0, 0),
    proto: int = 0,
    header_length: int = 0,
    length: int = 0,
    ttl: int = 0,
    flags: int = 0,
    payload: bytes = b"",
    is_arp: int = 0,
) -> Row:
    """Return the columns made of the fields that stand on their own; addresses are 0."""
    header_length = min(65535, header_length)
    length = min(65535, length)
    columns = [*ports, proto, header_length, length, ttl, flags, max(0, length - header_length)]
    columns += payload[:N_PAYLOAD].ljust(N_PAYLOAD, b"\0")
    # syn ack fin rst psh urg ece cwr, from the byte CWR ECE URG ACK PSH RST SYN FIN
    columns += [flags >> bit & 1 for bit in (1, 4, 0, 2, 3, 5, 6, 7)]
    columns += [int(proto == TCP), int(proto == UDP), int(proto in (ICMP, ICMPV6)), is_arp]
    columns += [
        int(proto in protocols and (ports[0] in named or ports[1] in named))
        for protocols, named in SERVICES
    ]
    return columns + [0] * 8
