"""The kernel's interfaces and namespaces in, what the plan compares with out (ip(8), JSON)."""

import ipaddress
import os
import select
from pathlib import Path
from typing import Any, Final

import msgspec

from ids_appliance.errors import MonitorError
from ids_appliance.monitor import commands

NAMED: Final = Path("/var/run/netns")
"""Where ip-netns(8) looks for namespaces."""
MARK: Final = "ids-appliance-monitor"
_FOREVER: Final = 4_294_967_295


class Address(msgspec.Struct, frozen=True):
    """One address of an interface, as `ip -j addr` prints it."""

    family: str
    local: str
    prefixlen: int
    address: str = ""
    """The other end's, of a point-to-point link."""
    broadcast: str = ""
    scope: str = "global"
    label: str = ""
    metric: int = 0
    noprefixroute: bool = False
    dynamic: bool = False
    temporary: bool = False
    mngtmpaddr: bool = False
    valid_life_time: int = _FOREVER
    preferred_life_time: int = _FOREVER

    @property
    def text(self) -> str:
        """Return it as it is written in a file: 192.168.1.11/24."""
        return f"{self.local}/{self.prefixlen}"

    @property
    def network(self) -> str:
        """Return the network that the address makes a route to, as the kernel prints it."""
        found = ipaddress.ip_interface(f"{self.address or self.local}/{self.prefixlen}").network
        return str(found if found.num_addresses > 1 else found.network_address)

    @property
    def endless(self) -> bool:
        """Return whether it stays until somebody takes it away."""
        return self.valid_life_time == _FOREVER


class Info(msgspec.Struct, frozen=True):
    """What kind of virtual interface it is."""

    info_kind: str = ""


class Link(msgspec.Struct, frozen=True):
    """One interface, as `ip -j -d addr` prints it."""

    ifindex: int
    ifname: str
    flags: tuple[str, ...] = ()
    operstate: str = "UNKNOWN"
    master: str = ""
    address: str = ""
    """Its MAC."""
    link_index: int = 0
    """Of a veth pair: the other end's index, in its namespace."""
    link_type: str = ""
    ifalias: str = ""
    mtu: int = 0
    linkinfo: Info = Info()
    addr_info: tuple[Address, ...] = ()

    @property
    def kind(self) -> str:
        """Return "veth", "bridge", ...; empty for hardware."""
        return self.linkinfo.info_kind

    @property
    def up(self) -> bool:
        """Return whether it is switched on, cable or not."""
        return "UP" in self.flags

    @property
    def running(self) -> bool:
        """Return whether it is on and its other end as well."""
        return self.up and "LOWER_UP" in self.flags

    def addresses(self) -> set[str]:
        """Return the addresses that people gave it (no link-local ones), with their length."""
        return {one.text for one in self.addr_info if one.scope != "link"}


def mark(name: str) -> str:
    """Return the alias of interfaces that belong to the monitor of that name."""
    return f"{MARK}:{name}"


def links(namespace: str = "") -> dict[str, Link]:
    """Return the interfaces of this namespace or of a named one. Raises MonitorError."""
    where = ("-n", namespace) if namespace else ()
    try:
        # An address or attribute that went meanwhile leaves an empty object behind.
        rows = [row for row in commands.json("ip", *where, "-j", "-d", "addr", "show") if row]
        found = msgspec.convert([_cleaned(row) for row in rows], list[Link])
    except msgspec.ValidationError as error:
        raise MonitorError(f"ip -j addr printed what we do not know: {error}") from error
    return {link.ifname: link for link in found}


def _cleaned(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "addr_info": [one for one in row.get("addr_info", []) if one.get("local")]}


def identity(name: str) -> tuple[int, int] | None:
    """Return what tells a named namespace from others; None where there is none."""
    try:
        found = (NAMED / name).stat()
    except OSError:  # nothing there, or the link of a container that has ended
        return None
    return found.st_dev, found.st_ino


def own_identity() -> tuple[int, int]:
    """Return what tells the namespace that we are in from others."""
    found = Path("/proc/self/ns/net").stat()
    return found.st_dev, found.st_ino


def present(name: str) -> bool:
    """Return whether a named namespace can be entered: a leftover file alone cannot."""
    there = identity(name)
    return there is not None and there[0] == own_identity()[0]


def inhabitants(name: str) -> list[int]:
    """Return the ids of the processes that live in a named namespace."""
    there = identity(name)
    return [] if there is None else [pid for pid in _processes() if _lives(pid) == there]


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _lives(pid: int) -> tuple[int, int]:
    try:
        found = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def offloaded(namespace: str, interface: str) -> bool:
    """Return whether an interface leaves checksums or segmentation to hardware that is not there.

    Over the userspace datapath TCP never connects then, and a capture shows frames that never
    were on a wire.
    """
    words = ("ip", "netns", "exec", namespace, "ethtool", "--json", "-k", interface)
    (found,) = commands.json(*words)
    return any(
        found.get(feature, {}).get("active", False)
        for feature in (
            "tx-checksumming",
            "tcp-segmentation-offload",
            "generic-segmentation-offload",
            "generic-receive-offload",
        )
    )


def compressed(address: str) -> str:
    """Return an address the way the kernel prints it."""
    return str(ipaddress.ip_address(address))


def readable(descriptor: int, seconds: float) -> bool:
    """Wait until a descriptor has something to say; return whether it has in that time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
