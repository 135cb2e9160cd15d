"""What this machine is and needs in, a SystemFound out: addresses, routers, DNS servers, nodes.

Everything is read from the kernel and from small files of the system; nothing is asked of the
network, so that a look costs a millisecond and no attacker can delay it.
"""

import contextlib
import ipaddress
import re
import socket
import struct
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ids_appliance.capture.interfaces import capture_points
from ids_appliance.capture.netlink import Link, addresses, attributes, dump, links
from ids_appliance.config import Config
from ids_appliance.errors import ConfigError, InterfaceError
from ids_appliance.gateway.logins import logged_in
from ids_appliance.policy.protect import Place, SystemFound

RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28
RTM_GETNEIGH: Final = 30
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst and src length, tos, table, ..., type, flags
_NEIGHBOUR = struct.Struct("=B3xiHBB")  # family, index, state, flags, type
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 1, 4, 5, 9, 18
_RTN_UNICAST = 1
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent
MAX_ROUTES: Final = 4096
MAX_NEIGHBOURS: Final = 4096
MAX_PLACES: Final = 32
"""Routers, DNS servers, nodes, sessions: of each."""
MAX_FILE: Final = 65_536
RESOLVERS: Final = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""The second has the real servers where the first names systemd-resolved's stub (127.0.0.53)."""
MAC: Final = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Route:
    """One way out."""

    network: bytes
    """4 or 16 bytes."""
    prefix: int
    interface: int
    gateway: bytes
    """Empty: on-link."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the system writes what the kernel does not know; replaced in tests."""

    resolvers: Sequence[str] = RESOLVERS
    logged_in: Callable[[], Iterable[bytes]] = logged_in


@dataclass(frozen=True, slots=True)
class _Tables:
    """The kernel's tables at one moment."""

    links: dict[int, Link]
    routes: list[Route]
    neighbours: dict[tuple[int, bytes], bytes] = field(default_factory=dict)

    def name(self, index: int) -> str:
        found = self.links.get(index)
        return found.name if found is not None else ""

    def place(self, address: bytes, *, index: int = 0) -> Place:
        """Return where an address is: at `index`, else by the longest route that leads to it."""
        if not index:
            route = self._route(address)
            if route is None or route.gateway:
                return Place(address)
            index = route.interface
        return Place(address, self.name(index), self.neighbours.get((index, address), b""))

    def places(self, address: bytes, *, near: Container[str]) -> Iterable[Place]:
        """Yield where an address is. A link-local one says nothing of its link (RFC 4007): it is
        where a neighbour has it, or else, not to miss its host, on every link of `near`."""
        if not ipaddress.ip_address(address).is_link_local:
            yield self.place(address)
            return
        known = {index for index, at in self.neighbours if at == address}
        linked = {route.interface for route in self._leading(address) if not route.gateway}
        for index in known or {index for index in linked if self.name(index) in near}:
            yield self.place(address, index=index)

    def _route(self, address: bytes) -> Route | None:
        return max(self._leading(address), key=lambda route: route.prefix, default=None)

    def _leading(self, address: bytes) -> Iterable[Route]:
        value = int.from_bytes(address, "big")
        bits = 8 * len(address)
        for route in self.routes:
            if len(route.network) != len(address):
                continue
            shift = bits - route.prefix
            if value >> shift == int.from_bytes(route.network, "big") >> shift:
                yield route


def look(
    config: Config, files: Files | None = None, *, reached: Iterable[bytes] = ()
) -> SystemFound:
    """Return who must not be cut off now. reached: addresses of nodes that the link has found by
    their names. Raises ConfigError: a MAC of the configuration is none; OSError: the kernel does
    not answer.

    Two looks are equal unless something has changed. A captured interface that is gone just now
    goes on being one.
    """
    files = files or Files()
    tables = _Tables(links(), routes(), neighbours())
    captured = _captured(config.interfaces)
    indices = {link.name: index for index, link in tables.links.items()}
    above = sorted(
        (port, tables.name(upper))
        for port in captured
        for upper in _stacked_on(indices.get(port, 0), tables.links)
    )
    family = {*captured, *(upper for _, upper in above)}
    own = addresses()
    ours = {address for _, address, _ in own}
    defaults = [route for route in tables.routes if route.prefix == 0 and route.gateway]

    def found_at(hosts: Iterable[bytes]) -> tuple[Place, ...]:
        others = (address for address in hosts if address not in ours)
        return _places(one for a in others for one in tables.places(a, near=family))

    return SystemFound(
        captured=tuple(sorted(captured)),
        above=tuple(above),
        macs=tuple(sorted({link.mac for link in tables.links.values() if any(link.mac)})),
        addresses=tuple(sorted(ours)),
        networks=tuple(
            sorted(
                (tables.name(index), address, prefix)
                for index, address, prefix in own
                if tables.name(index) in family
                and prefix < 8 * len(address)
                and not ipaddress.ip_address(address).is_link_local
            )
        ),
        routers=_places(tables.place(route.gateway, index=route.interface) for route in defaults),
        router_macs=tuple(sorted(_mac(text, "routers") for text in config.routers)),
        bindings=tuple(
            sorted(
                (ipaddress.IPv4Address(address).packed, _mac(mac, "trigger.bindings"))
                for address, mac in config.trigger.bindings.items()
            )
        ),
        dns=found_at(name_servers(files.resolvers)),
        nodes=found_at((*_nodes(config), *reached)),
        sessions=found_at(files.logged_in()),
    )


def greet(found: SystemFound) -> None:
    """Make the kernel ask for the MACs of routers and DNS servers on-link that it does not know:
    until they are known, what a router forwards on the protected side seems to be its own."""
    for place in (*found.routers, *found.dns):
        if place.mac or not place.interface:
            continue
        family = socket.AF_INET if len(place.address) == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as any_socket:
            any_socket.setblocking(False)
            with contextlib.suppress(OSError):
                # Port 9 is "discard" (RFC 863): the datagram is nothing, its ARP request counts.
                any_socket.sendto(b"", _discard(place))


def _discard(place: Place) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return where a datagram to a host goes; link-local, it has to name the link. OSError."""
    text = str(ipaddress.ip_address(place.address))
    if len(place.address) == 4:
        return text, 9
    return text, 9, 0, socket.if_nametoindex(place.interface)


def routes() -> list[Route]:
    """Return the unicast routes of all tables but the kernel's own of local addresses."""
    found = []
    for body in dump(RTM_GETROUTE, RTM_NEWROUTE)[:MAX_ROUTES]:
        if len(body) < _ROUTE.size:
            continue
        family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
        size = {socket.AF_INET: 4, socket.AF_INET6: 16}.get(family)
        if size is None or kind != _RTN_UNICAST or table == 255 or prefix > 8 * size:
            continue
        given = attributes(body[_ROUTE.size :])
        network = given.get(_RTA_DST, bytes(size))
        for index, gateway in _next_hops(given):
            if index and len(network) == size and len(gateway) in (0, 4, 16):
                found.append(Route(network, prefix, index, gateway))
    return found


def _next_hops(given: dict[int, bytes]) -> Iterable[tuple[int, bytes]]:
    """Yield (interface index, gateway) of a route; of several with RTA_MULTIPATH."""
    several = given.get(_RTA_MULTIPATH)
    if several is None:
        index = given.get(_RTA_OIF, b"")
        yield (
            int(struct.unpack("=i", index)[0]) if len(index) == 4 else 0,
            _gateway(given),
        )
        return
    at = 0
    while at + _NEXTHOP.size <= len(several):
        length, _, _, number = _NEXTHOP.unpack_from(several, at)
        if length < _NEXTHOP.size or at + length > len(several):
            return
        hop = attributes(several[at + _NEXTHOP.size : at + length])
        yield number, _gateway(hop)
        at += (length + 3) & ~3


def _gateway(given: dict[int, bytes]) -> bytes:
    """Return a next hop's address; of the other family (RFC 5549) after two bytes of RTA_VIA."""
    return given.get(_RTA_GATEWAY) or given.get(_RTA_VIA, b"")[2:]


def neighbours() -> dict[tuple[int, bytes], bytes]:
    """Return the MACs that the kernel has for addresses: (interface index, address) -> MAC."""
    found = {}
    for body in dump(RTM_GETNEIGH, RTM_NEWNEIGH)[:MAX_NEIGHBOURS]:
        if len(body) < _NEIGHBOUR.size:
            continue
        _, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
        given = attributes(body[_NEIGHBOUR.size :])
        address, mac = given.get(_NDA_DST, b""), given.get(_NDA_LLADDR, b"")
        if state & _NUD_KNOWN and len(address) in (4, 16) and len(mac) == 6 and any(mac):
            found[(index, address)] = mac
    return found


def name_servers(paths: Sequence[str]) -> list[bytes]:
    """Return the DNS servers of resolv.conf(5) files, those on this machine left out."""
    found: dict[bytes, None] = {}
    for path in paths:
        try:
            with open(path, "rb") as file:
                text = file.read(MAX_FILE).decode("ascii", "replace")
        except OSError:
            continue
        for server in re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE):
            try:
                address = ipaddress.ip_address(server.partition("%")[0])
            except ValueError:
                continue
            if not address.is_loopback and not address.is_unspecified:
                found[address.packed] = None
    return list(found)[:MAX_PLACES]


def boot_id() -> str:
    """Return what names this boot (random(4)); "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _stacked_on(index: int, table: dict[int, Link]) -> set[int]:
    """Return the indices of bridges and VLANs built on an interface."""
    found: set[int] = set()
    fresh = {index}
    while fresh:
        above = {table[i].master for i in fresh if i in table and table[i].master}
        above |= {i for i, link in table.items() if link.lower in fresh}
        fresh = above - found - {index}
        found |= fresh
    return found


def _nodes(config: Config) -> Iterable[bytes]:
    """Yield the nodes' addresses; a name's is known from the link that stands, not from here."""
    for text in config.node.addresses:
        host = text.rpartition(":")[0].strip("[]")
        try:
            yield ipaddress.ip_address(host).packed
        except ValueError:
            continue


def _captured(names: Sequence[str]) -> tuple[str, ...]:
    try:
        return capture_points(names)
    except InterfaceError:
        found: list[str] = []
        for name in names:
            try:
                found += capture_points((name,))
            except InterfaceError:
                found.append(name)
        return tuple(dict.fromkeys(found))


def _mac(text: str, setting: str) -> bytes:
    if not MAC.fullmatch(text.lower()):
        raise ConfigError(f"{setting}: {text!r} is not a MAC: write 02:00:00:00:00:01")
    return bytes.fromhex(text.replace("-", ":").replace(":", ""))


def _places(found: Iterable[Place]) -> tuple[Place, ...]:
    return tuple(sorted(set(found)))[:MAX_PLACES]
