"""Subjects in, names of sets and their elements out; and back, from what the kernel lists.

    what                                  netdev ids_ports          inet ids_hosts
    MAC on a port                         lan_quarantine, _limited
    address on a link without MACs        lan_quarantine4|6, ...
    address beyond us, proven             the same, if behind a     wan_quarantine4|6,
                                          router on a bridge        wan_limited4|6
    address beyond us, perhaps forged     the same                  wan_unverified4|6
    victim and port of a spoofed flood    flood4|6                  flood4|6
    deprioritised: on a port, beyond us   lan_suspect, ...          wan_suspect4|6

IPv6 senders are /64 networks: the element is the network's first address.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ids_appliance.errors import EnforceError
from ids_appliance.types import Kind, Response, Subject

PORTS: Final = "netdev ids_ports"
HOSTS: Final = "inet ids_hosts"
TABLES: Final = (PORTS, HOSTS)

_LAN: Final = ("lan_quarantine", "lan_limited", "lan_suspect")
_WAN: Final = ("wan_quarantine", "wan_limited", "wan_unverified", "wan_suspect")
SETS: Final = {
    PORTS: (
        *_LAN,
        *(f"{name}{family}" for name in (*_LAN, *_WAN, "flood") for family in (4, 6)),
    ),
    HOSTS: tuple(f"{name}{family}" for name in (*_WAN, "flood") for family in (4, 6)),
}
"""Per table the sets that hold decisions."""

MAX_TIMEOUT_S: Final = 10 * 365 * 86_400
_UNITS: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_TIME: Final = re.compile(r"(\d+)(ms|[dhms])")
_ELEMENT: Final = re.compile(
    r"(?P<key>[^\s{},][^{},]*?)(?: limit rate [^,}]*?)?"
    r"(?: timeout (?P<timeout>\w+))?(?: expires (?P<expires>\w+))?\s*(?=[,}])"
)


@dataclass(frozen=True, slots=True)
class Place:
    """One element of one set."""

    table: str
    """PORTS or HOSTS."""
    set: str
    key: str
    """As nft writes it: `"lan0" . 02:00:00:00:00:07`."""


def quoted(interface: str) -> str:
    """Return an interface's name as nft takes it. Raises EnforceError for one it would misread."""
    # The kernel allows nearly every byte in a name; nft has no escapes, and * is its wildcard.
    if not re.fullmatch(r"[\w.@:+=#%~-]{1,15}", interface, re.ASCII):
        raise EnforceError(f"interface name {interface!r} cannot be written in a rule: rename it")
    return f'"{interface}"'


def address_text(value: bytes) -> str:
    """Return an address for people and nft; 8 bytes are an IPv6 /64's first half."""
    return str(ipaddress.ip_address(value.ljust(16, b"\0") if len(value) == 8 else value))


def subject_text(subject: Subject) -> str:
    """Return whom a decision is about, for people."""
    if subject.kind is Kind.MAC:
        what = subject.value.hex(":")
    else:
        what = address_text(subject.value) + ("/64" if len(subject.value) == 8 else "")
    what += f" port {subject.port}" if subject.kind is Kind.FLOOD else ""
    return what + (f"@{subject.interface}" if subject.interface else "")


def pool(subject: Subject) -> str:
    """Return which capacity a subject counts against: lan, wan, unverified or flood."""
    if subject.kind is Kind.FLOOD:
        return "flood"
    if subject.kind is Kind.MAC or subject.interface:
        return "lan"
    return "wan" if subject.proven else "unverified"


_SIZES: Final = {Kind.MAC: (6,), Kind.IPV4: (4,), Kind.IPV6: (8,), Kind.FLOOD: (4, 16)}


def places(
    subject: Subject, response: Response, *, routed_ports: bool, classes: bool = False
) -> list[Place]:
    """Return the elements that make a decision hold; none below RATE_LIMIT, with `classes` none
    below DEPRIORITISE.

    routed_ports: there are routers on captured ports, so senders beyond us come in there as well.
    classes: packets can be made to wait (tc). A flood has no senders who could.
    Raises EnforceError for a subject that names nobody.
    """
    if len(subject.value) not in _SIZES[subject.kind]:
        raise EnforceError(f"{subject.kind} of {len(subject.value)} bytes")
    if subject.kind is Kind.MAC and not subject.interface:
        raise EnforceError("a MAC without its interface")
    suspect = response is Response.DEPRIORITISE and classes and subject.kind is not Kind.FLOOD
    if response < Response.RATE_LIMIT and not suspect:
        return []
    family = 4 if len(subject.value) == 4 else 6
    where = pool(subject)
    if where == "flood":
        key = f"{address_text(subject.value)} . {subject.port}"
        return [Place(table, f"flood{family}", key) for table in TABLES]
    if suspect:
        name = "lan_suspect" if where == "lan" else "wan_suspect"
    elif where == "unverified":
        name = "wan_unverified"
    else:
        name = where + ("_quarantine" if response is Response.QUARANTINE else "_limited")
    if where != "lan":
        tables = TABLES if routed_ports else (HOSTS,)
        return [Place(table, f"{name}{family}", address_text(subject.value)) for table in tables]
    if subject.kind is Kind.MAC:
        return [Place(PORTS, name, f"{quoted(subject.interface)} . {subject.value.hex(':')}")]
    key = f"{quoted(subject.interface)} . {address_text(subject.value)}"
    return [Place(PORTS, f"{name}{family}", key)]


def listed(text: str) -> Iterator[tuple[str, float]]:
    """Yield (key, seconds left) of what `list set` printed; inf where it has no end."""
    _, _, rest = text.partition("elements = {")
    body = rest[: rest.find("}") + 1]
    for match in _ELEMENT.finditer(body):
        expires = match["expires"]
        yield match["key"], seconds(expires) if expires else float("inf")


def seconds(text: str) -> float:
    """Return the seconds of a time as nft prints it, such as `14m59s964ms`."""
    return sum(int(number) * _UNITS[unit] for number, unit in _TIME.findall(text))


def timed(key: str, left_s: float) -> str:
    """Return an element with its timeout, whole milliseconds and at least one."""
    seconds_left, ms = divmod(max(1, int(min(left_s, MAX_TIMEOUT_S) * 1000)), 1000)
    # nft reads at most eight digits of a number: in milliseconds alone no ban could be of 28 hours.
    days, seconds_left = divmod(seconds_left, 86_400)
    return f"{key} timeout {days}d{seconds_left}s{ms}ms"
