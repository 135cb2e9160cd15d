"""Who the gateway is in, a socket filter out that leaves away what a packet queue shows anyway.

The ring beside the queue sees ARP, what is for or from the gateway itself, what goes to many, and
what is bridged. What the gateway routes (for its MAC and another's address, or sent with its MAC
and another's address) comes through the queue and would be judged twice.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from ids_appliance.capture.interfaces import GatewayIdentity

Instruction = tuple[int, int, int, int]
"""(code, jt, jf, k) as in struct sock_filter."""

MAX_OWN: Final = 96
"""Addresses and MACs that fit into a filter, of each kind."""

_AD: Final = 0xFFFFF000  # SKF_AD_OFF: what the kernel knows beside the frame's bytes
_PROTOCOL, _HARDWARE = _AD + 0, _AD + 28
_NET: Final = 0xFFF00000  # SKF_NET_OFF: from the IP header on, whatever stands before it
_LL: Final = 0xFFE00000  # SKF_LL_OFF
_LD, _LDH, _JEQ, _JGE, _JA, _RET, _LDB = 0x20, 0x28, 0x15, 0x35, 0x05, 0x06, 0x30
_PASS: Final[Instruction] = (_RET, 0, 0, 0x40000)
_REFUSE: Final[Instruction] = (_RET, 0, 0, 0)
_ETHERNET, _LOOPBACK = 1, 772


def not_routed(who: GatewayIdentity) -> tuple[Instruction, ...]:
    """Return the filter's program (Documentation/networking/filter.rst).

    A load past a frame's end refuses the frame, and it is of no use to anybody then. Of more than
    MAX_OWN addresses the further ones count as somebody else's.
    """
    four = [a for a in (*who.addresses, *_broadcasts(who)) if len(a) == 4][:MAX_OWN]
    six = [address for address in who.addresses if len(address) == 16][:MAX_OWN]
    tail = _by_mac(who.macs[:MAX_OWN])
    v4 = [(_LD, 0, 0, _NET + 16), (_JGE, 0, 1, 0xE0000000), _PASS, *_any_word(four)]
    v4 += [(_LD, 0, 0, _NET + 12), *_any_word(four), *tail]
    v6 = [(_LDB, 0, 0, _NET + 24), (_JEQ, 0, 1, 0xFF), _PASS]
    for start in (24, 8):
        for address in six:
            v6 += _words(address, start)
    v6 += tail
    return (
        (_LD, 0, 0, _PROTOCOL),
        (_JEQ, 0, 1, 0x0800),
        (_JA, 0, 0, 3),
        (_JEQ, 0, 1, 0x86DD),
        (_JA, 0, 0, 1 + len(v4)),
        _PASS,
        *v4,
        *v6,
    )


def _any_word(addresses: Sequence[bytes]) -> list[Instruction]:
    """Pass where the loaded word is one of these."""
    found: list[Instruction] = []
    for address in addresses:
        found += [(_JEQ, 0, 1, int.from_bytes(address, "big")), _PASS]
    return found


def _words(address: bytes, start: int) -> list[Instruction]:
    """Pass where an IPv6 header has this address at an offset."""
    found: list[Instruction] = []
    for at in range(0, 16, 4):
        rest = 7 - at // 2  # to behind this address' instructions
        found += [
            (_LD, 0, 0, _NET + start + at),
            (_JEQ, 0, rest, int.from_bytes(address[at : at + 4], "big")),
        ]
    return [*found, _PASS]


def _by_mac(macs: Sequence[bytes]) -> list[Instruction]:
    """Refuse what goes to or comes from one of our MACs, and everything on a link without MACs."""
    found: list[Instruction] = [
        (_LD, 0, 0, _HARDWARE),
        (_JEQ, 2, 0, _ETHERNET),
        (_JEQ, 1, 0, _LOOPBACK),
        _REFUSE,
    ]
    for start in (0, 6):
        for mac in macs:
            found += [
                (_LD, 0, 0, _LL + start),
                (_JEQ, 0, 3, int.from_bytes(mac[:4], "big")),
                (_LDH, 0, 0, _LL + start + 4),
                (_JEQ, 0, 1, int.from_bytes(mac[4:], "big")),
                _REFUSE,
            ]
    return [*found, _PASS]


def _broadcasts(who: GatewayIdentity) -> Iterable[bytes]:
    for _, address, prefix in who.networks:
        if len(address) == 4:
            network = ipaddress.ip_network((address, prefix), strict=False)
            yield network.broadcast_address.packed
