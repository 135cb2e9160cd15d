"""A frame in, the compiled record against its twin: no difference and no read outside the frame."""

import ipaddress
from collections.abc import Iterator

import numpy as np

from ids_appliance import _features
from ids_appliance.schema import N_COLUMNS
from ids_appliance.types import FRAME, SENDER
from tests.ext import frames as f
from tests.reference import packet as twin

LINKS = (*twin.LINK_TYPES, 147)
DIRECTIONS = (0, 1, 2, 3, 4, 255)
OWN_MAC, OWN4, OWN6 = f.SRC_MAC, f.DST4, f.DST6
MACS, ADDRESSES = frozenset([OWN_MAC]), frozenset([OWN4, OWN6])


def _networks(four: bytes, six: bytes, *, lengths: tuple[int, int]) -> twin.Networks:
    """Return networks as the twin has them: on interface 7, and on 8."""
    return (
        (7, ipaddress.ip_network((four, lengths[0]), strict=False)),
        (8, ipaddress.ip_network((six, lengths[1]), strict=False)),
    )


NETWORKS = _networks(OWN4, OWN6, lengths=(20, 61))
WIDE = _networks(f.SRC4, f.SRC6, lengths=(13, 32))
HOSTS = [
    (_features.HostIdentity(), twin.Host()),
    (_features.HostIdentity(MACS, ADDRESSES), twin.Host(MACS, ADDRESSES)),
    (
        _features.HostIdentity(MACS, ADDRESSES, all_ports=True),
        twin.Host(MACS, ADDRESSES, True),
    ),
    (
        _features.HostIdentity(
            [f.DST_MAC], ADDRESSES, routers=MACS, networks=[(7, OWN4, 20), (8, OWN6, 61)]
        ),
        twin.Host(frozenset([f.DST_MAC]), ADDRESSES, False, MACS, NETWORKS),
    ),
    (
        _features.HostIdentity(MACS, networks=[(7, f.SRC4, 13), (8, f.SRC6, 32)]),
        twin.Host(MACS, networks=WIDE),
    ),
]
COUNTERS = len(_features.COUNTER_NAMES)
EMPTY = [0] * N_COLUMNS


def fuzz(data: bytes) -> None:
    """First byte: link type; second: direction and host; the rest is the frame."""
    if len(data) < 2:
        return
    linktype = LINKS[data[0] % len(LINKS)]
    direction = DIRECTIONS[data[1] % len(DIRECTIONS)]
    identity, host = HOSTS[data[1] // len(DIRECTIONS) % len(HOSTS)]
    check(data[2:], linktype, direction, (identity, host))
    layer3(data[2:], data[1])


def check(
    frame: bytes, linktype: int, direction: int, hosts: tuple[_features.HostIdentity, twin.Host]
) -> twin.Judged:
    """Return what the twin says; raises AssertionError where the compiled record says otherwise."""
    # An allocation of exactly the frame's size: one byte further is the sanitizer's.
    buffer = np.frombuffer(frame, np.uint8).copy()
    table = np.zeros(1, FRAME)
    table["caplen"], table["linktype"], table["direction"] = len(frame), linktype, direction
    rows, senders = np.zeros((1, N_COLUMNS), np.uint16), np.zeros(1, SENDER)
    outcomes, counters = np.zeros(1, np.uint8), np.zeros(COUNTERS, np.uint64)
    _features.extract(buffer, table, hosts[0], rows, senders, outcomes, counters)
    expected = twin.judge(frame, linktype, direction, hosts[1])
    sender = senders[0]
    seen = (
        int(outcomes[0]),
        rows[0].tolist(),
        counters.tolist(),
        bytes(sender["mac"]),
        bytes(sender["address"]),
        int(sender["family"]),
        int(sender["side"]),
    )
    wanted = (
        expected.outcome,
        expected.row or EMPTY,
        [1] + [int(name in expected.raised) for name in _features.COUNTER_NAMES[1:]],
        expected.mac or bytes(6),
        expected.address.ljust(16, b"\0"),
        {0: 0, 4: 4, 16: 6}[len(expected.address)],
        expected.side,
    )
    if seen != wanted:
        raise AssertionError(
            f"link type {linktype}, direction {direction}, frame {frame.hex()}:\n"
            f" compiled {seen}\n twin     {wanted}"
        )
    return expected


def layer3(packet: bytes, choice: int) -> None:
    """Check the path that has no link header, ethertype and hook by `choice`."""
    ethertype = (0, f.IPV4, f.IPV6, f.ARP)[choice & 3]
    forwarded = bool(choice & 4)
    row, counters = np.zeros(N_COLUMNS, np.uint16), np.zeros(COUNTERS, np.uint64)
    buffer = np.frombuffer(packet, np.uint8).copy()
    can = _features.extract_l3(buffer, ethertype, row, counters, forwarded=forwarded)
    frame = f.ethernet(packet, ethertype) if ethertype else packet
    expected, raised = twin.parse(frame, f.ETHERNET if ethertype else f.RAW, forwarded)
    wanted = [1] + [int(name in raised) for name in _features.COUNTER_NAMES[1:]]
    if (can, row.tolist(), counters.tolist()) != (expected is not None, expected or EMPTY, wanted):
        raise AssertionError(f"layer 3, ethertype {ethertype}, {forwarded=}, {packet.hex()}")


def seeds() -> Iterator[bytes]:
    for linktype, frame in catalogue():
        at = LINKS.index(linktype)
        yield bytes([at, 5]) + frame
        yield bytes([at, 4 + 2 * len(DIRECTIONS)]) + frame


def catalogue() -> Iterator[tuple[int, bytes]]:
    """Yield (link type, frame): each kind of packet once, on each kind of link."""
    data = bytes(range(1, 40))
    four = [
        f.ipv4(f.tcp(data, offset=8)),
        f.ipv4(f.tcp(), ihl=7),
        f.ipv4(f.udp(data), f.UDP, fragment=0x2000),
        f.ipv4(data, f.UDP, fragment=5),
        f.ipv4(f.icmp(data), f.ICMP),
        f.ipv4(f.tcp(data), total=0),
        f.ipv4(data, 47, source=OWN4),
    ]
    later = f.fragment(f.UDP, offset=3)
    six = [
        f.ipv6(f.udp(data), f.UDP),
        f.ipv6(f.icmp(data), f.ICMPV6, source=OWN6),
        f.extended(*CHAIN, payload=f.tcp(data)),
        f.extended((f.FRAGMENT, later), payload=data),
        f.extended(*[(f.OPTIONS, f.extension(f.OPTIONS))] * 9, payload=data),
    ]
    for packet, kind in [(p, f.IPV4) for p in four] + [(p, f.IPV6) for p in six]:
        yield f.ETHERNET, f.ethernet(packet, kind)
        yield f.ETHERNET, f.ethernet(packet, kind, tags=(f.QINQ, f.VLAN))
        yield f.COOKED_V1, f.cooked_v1(packet, kind, kind=4)
        yield f.COOKED_V2, f.cooked_v2(packet, kind, kind=4)
        yield f.RAW, packet
        yield 228 if kind == f.IPV4 else 229, packet
        family = 2 if kind == f.IPV4 else 30
        yield f.NULL, f.loopback(packet, family)
        yield f.LOOP, f.loopback(packet, family, order=">")
    yield f.ETHERNET, f.ethernet(f.arp(), f.ARP)
    yield f.COOKED_V1, f.cooked_v1(f.arp(), f.ARP)


CHAIN = [
    (f.HOP, f.extension(f.ROUTING)),
    (f.ROUTING, f.extension(f.OPTIONS, units=2)),
    (f.OPTIONS, f.extension(f.AH)),
    (f.AH, f.authentication(f.FRAGMENT)),
    (f.FRAGMENT, f.fragment(f.TCP)),
]
