"""The kernel's IPv4 neighbour table in, entries that a forger has planted corrected in it."""

import socket
import struct
from dataclasses import dataclass
from typing import Final

_RTM_NEWNEIGH, _RTM_GETNEIGH = 28, 30
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_REACHABLE, _NUD_PERMANENT = 0x02, 0x80
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _REPLACE, _DUMP = 0x001, 0x004, 0x100, 0x300
_HEADER: Final = struct.Struct("=IHHII")
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type: rtnetlink(7)
_ATTRIBUTE: Final = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry of the kernel's table."""

    index: int
    """Of the interface, a bridge rather than its port."""
    address: bytes
    mac: bytes
    permanent: bool


def neighbours() -> list[Neighbour]:
    """Return the IPv4 entries that have a MAC. Raises OSError."""
    found = []
    with _rtnetlink() as kernel:
        _send(kernel, _RTM_GETNEIGH, _REQUEST | _DUMP, _NEIGHBOUR.pack(socket.AF_INET, 0, 0, 0, 0))
        done = False
        while not done:
            data = kernel.recv(1 << 16)
            at = 0
            while at + _HEADER.size <= len(data) and not done:
                length, kind, *_ = _HEADER.unpack_from(data, at)
                done = kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size
                if kind == _RTM_NEWNEIGH:
                    entry = _entry(data[at + _HEADER.size : at + length])
                    found += [entry] if entry else []
                at += (length + 3) & ~3
    return found


def correct(culprit: bytes, bindings: dict[bytes, bytes]) -> list[bytes]:
    """Give entries that hold a culprit's MAC the true one; return the corrected addresses.

    bindings: IPv4 address (4 bytes) -> true MAC. Entries that somebody made permanent stay.
    Raises OSError, such as EPERM without CAP_NET_ADMIN.
    """
    corrected = []
    for entry in neighbours():
        true = bindings.get(entry.address)
        if true and entry.mac == culprit != true and not entry.permanent:
            body = _NEIGHBOUR.pack(socket.AF_INET, entry.index, _NUD_REACHABLE, 0, 0)
            body += _ATTRIBUTE.pack(8, _NDA_DST) + entry.address
            body += _ATTRIBUTE.pack(10, _NDA_LLADDR) + true + bytes(2)
            with _rtnetlink() as kernel:
                _send(kernel, _RTM_NEWNEIGH, _REQUEST | _REPLACE | _ACK, body)
                number = -struct.unpack_from("=i", kernel.recv(1 << 13), _HEADER.size)[0]
            if number:
                raise OSError(number, "rtnetlink refuses a neighbour")
            corrected.append(entry.address)
    return corrected


def _rtnetlink() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    kernel.settimeout(1.0)
    return kernel


def _send(kernel: socket.socket, kind: int, flags: int, body: bytes) -> None:
    kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)


def _entry(body: bytes) -> Neighbour | None:
    if len(body) < _NEIGHBOUR.size:
        return None
    family, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
    values = {}
    at = _NEIGHBOUR.size
    while at + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < 4:
            break
        values[kind] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    address, mac = values.get(_NDA_DST, b""), values.get(_NDA_LLADDR, b"")
    if family != socket.AF_INET or len(address) != 4 or len(mac) != 6:
        return None
    return Neighbour(index, address, mac, bool(state & _NUD_PERMANENT))
