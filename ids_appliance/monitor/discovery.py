"""A switch and its ports in, the frames out by which controllers discover links.

Two per port: LLDP (IEEE 802.1AB, EtherType 0x88cc), which a bridge does not forward, and the same
information to everybody with EtherType 0x8942, which other bridges do forward: so controllers find
links through switches that are not theirs. ONOS calls that BDDP.
"""

import struct
from typing import Final

LLDP: Final = 0x88CC
BDDP: Final = 0x8942
_NEAREST_BRIDGE: Final = bytes.fromhex("0180c200000e")
_EVERYBODY: Final = bytes.fromhex("ffffffffffff")
_TTL_S: Final = 120
_CHASSIS_LOCAL, _PORT_LOCAL = 7, 7
"""Subtypes "locally assigned" of chassis and port id (IEEE 802.1AB 8.5.2, 8.5.3)."""


def frames(datapath: int, port: int, *, everybody: bool) -> list[bytes]:
    """Return the frames for one port. datapath: 64 bits; everybody: the second one, too."""
    source = b"\x02" + datapath.to_bytes(8, "big")[-5:]
    body = (
        _tlv(1, bytes([_CHASSIS_LOCAL]) + f"of:{datapath:016x}".encode())
        + _tlv(2, bytes([_PORT_LOCAL]) + str(port).encode())
        + _tlv(3, struct.pack("!H", _TTL_S))
        + _tlv(0, b"")
    )
    kinds = [(_NEAREST_BRIDGE, LLDP), (_EVERYBODY, BDDP)]
    return [
        to + source + struct.pack("!H", kind) + body.ljust(46, b"\0")
        for to, kind in kinds[: 1 + everybody]
    ]


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!H", kind << 9 | len(value)) + value
