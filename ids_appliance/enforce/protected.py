"""Who must never be cut off in, the kernel's protected sets and a check in code out."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ids_appliance.enforce.elements import PORTS, quoted
from ids_appliance.types import Kind, Subject

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAMES: Final = ("protected_hosts", "protected", "protected_anywhere")
"""Sets of both tables, each with 4 or 6 behind it: interface and MAC known, interface known, any
interface that leads beyond us."""
MAX_MACS: Final = 4096
"""Elements of each of the kernel's sets of MACs."""


@dataclass(frozen=True, slots=True)
class ProtectedSets:
    """What the enforcer needs to know about those who must never be cut off."""

    triples: tuple[tuple[str, bytes | None, str | None], ...] = ()
    """(interface, MAC, address or network); interface empty: wherever it is beyond us; MAC None:
    not known; address None: the MAC alone. A known MAC binds the address to it: who forges the
    address is not spared."""
    routers: tuple[tuple[str, bytes], ...] = ()
    """(captured interface, MAC) of routers on the protected side: what they forward is told by
    address, and they are protected themselves."""
    own_macs: tuple[bytes, ...] = ()
    """The gateway's own: frames to them are routed, all others on a captured port are bridged."""
    own: tuple[str, ...] = ()
    """The gateway's own addresses: nobody else ever answers for one of these."""

    def macs(self) -> list[tuple[str, bytes]]:
        """Return (interface, MAC) of all whose MAC is known."""
        known = [(interface, mac) for interface, mac, _ in self.triples if interface and mac]
        return list(dict.fromkeys([*known, *self.routers]))

    def left_out(self) -> int:
        """Return how many MACs find no room in the kernel's set; nothing is decided about them all
        the same. A wide network of administrators has as many as somebody forges in it."""
        return max(0, len(self.macs()) - MAX_MACS)

    def refuses(self, subject: Subject) -> str | None:
        """Return why a subject may not be acted upon, None if it may."""
        if subject.kind is Kind.FLOOD:
            return None  # its senders are limited, not the victim
        if subject.kind is Kind.MAC:
            held = (subject.interface, subject.value) in self.macs()
            own = subject.value in self.own_macs
            return "protected MAC" if held else "our own MAC" if own else None
        network = network_of(subject)
        for interface, _, text in self.triples:
            if text is None:
                continue
            other = ipaddress.ip_network(text, strict=False)
            elsewhere = subject.interface and interface and interface != subject.interface
            if network.version == other.version and network.overlaps(other) and not elsewhere:
                return f"protected: {other}" + (f" on {interface}" if interface else "")
        return None

    def elements(self, table: str) -> dict[str, list[str]]:
        """Return the elements of every protected set of a table; networks do not overlap."""
        found: dict[str, dict[str, list[Network]]] = {
            f"{name}{family}": {} for name in NAMES for family in (4, 6)
        }
        for interface, mac, text in self.triples:
            if text is None:
                continue
            network = ipaddress.ip_network(text, strict=False)
            if not interface:
                name, prefix = "protected_anywhere", ""
            elif mac:
                name, prefix = "protected_hosts", f"{quoted(interface)} . {mac.hex(':')} . "
            else:
                name, prefix = "protected", f"{quoted(interface)} . "
            found[f"{name}{network.version}"].setdefault(prefix, []).append(network)
        sets = {
            name: [
                f"{prefix}{_plain(n)}" for prefix, group in groups.items() for n in _apart(group)
            ]
            for name, groups in found.items()
        }
        if table == PORTS:
            # The most important come first: one too many, and the kernel would take none.
            macs, routers = self.macs()[:MAX_MACS], [*dict.fromkeys(self.routers)][:MAX_MACS]
            sets["protected_macs"] = [f"{quoted(i)} . {m.hex(':')}" for i, m in macs]
            sets["routers"] = [f"{quoted(i)} . {m.hex(':')}" for i, m in routers]
            own = [*dict.fromkeys(self.own_macs)][:MAX_MACS]
            sets["own_macs"] = [mac.hex(":") for mac in own]
        return sets


def network_of(subject: Subject) -> Network:
    """Return the addresses that a sender named by address may use."""
    if subject.kind is Kind.IPV6:
        return ipaddress.IPv6Network((subject.value.ljust(16, b"\0"), 64))
    return ipaddress.IPv4Network(subject.value)


def _apart(networks: Iterable[Network]) -> list[Network]:
    group = list(networks)
    v4 = [n for n in group if isinstance(n, ipaddress.IPv4Network)]
    v6 = [n for n in group if isinstance(n, ipaddress.IPv6Network)]
    return [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]


def _plain(network: Network) -> str:
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)
