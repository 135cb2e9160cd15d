"""Kernel's rtnetlink messages in, network links and local addresses out (rtnetlink(7))."""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
IFF_UP: Final = 1

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 1, 0x300, 0x10
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 1, 0x10, 0x100
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 5, 10, 18
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, ARPHRD_*, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")
_MAX_TRIES = 8


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface as the kernel has it."""

    index: int
    name: str
    hardware_type: int
    """ARPHRD_* of if_arp.h: 1 Ethernet, 772 loopback, ..."""
    up: bool
    """Administratively up (IFF_UP); a missing cable does not make it False."""
    mac: bytes
    """6 bytes, or empty where the link has no Ethernet address."""
    master: int
    """Index of the bridge or bond that it is a port of; 0 if none."""
    kind: str
    """"bridge", "vlan", "veth", ...; empty for hardware."""
    lower: int
    """Index of the link that a VLAN or macvlan sits on; 0 if none."""


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes (type -> value) of a message's body, the last of each type."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]  # without NLA_F_NESTED
        at += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, flags, body) of every netlink message in a datagram."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            break
        yield kind, flags, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def dump(request: int, answer: int, *, family: int = 0) -> list[bytes]:
    """Return the bodies of all objects of a kind in this network namespace, of all families or of
    one (AF_*); asks again where the table changed meanwhile. Raises OSError."""
    for _ in range(_MAX_TRIES):
        bodies: list[bytes] = []
        interrupted = False
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.bind((0, 0))
            # An ifinfomsg of zeros: all families; ifaddrmsg, rtmsg and ndmsg are its first part.
            body = bytes([family]) + bytes(15)
            flags = _NLM_F_REQUEST | _NLM_F_DUMP
            kernel.send(_HEADER.pack(_HEADER.size + len(body), request, flags, 1, 0) + body)
            done = False
            while not done:
                for kind, flags, part in messages(kernel.recv(1 << 16)):
                    interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                    if kind == _NLMSG_DONE:
                        done = True
                    elif kind == _NLMSG_ERROR:
                        number = -struct.unpack_from("=i", part)[0]
                        raise OSError(number, f"rtnetlink: {os.strerror(number)}")
                    elif kind == answer:
                        bodies.append(part)
        if not interrupted:
            break
    return bodies


def _number(found: dict[int, bytes], kind: int) -> int:
    value = found.get(kind, b"")
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0


def links() -> dict[int, Link]:
    """Return every interface of this network namespace by its index. Raises OSError."""
    table = {}
    for body in dump(RTM_GETLINK, RTM_NEWLINK):
        if len(body) < _LINK.size:
            continue
        _, hardware, index, flags, _ = _LINK.unpack_from(body)
        found = attributes(body[_LINK.size :])
        kind = attributes(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
        mac = found.get(_IFLA_ADDRESS, b"")
        named = kind.rstrip(b"\0").decode("ascii", "replace")
        table[index] = Link(
            index=index,
            name=os.fsdecode(found.get(_IFLA_IFNAME, b"").rstrip(b"\0")),
            hardware_type=hardware,
            up=bool(flags & IFF_UP),
            mac=mac if len(mac) == 6 else b"",
            master=_number(found, _IFLA_MASTER),
            kind=named,
            # For a veth this attribute is the peer, perhaps in another namespace.
            lower=_number(found, _IFLA_LINK) if named in ("vlan", "macvlan", "ipvlan") else 0,
        )
    return table


def addresses() -> list[tuple[int, bytes, int]]:
    """Return (interface index, packed IPv4 or IPv6 address, prefix length) of all local
    addresses; the prefix is a host's on a point-to-point link, where nobody else is on it."""
    table = []
    for body in dump(RTM_GETADDR, RTM_NEWADDR):
        if len(body) < _ADDRESS.size:
            continue
        family, prefix, _, _, index = _ADDRESS.unpack_from(body)
        found = attributes(body[_ADDRESS.size :])
        # On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours.
        address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
        if (family, len(address)) in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            table.append((index, address, prefix))
    return table


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since events were last taken."""

    links: bool = False
    """An interface appeared, disappeared, or changed: look at `links` again."""
    addresses: bool = False
    """A local address came or went."""
    gone: frozenset[int] = frozenset()
    """Indices of interfaces that were deleted, or moved to another namespace."""


class Events:
    """A socket that becomes readable when an interface or a local address changes."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        )
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))

    def fileno(self) -> int:
        """Return the descriptor to poll; -1 when closed."""
        return self._socket.fileno()

    def take(self) -> Changes:
        """Take all notices off the socket, without waiting."""
        links = addresses = False
        gone: set[int] = set()
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return Changes(links, addresses, frozenset(gone))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                links = addresses = True  # notices were lost: anything may have changed
                continue
            for kind, _, body in messages(data):
                if kind in (RTM_NEWADDR, RTM_DELADDR):
                    addresses = True
                    continue
                links = True
                # Of a port that leaves its bridge, too, it is said that it is deleted: AF_BRIDGE.
                if kind == RTM_DELLINK and len(body) >= _LINK.size and body[0] == 0:
                    gone.add(_LINK.unpack_from(body)[2])

    def close(self) -> None:
        """Release the socket; safe to call twice."""
        self._socket.close()
