"""What the system needs and whom people have named in, who may never be cut off, and why, out."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Protect
from ids_appliance.errors import ConfigError, SubjectError
from ids_appliance.policy.entries import Element, Entry, KnownHosts, Layout, Match, View
from ids_appliance.policy.entries import best as best_match
from ids_appliance.policy.entries import elements as elements_of
from ids_appliance.policy.spans import of_network, of_subject
from ids_appliance.policy.subjects import Named, address_text, parse
from ids_appliance.types import Kind, Subject

MAX_PINS: Final = 1024
_NOBODYS: Final = (
    ("the unspecified network", "0.0.0.0/8"),
    ("loopback", "127.0.0.0/8"),
    ("multicast", "224.0.0.0/4"),
    ("the broadcast address", "255.255.255.255/32"),
    ("reserved, and no host's", "240.0.0.0/4"),
    ("loopback and the unspecified address", "::/64"),
    ("link-local: the same on every link", "fe80::/10"),
    ("multicast", "ff00::/8"),
)
"""Addresses that are never one sender's beyond us (RFC 1122 3.2.1.3, RFC 1112 4, RFC 4291 2.5)."""
_NOBODYS_SPANS: Final = tuple(
    (why, of_network(ipaddress.ip_network(text))) for why, text in _NOBODYS
)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A host that the system needs, and where it is."""

    address: bytes
    """4 or 16 bytes."""
    interface: str = ""
    """Where it is on-link; empty: behind a router."""
    mac: bytes = b""
    """What the kernel's neighbour table has for it; empty where nothing."""


@dataclass(frozen=True, slots=True)
class SystemFound:
    """What the system itself says of who must not be cut off; made by gateway.surroundings."""

    captured: tuple[str, ...] = ()
    above: tuple[tuple[str, str], ...] = ()
    """(captured interface, bridge or VLAN built on it)."""
    macs: tuple[bytes, ...] = ()
    """Our own."""
    addresses: tuple[bytes, ...] = ()
    """Our own."""
    networks: tuple[tuple[str, bytes, int], ...] = ()
    """On-link networks of the protected side: (interface, address, prefix length)."""
    routers: tuple[Place, ...] = ()
    router_macs: tuple[bytes, ...] = ()
    """Further routers of the protected side, by configuration."""
    bindings: tuple[tuple[bytes, bytes], ...] = ()
    """(address, MAC) that may never change, by configuration: they win over every pin."""
    dns: tuple[Place, ...] = ()
    nodes: tuple[Place, ...] = ()
    sessions: tuple[Place, ...] = ()
    """Peers of whoever is logged in here over the network."""


Pins = Mapping[tuple[str, bytes], bytes]
"""(interface, address) -> MAC."""


class Protection:
    """Answers whether a subject may be cut off; `update` when the surroundings change.

    A protected address on the protected side is bound to the MAC that it was first seen with
    (its *pin*): an ARP spoofer who becomes "the router" in the kernel's neighbour table does not
    become protected. Pins are kept with the decisions; `relearn` forgets them.
    """

    def __init__(
        self,
        settings: Protect,
        found: SystemFound,
        *,
        hosts: KnownHosts | None = None,
        pins: Pins | None = None,
    ) -> None:
        self._settings = settings
        self._named = tuple(_configured(settings))
        self._pins: dict[tuple[str, bytes], bytes] = dict(list((pins or {}).items())[:MAX_PINS])
        self._entries: tuple[Entry, ...] = ()
        self._own: tuple[frozenset[bytes], frozenset[bytes]] = (frozenset(), frozenset())
        self._told: frozenset[str] = frozenset()
        self.view = View()
        self.found = found
        self.update(found, hosts or KnownHosts())

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return who is protected beside ourselves."""
        return self._entries

    @property
    def pins(self) -> Pins:
        """Return which MAC each protected address of the protected side is bound to."""
        return self._pins

    @property
    def contradicted(self) -> tuple[str, ...]:
        """Return what contradicts a pin at present: if the host was replaced, it may be cut off."""
        return tuple(sorted(self._told))

    def adopt(self, pins: Pins) -> None:
        """Take over pins of an earlier run; they win over what was seen since the start."""
        kept = dict(list(pins.items())[:MAX_PINS])
        self._pins = kept | {
            key: mac for key, mac in self._pins.items() if key not in kept and len(kept) < MAX_PINS
        }
        self.update(self.found, self._hosts)

    def relearn(self) -> None:
        """Forget all pins and take what is seen now: a router was replaced."""
        self._pins.clear()
        self.update(self.found, self._hosts)

    def update(self, found: SystemFound, hosts: KnownHosts) -> list[str]:
        """Take over what the system and the network look like now; return what contradicts a
        pin, once each."""
        self.found, self._hosts = found, hosts
        networks = tuple(
            of_network(ipaddress.ip_network((address, prefix), strict=False))
            for _, address, prefix in found.networks
        )
        layout = Layout(frozenset(found.captured), frozenset(found.above), networks)
        self._own = (frozenset(found.macs), frozenset(found.addresses))
        contradictions: list[str] = []
        entries: list[Entry] = []
        bound = dict(hosts.hosts)
        if not self._settings.automatic:
            for place in found.routers:  # not protected, but whose MAC it is decides who is beyond
                if place.interface:
                    self._pin("default router", place, contradictions)
        for why, place in self._places(found, hosts):
            mac = self._pin(why, place, contradictions) if place.interface else b""
            if mac:
                bound[place.address] = (place.interface, mac)
            network = ipaddress.ip_network(ipaddress.ip_address(place.address))
            entries.append(Entry(why, network, mac, place.interface))
        entries += [Entry("router", mac=mac) for mac in found.router_macs]
        entries += [
            Entry(why, named.network, named.mac, named.interface)
            for why, named in self._named
            if not named.address
        ]
        self._entries = tuple(entries)
        self.view = View(layout, KnownHosts(bound, hosts.macs))
        fresh = [line for line in contradictions if line not in self._told]
        self._told = frozenset(contradictions)
        return fresh

    def refuses(self, subject: Subject, address: bytes = b"") -> str | None:
        """Return why a subject may not be cut off, None if it may. `address`: the latest one seen
        from a MAC; it counts only where it is known to be that MAC's."""
        if subject.kind is Kind.FLOOD:
            return None
        if subject.kind is Kind.MAC:
            return self._refuses_mac(subject, address)
        span = of_subject(subject)
        assert span is not None
        for why, nobodys in _NOBODYS_SPANS:
            if span.overlaps(nobodys):
                return why
        if any(span.has(own) for own in self._own[1]):
            return "our own address"
        # Unproven: a limit of new flows from beyond does not concern whose address it truly is.
        if (subject.proven and not subject.interface) and any(
            span.overlaps(network) for network in self.view.layout.networks
        ):
            return "an address of the protected side, seen from beyond"
        if subject.interface and subject.kind is Kind.IPV6:
            return "without MACs a /64 would be the whole link"
        return self._matched(subject, address, Match.YES)

    def doubts(self, subject: Subject, address: bytes = b"") -> str | None:
        """Return which protected entry a subject claims to be without anybody knowing better:
        limited, it harms no one; cut off, it might be the entry itself."""
        return self._matched(subject, address, Match.DOUBTED)

    def ours_elsewhere(self, address: bytes) -> bool:
        """Say whether an address is our own, and in no network of the protected side; never where
        we know none of its networks (a mirror, a bridge without an address)."""
        layout = self.view.layout
        return bool(layout.networks) and address in self._own[1] and not layout.on_link(address)

    def elements(self) -> tuple[Element, ...]:
        """Return who is protected, for the kernel's own sets."""
        own = tuple(
            Entry("own", ipaddress.ip_network(ipaddress.ip_address(address)))
            for address in sorted(self._own[1])
        )
        return elements_of((*own, *self._entries), View(self.view.layout, self.view.hosts))

    def _refuses_mac(self, subject: Subject, address: bytes) -> str | None:
        if not any(subject.value) or subject.value[0] & 1:
            return "a group address is no sender's"
        if subject.value in self._own[0]:
            return "our own MAC"
        return self._matched(subject, address, Match.YES)

    def _matched(self, subject: Subject, address: bytes, how: Match) -> str | None:
        found = best_match(self._entries, subject, address, self.view)
        return found[1].why if found is not None and found[0] is how else None

    def _places(self, found: SystemFound, hosts: KnownHosts) -> Iterable[tuple[str, Place]]:
        if self._settings.automatic:
            yield from (("default router", place) for place in found.routers)
            yield from (("DNS server", place) for place in found.dns)
            yield from (("node", place) for place in found.nodes)
        for place in found.sessions:
            if self._may_log_in(place):
                yield "logged in here", place
        for why, named in self._named:
            if named.address:
                yield why, self._locate(named, found, hosts)

    def _may_log_in(self, place: Place) -> bool:
        """Where administrators' networks are configured, only sessions from them protect."""
        if not self._settings.administrators:
            return True
        address = ipaddress.ip_address(place.address)
        layout = Layout(frozenset(self.found.captured), frozenset(self.found.above))
        for why, named in self._named:
            if why == "administrator" and named.network is not None and address in named.network:
                ports = (place.interface, *layout.ports(place.interface))
                if not named.interface or named.interface in ports:
                    return True
        return False

    def _locate(self, named: Named, found: SystemFound, hosts: KnownHosts) -> Place:
        address = ipaddress.ip_address(named.address)
        interface = named.interface
        for at, network, prefix in found.networks if not interface else ():
            if address in ipaddress.ip_network((network, prefix), strict=False):
                interface = at
        known = hosts.of_address(named.address)
        return Place(named.address, interface, known[1] if known and interface else b"")

    def _pin(self, why: str, place: Place, contradictions: list[str]) -> bytes:
        key = (place.interface, place.address)
        pinned = dict(self.found.bindings).get(place.address) or self._pins.get(key, b"")
        if not pinned and place.mac and len(self._pins) < MAX_PINS:
            pinned = self._pins[key] = place.mac
        # Beyond us the address alone protects.
        layout = Layout(frozenset(self.found.captured), frozenset(self.found.above))
        inside = layout.protected_side(place.interface)
        if inside and pinned and place.mac and pinned != place.mac:
            contradictions.append(
                f"{why} {address_text(place.address)} now answers from {place.mac.hex(':')}, "
                f"but {pinned.hex(':')} is known for it: the new one is not protected "
                "(`reload` if it was replaced)"
            )
        return pinned


def _configured(settings: Protect) -> Iterable[tuple[str, Named]]:
    """Yield what the configuration names. Raises ConfigError."""
    sections = (
        ("administrators", "administrator", settings.administrators),
        ("addresses", "protected by configuration", settings.addresses),
        ("macs", "protected by configuration", settings.macs),
    )
    for setting, why, texts in sections:
        for text in texts:
            try:
                named = parse(text)
            except SubjectError as error:
                raise ConfigError(f"protect.{setting}: {error}") from error
            if bool(named.mac) != (setting == "macs") or named.port:
                wanted = "MAC@INTERFACE" if setting == "macs" else "an address or a network"
                raise ConfigError(f"protect.{setting}: {text!r}: write {wanted}")
            yield why, named
