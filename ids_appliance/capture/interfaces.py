"""Names of interfaces in; what to capture, who we are and which offloads disturb, out."""

import array
import difflib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.capture.netlink import Link, addresses, links
from ids_appliance.errors import InterfaceError

MAX_MACS: Final = 64
MAX_ADDRESSES: Final = 512
MAX_NETWORKS: Final = 64
"""What _features.HostIdentity takes."""

_SIOCETHTOOL: Final = 0x8946
_ETH_FLAG_LRO: Final = 1 << 15
_OFFLOADS: Final = (
    ("gro", 0x2B, 1),
    ("gso", 0x23, 1),
    ("tso", 0x1E, 1),
    ("lro", 0x25, _ETH_FLAG_LRO),
)
"""Name for `ethtool -K`, ETHTOOL_G* command, bit of the answer (ethtool.h)."""


@dataclass(frozen=True, slots=True)
class GatewayIdentity:
    """The gateway as seen from its captured interfaces: the arguments of _features.HostIdentity."""

    macs: tuple[bytes, ...]
    """6 bytes each: of the captured interfaces, their bridge or bond, and VLANs on them."""
    addresses: tuple[bytes, ...]
    """4 or 16 bytes each: all local addresses, those of the captured interfaces first."""
    all_ports: bool
    """Every port of a bridge is captured: what leaves one was seen arriving at another."""
    networks: tuple[tuple[int, bytes, int], ...] = ()
    """On-link networks of the captured interfaces and of those built on them: (interface index,
    address, prefix length). IPv6 link-local is on every link and in none of these."""
    left_out: int = 0
    """MACs, addresses and networks beyond what HostIdentity takes."""


def find(name: str, table: dict[int, Link]) -> Link:
    """Return an interface by its name. Raises InterfaceError that lists near names."""
    for link in table.values():
        if link.name == name:
            return link
    names = sorted(link.name for link in table.values())
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}" if near else f"there are {', '.join(names[:16])}"
    raise InterfaceError(f"no interface {name!r}: {hint}")


def capture_points(names: Sequence[str]) -> tuple[str, ...]:
    """Return the interfaces to capture, each only once, so that no frame is seen twice.

    A bridge stands for all its ports; a VLAN is left out where the link below it is captured.
    Raises InterfaceError: no such interface, or a bridge without ports.
    """
    table = links()
    chosen: dict[int, None] = {}
    for name in names:
        link = find(name, table)
        if link.kind != "bridge":
            chosen[link.index] = None
            continue
        ports = [i for i, port in sorted(table.items()) if port.master == link.index]
        if not ports:
            raise InterfaceError(f"bridge {name!r} has no ports: nothing would be captured")
        chosen.update(dict.fromkeys(ports))
    above = set().union(*(_stacked({index}, table) - {index} for index in chosen))
    return tuple(table[index].name for index in chosen if index not in above)


def _stacked(captured: set[int], table: dict[int, Link]) -> set[int]:
    """Return the captured indices and those of every link built on them."""
    found = set(captured)
    grown = True
    while grown:
        above = {table[i].master for i in found if i in table and table[i].master}
        above |= {link.index for link in table.values() if link.lower in found}
        grown = not above <= found
        found |= above
    return found


def identity(names: Sequence[str], *, taps: Sequence[str] = ()) -> GatewayIdentity:
    """Return who we are on the captured interfaces `names`. Raises InterfaceError for no such one.

    taps: those of them that carry copies of frames, which we may have sent by any interface.
    To be asked again when an interface comes back or is created anew.
    """
    table = links()
    captured = {find(name, table).index for name in names}
    family = _stacked(captured, table)
    senders = set(table) if set(taps) & set(names) else family
    macs = list(
        dict.fromkeys(
            table[i].mac
            for i in sorted(senders, key=lambda i: (i not in captured, i not in family, i))
            if i in table and any(table[i].mac)
        )
    )
    ours = sorted(addresses(), key=lambda entry: entry[0] not in family)
    local = dict.fromkeys(address for _, address, _ in ours)
    networks = [
        entry
        for entry in ours
        if entry[0] in family and entry[2] < 8 * len(entry[1]) and not _link_local(entry[1])
    ]
    bridges = {table[i].master for i in captured if table[i].master}
    whole = [
        bridge
        for bridge in bridges
        if all(i in captured for i, link in table.items() if link.master == bridge)
    ]
    return GatewayIdentity(
        macs=tuple(macs[:MAX_MACS]),
        addresses=tuple(local)[:MAX_ADDRESSES],
        all_ports=bool(whole) and len(whole) == len(bridges),
        networks=tuple(networks[:MAX_NETWORKS]),
        left_out=max(0, len(macs) - MAX_MACS)
        + max(0, len(local) - MAX_ADDRESSES)
        + max(0, len(networks) - MAX_NETWORKS),
    )


def _link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def offloads_on(name: str) -> tuple[str, ...]:
    """Return which of gro, gso, tso and lro are on: they turn several packets into one.

    Empty where the device does not know the question. Raises InterfaceError for no such interface.
    """
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for offload, command, bit in _OFFLOADS:
            value = array.array("I", [command, 0])
            request = struct.pack("16sP16x", os.fsencode(name), value.buffer_info()[0])
            try:
                fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    raise InterfaceError(f"no interface {name!r}") from error
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL):
                    raise
                continue
            if value[1] & bit:
                found.append(offload)
    return tuple(found)


def offload_warning(name: str) -> str | None:
    """Return what to tell people about an interface's offloads, with the command; None if fine.

    A VLAN's frames are joined by the link that it sits on."""
    for device in with_lower(name, links()):
        if found := offloads_on(device):
            switches = " ".join(f"{offload} off" for offload in found)
            return (
                f"{device} joins packets into larger ones ({', '.join(found)}), judged as one "
                f"then; to switch that off: ethtool -K {device} {switches}"
            )
    return None


def with_lower(name: str, table: Mapping[int, Link]) -> list[str]:
    """Return an interface's name and those of the links that it sits on, the lowest last."""
    names = [name]
    at = next((link for link in table.values() if link.name == name), None)
    while at is not None and (at := table.get(at.lower)) is not None and at.name not in names:
        names.append(at.name)
    return names
