"""A flooded victim in, what connection tracking still knows of ended and begun connections out.

The cookie's return has to be the first that connection tracking sees of a connection. Where it
still knows an older one of the same ports, one that has ended or that was never answered, the
return would run into that, past the SYN proxy, and the client would be turned away. So these
entries go when the proxy begins; whoever has been answered and is not done yet stays.

Source: kernel, include/uapi/linux/netfilter/nfnetlink_conntrack.h, net/netfilter/
nf_conntrack_netlink.c (filtered dumps since 5.8).
"""

import socket
import struct
from collections.abc import Iterator
from typing import Final

_NETFILTER: Final = 12
_GET, _DELETE = 0x101, 0x102
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300
_ORIG, _REPLY, _PROTOINFO, _FILTER = 1, 2, 4, 25
_NESTED: Final = 0x8000
_SOURCE, _NUMBER, _SOURCE_PORT = 1 << 0, 1 << 3, 1 << 4
_TCP: Final = 6
_GONE: Final = frozenset({1, 6, 7, 8, 9})
"""TCP states that go: SYN_SENT, LAST_ACK, TIME_WAIT, CLOSE, SYN_SENT2. Not SYN_RECV, a handshake
under way, nor FIN_WAIT and CLOSE_WAIT, where only one end has said its last."""
MOST: Final = 32_768
"""Entries that are let go at most; a table larger than this is the flood's own."""
BATCH: Final = 256


def forget(victim: bytes, port: int) -> int:
    """Let go of what is known of ended and unanswered connections to an IPv4 victim's port; return
    how many entries. In the network namespace of the calling thread.

    Raises OSError where the kernel cannot be asked (no connection tracking, not permitted).
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as asking:
        asking.settimeout(1.0)
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        asking.send(_message(_GET, _REQUEST | _DUMP, _wanted(victim, port)))
        tuples = [origin for origin, state in _entries(asking) if state in _GONE]
    # A socket of its own: an answer is only asked for by an error, and nobody waits for it.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as telling:
        for start in range(0, len(tuples), BATCH):
            part = tuples[start : start + BATCH]
            telling.send(b"".join(_message(_DELETE, _REQUEST, one) for one in part))
    return len(tuples)


def _attribute(kind: int, content: bytes) -> bytes:
    padding = bytes(-len(content) % 4)
    return struct.pack("=HH", 4 + len(content), kind) + content + padding


def _message(kind: int, flags: int, content: bytes) -> bytes:
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + content
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _wanted(victim: bytes, port: int) -> bytes:
    # The answering direction names the victim itself, whatever address clients write to.
    address = _attribute(1 | _NESTED, _attribute(1, victim))
    number = _attribute(1, bytes([_TCP])) + _attribute(2, struct.pack(">H", port))
    flags = _attribute(2, struct.pack("=I", _SOURCE | _NUMBER | _SOURCE_PORT))
    reply = _attribute(_REPLY | _NESTED, address + _attribute(2 | _NESTED, number))
    return reply + _attribute(_FILTER | _NESTED, flags)


def _entries(asking: socket.socket) -> Iterator[tuple[bytes, int]]:
    """Yield each entry's own tuple, as an attribute, and its TCP state."""
    seen = 0
    while seen < MOST:
        data = memoryview(asking.recv(1 << 18))
        at = 0
        while at + 16 <= len(data):
            size, kind = struct.unpack_from("=IH", data, at)
            if kind == _DONE or size < 16:
                return
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", data, at + 16)
                if code:
                    raise OSError(-code, "connection tracking does not answer")
                return
            found = dict(_attributes(data[at + 20 : at + size]))
            state = _state(found.get(_PROTOINFO))
            if _ORIG in found and state is not None:
                seen += 1
                yield _attribute(_ORIG | _NESTED, bytes(found[_ORIG])), state
            at += (size + 3) & ~3


def _attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += (size + 3) & ~3


def _state(protocol: memoryview | None) -> int | None:
    """PROTOINFO -> TCP -> STATE."""
    for wanted in (1, 1):
        protocol = dict(_attributes(protocol)).get(wanted) if protocol is not None else None
    return protocol[0] if protocol else None
