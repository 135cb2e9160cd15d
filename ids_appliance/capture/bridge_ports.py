"""A MAC behind a bridge in, the captured port that the bridge has learned it at out.

Routed packets are met at the bridge itself; their senders live at its ports. What the bridge knows
is asked of the kernel (RTM_GETNEIGH of AF_BRIDGE, rtnetlink(7)), rarely.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Final

from ids_appliance.capture.netlink import attributes, dump

PAUSE_NS: Final = 10**9
"""Who is not known is asked for once in this time: strangers must not cost a question each. Also
who is known is asked for again, in five times as long: devices move."""
MAX_MACS: Final = 16_384

_NEWNEIGH, _GETNEIGH = 28, 30
_AF_BRIDGE: Final = 7
_NUD_PERMANENT: Final = 0x80  # the bridge's and its ports' own
_NDA_LLADDR: Final = 2
_NEIGHBOUR = struct.Struct("=B3xiHBB")  # family, index, state, flags, type


class BridgePorts:
    """One bridge. ports: interface indices of its captured ports; `otherwise` is answered for whom
    it does not know. clock_ns: any that grows."""

    def __init__(
        self, ports: Iterable[int], *, otherwise: int, clock_ns: Callable[[], int]
    ) -> None:
        self._ports = frozenset(ports)
        self._otherwise = otherwise
        self._clock_ns = clock_ns
        self._known: dict[bytes, int] = {}
        self._asked_ns = clock_ns() - 10 * PAUSE_NS

    def of(self, mac: bytes) -> int:
        """Return the interface index of the port where a MAC is."""
        found = self._known.get(mac)
        now = self._clock_ns()
        if now - self._asked_ns >= PAUSE_NS * (1 if found is None else 5):
            self._asked_ns = now
            self._known = self._learned()
            found = self._known.get(mac)
        return self._otherwise if found is None else found

    def _learned(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        try:
            bodies = dump(_GETNEIGH, _NEWNEIGH, family=_AF_BRIDGE)
        except OSError:
            return found
        for body in bodies:
            if len(body) < _NEIGHBOUR.size or len(found) >= MAX_MACS:
                continue
            _, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
            mac = attributes(body[_NEIGHBOUR.size :]).get(_NDA_LLADDR, b"")
            if index in self._ports and len(mac) == 6 and not state & _NUD_PERMANENT:
                found[mac] = index
        return found
