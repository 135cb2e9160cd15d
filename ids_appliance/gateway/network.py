"""The kernel's tables and what the screen has learned in, names and known hosts out."""

from collections.abc import Sequence
from typing import Protocol

from ids_appliance.capture.bridge_ports import BridgePorts
from ids_appliance.capture.netlink import links
from ids_appliance.gateway import surroundings
from ids_appliance.policy.entries import KnownHosts
from ids_appliance.policy.neighbours import Neighbour

Binding = tuple[bytes, bytes, int, int, str]
"""(IPv4 address, MAC, interface index, age in ns, where it was learned)."""


class Bindings(Protocol):
    """A screen that knows who has which address."""

    def bindings(self) -> Sequence[Binding]:
        """Return what was learned."""

    def devices(self) -> Sequence[tuple[bytes, int, bytes]]:
        """Return (canonical SENDER record, last seen ns, latest address) of LAN senders."""


class Interfaces:
    """Names and indices of the interfaces there are; `refresh` when they may have changed.

    An index that is gone keeps its name: decisions about frames that were captured on it are made
    a moment later.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._indices: dict[str, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look at the kernel's table again."""
        table = links()
        self._indices = {link.name: index for index, link in table.items()}
        gone = {i: name for i, name in self._names.items() if i not in table}
        kept = dict(list(gone.items())[-64:])
        self._names = kept | {index: link.name for index, link in table.items()}

    def name(self, ifindex: int) -> str:
        """Return an interface's name; "" where there is none of that index."""
        return self._names.get(ifindex, "")

    def neighbours(self) -> Sequence[Neighbour]:
        """Return whom the kernel has a MAC of (reachable, stale, being asked, permanent), of a
        bridge at the port where it has learned the MAC; nobody where the kernel does not answer.
        """
        try:
            table, found = links(), surroundings.neighbours()
        except OSError:
            return ()
        bridges = {
            at: BridgePorts(
                (port for port, one in table.items() if one.master == at),
                otherwise=at,
                clock_ns=lambda: 0,
            )
            for at, link in table.items()
            if link.kind == "bridge"
        }
        return [
            Neighbour(self.name(bridges[at].of(mac) if at in bridges else at), address, mac)
            for (at, address), mac in found.items()
        ]

    def index(self, name: str) -> int:
        """Return an interface's index; 0 where there is none of that name."""
        return self._indices.get(name, 0)


def known_hosts(screen: Bindings, names: Interfaces) -> KnownHosts:
    """Return who has which address on the protected side, as far as the screen has seen."""
    hosts = {
        address: (names.name(ifindex), mac) for address, mac, ifindex, _, _ in screen.bindings()
    }
    macs: dict[bytes, str] = {}
    for sender, _, _ in screen.devices():
        mac = sender[6:12]
        if any(mac):
            macs[mac] = names.name(int.from_bytes(sender[:4], "little"))
    return KnownHosts(hosts, macs)
