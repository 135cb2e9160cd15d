"""Protected and allowed addresses in, whether a sender is one of them out: never by its word alone.

A device on the protected side can put any address into its packets. So there an address counts only
together with the MAC that it is known to belong to; a sender that merely claims it is *doubted*:
not let off, but not cut off either. A sender beyond us has nothing but its address.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from ids_appliance.policy.spans import Network, Span, of_network, of_subject
from ids_appliance.policy.subjects import address_text
from ids_appliance.types import Kind, Subject


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """Who has which address on the protected side at one moment: bindings from ARP and DHCP."""

    hosts: Mapping[bytes, tuple[str, bytes]] = field(default_factory=dict)
    """Address (4 or 16 bytes) -> (interface, MAC)."""
    macs: Mapping[bytes, str] = field(default_factory=dict)
    """MAC -> interface."""
    _of_mac: dict[bytes, list[bytes]] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for address, (_, mac) in self.hosts.items():
            self._of_mac.setdefault(mac, []).append(address)

    def addresses_of(self, mac: bytes) -> Sequence[bytes]:
        """Return the addresses that a MAC is known to have."""
        return self._of_mac.get(mac, ())

    def of_address(self, address: bytes) -> tuple[str, bytes] | None:
        """Return (interface, MAC) that an address belongs to; None where that is not known."""
        return self.hosts.get(address)

    def of_mac(self, mac: bytes) -> str:
        """Return the interface that a MAC was last seen at; "" where it was not."""
        found = self.macs.get(mac)
        if found is None:
            found = next((self.hosts[a][0] for a in self.addresses_of(mac)), "")
        return found


class Match(IntEnum):
    """How an entry concerns a sender."""

    NO = 0
    DOUBTED = 1
    """It claims the address, and whose that is nobody knows."""
    YES = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """Which interfaces are the protected side: those captured, and bridges and VLANs on them."""

    captured: frozenset[str] = frozenset()
    above: frozenset[tuple[str, str]] = frozenset()
    """(captured interface, interface built on it)."""
    networks: tuple[Span, ...] = ()
    """On-link there."""

    def same(self, port: str, entry: str) -> bool:
        """Say whether a captured port is what an entry calls its interface. A capture file has no
        ports: there everything matches."""
        return not port or not entry or port == entry or (port, entry) in self.above

    def protected_side(self, interface: str) -> bool:
        """Say whether an interface is one of the protected side."""
        return interface in self.captured or any(upper == interface for _, upper in self.above)

    def on_link(self, address: bytes) -> bool:
        """Say whether an address belongs to a network of the protected side."""
        return any(network.has(address) for network in self.networks)

    def ports(self, interface: str) -> tuple[str, ...]:
        """Return the captured ports that an entry's interface stands for."""
        if interface in self.captured:
            return (interface,)
        return tuple(sorted(port for port, upper in self.above if upper == interface))


@dataclass(frozen=True, slots=True)
class Entry:
    """Somebody, as far as known: a network or a MAC or both, at an interface or anywhere."""

    why: str
    network: Network | None = None
    mac: bytes = b""
    interface: str = ""
    span: Span | None = field(init=False, compare=False, default=None)
    """The network's addresses."""

    def __post_init__(self) -> None:
        if self.network is not None:
            object.__setattr__(self, "span", of_network(self.network))


@dataclass(frozen=True, slots=True)
class View:
    """What matching needs to know about the network."""

    layout: Layout = Layout()
    hosts: KnownHosts = KnownHosts()


def match(entry: Entry, subject: Subject, address: bytes, view: View) -> Match:
    """Say whether an entry concerns a subject whose latest packets came from `address`."""
    if subject.kind is Kind.FLOOD:
        return Match.NO  # nobody is cut off by it
    if subject.kind is not Kind.MAC and not subject.interface:
        return _match_beyond(entry, subject, view.layout)
    if not view.layout.same(subject.interface, entry.interface):
        return Match.NO
    own = of_subject(subject)
    if own is not None:  # a link without MACs
        return Match.YES if entry.span is not None and own.overlaps(entry.span) else Match.NO
    if entry.mac:
        return Match.YES if entry.mac == subject.value else Match.NO
    if entry.span is None:
        return Match.NO
    if any(entry.span.has(known) for known in view.hosts.addresses_of(subject.value)):
        return Match.YES
    if not entry.span.has(address) or view.hosts.of_address(address) is not None:
        return Match.NO
    # An address that cannot be on this side at all is simply forged.
    here = bool(entry.interface) or view.layout.on_link(address)
    return Match.DOUBTED if here else Match.NO


def _match_beyond(entry: Entry, subject: Subject, layout: Layout) -> Match:
    own = of_subject(subject)
    if entry.span is None or own is None or layout.protected_side(entry.interface):
        return Match.NO
    return Match.YES if own.overlaps(entry.span) else Match.NO


def best(
    entries: Iterable[Entry], subject: Subject, address: bytes, view: View
) -> tuple[Match, Entry] | None:
    """Return the entry that concerns a subject most, None where none does."""
    found: tuple[Match, Entry] | None = None
    for entry in entries:
        how = match(entry, subject, address, view)
        if how is Match.YES:
            return how, entry
        if how is Match.DOUBTED and found is None:
            found = how, entry
    return found


class Element(NamedTuple):
    """Somebody, for the kernel's protected sets."""

    interface: str
    """A captured port; empty beyond us."""
    mac: bytes | None
    """Known wherever there is a port."""
    network: str | None
    """None: the MAC, whatever its address."""


def elements(entries: Iterable[Entry], view: View) -> tuple[Element, ...]:
    """Return entries as elements of the kernel's sets. Of the protected side, only those whose MAC
    is known: else whoever is cut off could take such an address and be let through."""
    found: dict[Element, None] = {}
    layout = view.layout
    for entry in entries:
        text = str(entry.network) if entry.network is not None else None
        if entry.mac and (not entry.interface or layout.protected_side(entry.interface)):
            ports = layout.ports(entry.interface) or tuple(sorted(layout.captured))
            found.update({Element(port, entry.mac, text): None for port in ports})
            continue
        if entry.span is None:
            continue
        if not layout.protected_side(entry.interface):
            found[Element("", None, text)] = None
        for address, (interface, mac) in view.hosts.hosts.items():
            if entry.span.has(address) and layout.same(interface, entry.interface):
                found[Element(interface, mac, address_text(address))] = None
    return tuple(found)
