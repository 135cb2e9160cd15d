"""A frame's bytes in, its features out, in plain Python: as a published gateway would compute them.

The definitions are those of docs/features.md, for what a routed benchmark meets: Ethernet and IPv4
without VLAN tags. Compared with the compiled extraction by a test.
"""

import struct
from typing import Final

from ids_appliance.schema import N_FEATURES

Row = list[int]

_IP: Final = struct.Struct("!BxHxxHBB")  # version and IHL, length, fragment, TTL, protocol
_PORTS: Final = struct.Struct("!HH")
_FLAGS: Final = [[flags >> bit & 1 for bit in (1, 4, 0, 2, 3, 5, 6, 7)] for flags in range(256)]
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_N_PAYLOAD: Final = 32
_BOTH: Final = frozenset((53, 5353))
_DHCP: Final = frozenset((67, 68, 546, 547))
_SERVICES: Final = tuple(
    frozenset(ports)
    for ports in (
        (80, 8080),
        (443, 8443),
        (22,),
        (25, 465, 587),
        (*range(6660, 6670), 6697),
        (23, 2323),
    )
)


def features(frame: bytes) -> Row | None:
    """Return the 60 features; None for what is not IPv4."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return None
    version, total, fragment, ttl, protocol = _IP.unpack_from(frame, 14)
    header = (version & 15) * 4
    if version >> 4 != 4 or header < 20:
        return None
    segment = frame[14 + header : 14 + total]
    source = target = flags = counted = 0
    payload = segment
    if not fragment & 0x1FFF:
        if protocol in (_TCP, _UDP) and len(segment) >= 4:
            source, target = _PORTS.unpack_from(segment)
        if protocol == _TCP:
            offset = (segment[12] >> 4) * 4 if len(segment) > 12 else 0
            flags = segment[13] if len(segment) > 13 else 0
            counted = offset if offset >= 20 else 0
            payload = segment[counted:] if counted else b""
        elif protocol in (_UDP, _ICMP, _ICMPV6):
            counted, payload = 8, segment[8:]
    length = header + counted
    row = [source, target, protocol, length, total, ttl, flags, max(0, total - length)]
    row += payload[:_N_PAYLOAD].ljust(_N_PAYLOAD, b"\0")
    row += _FLAGS[flags]
    tcp, udp = protocol == _TCP, protocol == _UDP
    row += (int(tcp), int(udp), int(protocol in (_ICMP, _ICMPV6)), 0)
    row.append(int((tcp or udp) and (source in _BOTH or target in _BOTH)))
    row.append(int(udp and (source in _DHCP or target in _DHCP)))
    row += [int(tcp and (source in ports or target in ports)) for ports in _SERVICES]
    assert len(row) == N_FEATURES
    return row
