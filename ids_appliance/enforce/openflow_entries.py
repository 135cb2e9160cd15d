"""Decisions and protected senders in, flow entries out; a Place is one: table, actions, match.

Everything of ours matches `reg15=0`. What we let through is marked (reg15=1) and sent into table 0
once more, where it meets the entries of whoever forwards here, exactly as if we were not there:
so a rate limit needs to know nothing of the controller, and works without one.

    table 0   65000       protected addresses: marked, again
              64500       a port that is cut off: to table 253
              64000 ...   MACs: to table 253, or metered, marked, again
              63500       addresses on a link without MACs: the same
              63000       addresses beyond us: to table 252, or metered, marked, again
              62000       addresses beyond us that may be forged: what opens is metered
              61500       senders with a handshake of their own: marked, again
              61000       SYNs to a flooded port: metered, marked, again
    table 253 neighbour discovery and DHCP of whom we cut off; protected MACs; the rest is dropped
    table 252 the same for senders beyond us, who may be DHCP servers

Entries about decisions have hard time-outs, so what we did ends by itself; a table of ours that
somebody empties drops what its senders were to lose anyway.
"""

import ipaddress
import math
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ids_appliance.enforce.elements import Place, pool
from ids_appliance.enforce.openflow_switch import key_of
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.types import Kind, Response, Subject

MAX_S: Final = 65_535
"""Longest hard time-out there is (16 bits): a longer decision's entries are renewed in time."""
LAN_TABLE: Final = "253"
BEYOND_TABLE: Final = "252"

PASS: Final = "load:0x1->NXM_NX_REG15[],resubmit(,0)"
_SYN: Final = "tcp_flags=+syn-ack"
_DISCOVERY: Final = (133, 135, 136)
"""ICMPv6 router and neighbour solicitation, neighbour advertisement (RFC 4861)."""
_CLIENTS: Final = (("udp", 68, 67), ("udp6", 546, 547))
_SERVERS: Final = (("udp", 67, 68), ("udp6", 547, 546))

MAGIC: Final = 0x1D5A
DECISION: Final = 1
FIXED: Final = 2
PROVEN: Final = 3
"""Kinds of entries, in the cookie's lower half."""


def cookie(mark: int, kind: int) -> str:
    """Return the cookie of one kind of entries of ours."""
    return f"{(MAGIC << 48) | (mark << 32) | kind:#x}"


def ours(mark: int) -> str:
    """Return what all cookies of ours match, as VALUE/MASK."""
    return f"{cookie(mark, 0)}/0xffffffff00000000"


def adding(places: Mapping[Place, float], cookie_text: str) -> str:
    """Return flow mods that add entries. places: entry -> seconds until it ends."""
    return "".join(
        f"add table={place.table},cookie={cookie_text},hard_timeout={whole(left)},"
        f"{place.key},actions={place.set}\n"
        for place, left in places.items()
    )


def removing(places: Iterable[Place], mark: int) -> str:
    """Return flow mods after which entries are gone, whether they were there."""
    return "".join(
        f"delete_strict cookie={ours(mark)},table={place.table},{place.key}\n" for place in places
    )


def whole(left_s: float) -> int:
    """Return a hard time-out: whole seconds, at least one, as long as the field takes."""
    return max(1, math.ceil(min(left_s, MAX_S)))


def meters_of(places: Iterable[Place]) -> list[int]:
    """Return the numbers of the meters that entries use."""
    return [int(number) for place in places for number in re.findall(r"meter:(\d+)", place.set)]


def wanted(subject: Subject, response: Response) -> tuple[str, ...]:
    """Return the kinds of meters that a decision takes, in the order of `decided`."""
    where = pool(subject)
    if where == "flood":
        return ("flood",)
    if where == "unverified":
        return ("opening", "limit")
    return () if response is Response.QUARANTINE else ("limit",)


def decided(
    subject: Subject,
    *,
    meters: Sequence[int],
    rank: int = 0,
    port: str = "",
) -> tuple[Place, ...]:
    """Return the entries of a decision to limit or cut off.

    meters: as `wanted` says; none: cut off. rank: of the subject's interface, so that one MAC seen
    at two captured interfaces has two entries. port: number of a port to be cut off as well.
    """
    v6 = len(subject.value) in (8, 16)
    where = pool(subject)
    source = _source(subject)
    if where == "flood":
        to = f"{'ipv6_dst' if v6 else 'nw_dst'}={_text(subject.value)}"
        match = ("tcp6" if v6 else "tcp", to, f"tp_dst={subject.port}", _SYN)
        return (_entry(61000, match, _metered(meters[0])),)
    if where == "unverified":
        six = "6" if v6 else ""
        opening, other = _metered(meters[0]), _metered(meters[1])
        return (
            _entry(62000, (f"tcp{six}", *source[1:], _SYN), opening),
            _entry(62000, (f"udp{six}", *source[1:]), other),
            _entry(62000, (f"icmp{six}", *source[1:]), other),
        )
    priority = 64_000 + rank if subject.kind is Kind.MAC else 63_500 if where == "lan" else 63_000
    if meters:
        return (_entry(priority, source, _metered(meters[0])),)
    drop = f"resubmit(,{LAN_TABLE if where == 'lan' else BEYOND_TABLE})"
    cut = (_entry(64_500, (f"in_port={port}",), drop),) if port else ()
    return (_entry(priority, source, drop), *cut)


def fixed(protected: ProtectedSets, *, discovery: int, leases: int) -> tuple[Place, ...]:
    """Return what stands beside all decisions. discovery, leases: meters for what stays allowed."""
    found: dict[Place, None] = {}
    for _, mac, text in protected.triples:
        if text is None:
            continue
        network = ipaddress.ip_network(text, strict=False)
        where = str(network if network.prefixlen < network.max_prefixlen else network[0])
        who = [f"dl_src={mac.hex(':')}"] if mac else []
        if network.version == 6:
            found[_entry(65_000, ["ipv6", *who, f"ipv6_src={where}"], PASS)] = None
            continue
        found[_entry(65_000, ["ip", *who, f"nw_src={where}"], PASS)] = None
        if not mac and where not in protected.own:  # it still has to answer for its address
            found[_entry(65_000, ["arp", f"arp_spa={where}"], _metered(discovery))] = None
    for mac in dict.fromkeys(mac for _, mac in protected.macs()):
        found[_inner(LAN_TABLE, [f"dl_src={mac.hex(':')}"], PASS)] = None
    for table, talks in ((LAN_TABLE, _CLIENTS), (BEYOND_TABLE, (*_CLIENTS, *_SERVERS))):
        for kind in _DISCOVERY:
            found[_inner(table, ["icmp6", f"icmp_type={kind}"], _metered(discovery))] = None
        for protocol, source, to in talks:
            match = [protocol, f"tp_src={source}", f"tp_dst={to}"]
            found[_inner(table, match, _metered(leases))] = None
    return tuple(found)


def proven(address: bytes) -> Place:
    """Return the entry that spares a sender (4 or 16 bytes) the limit of a flood."""
    if len(address) == 4:
        return _entry(61_500, ("tcp", f"nw_src={_text(address)}", _SYN), PASS)
    return _entry(61_500, ("tcp6", f"ipv6_src={_text(address)}", _SYN), PASS)


def _source(subject: Subject) -> tuple[str, ...]:
    if subject.kind is Kind.MAC:
        return (f"dl_src={subject.value.hex(':')}",)
    if len(subject.value) == 4:
        return "ip", f"nw_src={_text(subject.value)}"
    return "ipv6", f"ipv6_src={_text(subject.value)}/64"


def _text(address: bytes) -> str:
    """Return an address as Open vSwitch prints it; 8 bytes are an IPv6 /64's first half."""
    if len(address) == 4:
        return socket.inet_ntop(socket.AF_INET, address)
    return socket.inet_ntop(socket.AF_INET6, address.ljust(16, b"\0"))


def _metered(meter: int) -> str:
    return f"meter:{meter},{PASS}"


def _entry(priority: int, match: Sequence[str], actions: str) -> Place:
    return Place("0", actions, key_of([f"priority={priority}", "reg15=0", *match]))


def _inner(table: str, match: Sequence[str], actions: str) -> Place:
    return Place(table, actions, key_of(["priority=100", *match]))
