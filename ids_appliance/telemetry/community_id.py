"""A flow's addresses, ports and protocol in, its Community ID (version 1) out.

Both directions of a flow have the same ID, and other tools (Zeek, Suricata, Wireshark) give it the
same, so that their records can be joined with ours. Specification: the Community ID flow hashing
project, https://github.com/corelight/community-id-spec.
"""

import base64
import hashlib
import struct
from typing import Final

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
SCTP: Final = 132

_ICMP_ANSWERS: Final = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17, 10: 9, 9: 10}
_ICMPV6_ANSWERS: Final = {
    128: 129,
    129: 128,
    133: 134,
    134: 133,
    135: 136,
    136: 135,
    130: 131,
    131: 130,
    144: 145,
    145: 144,
    139: 140,
    140: 139,
}
"""ICMP type -> type of the other direction: both belong to one flow."""

End = tuple[bytes, int]
"""Address (4 or 16 bytes) and port; for ICMP, the source's port is the type, the other's the
code."""


def community_id(source: End, destination: End, *, protocol: int, seed: int = 0) -> str:
    """Return "1:" and the hash; a protocol without ports is hashed by its addresses alone.

    `protocol` is the number in the IP header. Raises ValueError: addresses of no or of different
    families, ports out of range.
    """
    (src, sport), (dst, dport) = source, destination
    if len(src) != len(dst) or len(src) not in (4, 16):
        raise ValueError("two IPv4 or two IPv6 addresses are expected")
    if not (0 <= sport <= 65535 and 0 <= dport <= 65535 and 0 <= protocol <= 255):
        raise ValueError("ports of 16 bits and a protocol of 8 are expected")
    ports, one_way = _ports(sport, dport, protocol)
    if not one_way and (src, sport, dst) > (dst, ports[1], src):
        # Network order: the smaller (address, port) first.
        src, dst, ports = dst, src, (ports[1], ports[0])
    hashed = struct.pack("!H", seed) + src + dst + struct.pack("!BB", protocol, 0)
    if protocol in (TCP, UDP, SCTP, ICMP, ICMPV6):
        hashed += struct.pack("!HH", *ports)
    # SHA-1 as a short name, as the specification has it; nothing rests on its strength.
    digest = hashlib.sha1(hashed, usedforsecurity=False).digest()
    return "1:" + base64.b64encode(digest).decode()


def _ports(sport: int, dport: int, protocol: int) -> tuple[tuple[int, int], bool]:
    """Return the ports to hash, and whether the flow has one direction only."""
    answers = {ICMP: _ICMP_ANSWERS, ICMPV6: _ICMPV6_ANSWERS}.get(protocol)
    if answers is None:
        return (sport, dport), False
    other = answers.get(sport)
    return ((sport, dport), True) if other is None else ((sport, other), False)
