"""An interface with addresses and routes in, a bare port of the bridge out; and back again.

All addresses and routes move in one run of `ip -batch`: first they are on the bridge, then they
leave the interface. What it was like before is recorded first, so that it can always be undone.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ids_appliance.errors import MonitorError, SwitchDown
from ids_appliance.monitor import commands
from ids_appliance.monitor.links import Address, Link, links
from ids_appliance.monitor.record import Before
from ids_appliance.monitor.settings import Monitor
from ids_appliance.monitor.steps import Step
from ids_appliance.monitor.switch import Picture, Switch, is_marked, marked

DEVICE: Final = "%"
"""Stands in recorded lines where the device's name belongs."""
_KERNELS: Final = {"local", "broadcast", "anycast", "multicast"}
"""Types of routes that come and go with an address."""


def refuse(monitor: Monitor, there: Mapping[str, Link], picture: Picture) -> None:
    """Raise MonitorError where the uplink cannot become a port of the bridge."""
    name = monitor.uplink.interface
    link = there.get(name)
    if link is None:
        names = ", ".join(sorted(one for one in there if one != "lo"))
        raise MonitorError(f"there is no interface {name!r} for the uplink: there are {names}")
    if link.link_type != "ether":
        raise MonitorError(f"uplink {name!r} is no Ethernet interface ({link.link_type})")
    port = picture.port(name)
    other = picture.bridge_of(port) if port else None
    if other and not is_marked(other, monitor.name):
        raise MonitorError(
            f"uplink {name!r} is a port of bridge {other.name!r}: take it out first "
            f"(ovs-vsctl del-port {other.name} {name})"
        )
    if link.master and link.master != "ovs-system":
        raise MonitorError(
            f"uplink {name!r} belongs to {link.master!r}: take it out first "
            f"(ip link set {name} nomaster), or make that the uplink"
        )


def before(link: Link) -> Before:
    """Return what has to be given back to an interface. Raises MonitorError."""
    name = link.ifname
    addresses = [_address(one, name) for one in link.addr_info if not one.temporary]
    return Before(
        interface=name,
        addresses=tuple(addresses),
        routes=tuple(_routes(link)),
        disable_ipv6=_sysctl(name).read_text().strip() if _sysctl(name).exists() else "",
        up=link.up,
        token=secrets.token_hex(8),
    )


def united(old: Before, new: Before) -> Before:
    """Return what was recorded with what has come to the interface since."""
    return msgspec.structs.replace(
        old,
        addresses=tuple(dict.fromkeys([*old.addresses, *new.addresses])),
        routes=tuple(dict.fromkeys([*old.routes, *new.routes])),
    )


def _address(one: Address, name: str) -> str:
    peer = f" peer {one.address}/{one.prefixlen}" if one.address else f"/{one.prefixlen}"
    words = [f"addr replace {one.local}{peer} dev {DEVICE} scope {one.scope}"]
    if one.broadcast:
        words.append(f"broadcast {one.broadcast}")
    if one.label.startswith(f"{name}:"):
        words.append(f"label {DEVICE}:{one.label.removeprefix(f'{name}:')}")
    if one.metric:
        words.append(f"metric {one.metric}")
    if one.noprefixroute:
        words.append("noprefixroute")
    if one.family == "inet6":
        words.append("nodad")
        if one.mngtmpaddr:
            words.append("mngtmpaddr")
        if not one.endless:  # the router's next announcement renews it, on the bridge as well
            words.append(f"valid_lft {one.valid_life_time}")
            words.append(f"preferred_lft {min(one.preferred_life_time, one.valid_life_time)}")
    # A leased IPv4 address moves without its end: it must not vanish while nobody renews it.
    return " ".join(words)


def _routes(link: Link) -> Iterator[str]:
    """Yield lines that make an interface's routes again, those on the link first.

    Without those that come with an address: the kernel makes them, once for each interface.
    """
    name, lines = link.ifname, []
    automatic = {one.network for one in link.addr_info if not one.noprefixroute}
    for family in ("-4", "-6"):
        rows = commands.json("ip", "-j", "-d", family, "route", "show", "table", "all", "dev", name)
        for row in rows:
            if "nexthops" in row:
                raise MonitorError(
                    f"uplink {name!r}: the route to {row.get('dst')} has several next hops, which "
                    "cannot be moved as one: replace it by a simple one"
                )
            dst = str(row["dst"])
            made = row.get("protocol") == "kernel" and dst in automatic
            link_local = dst.startswith(("fe80::", "ff00::"))
            if row.get("type", "unicast") not in _KERNELS and not link_local and not made:
                lines.append(("gateway" in row or "via" in row, _route(row, family)))
    yield from (line for _, line in sorted(lines, key=lambda one: one[0]))


def _route(row: dict[str, Any], family: str) -> str:
    dst = row["dst"]
    if dst == "default":
        dst = "0.0.0.0/0" if family == "-4" else "::/0"
    words = [f"route replace {row['type']} {dst}" if "type" in row else f"route replace {dst}"]
    via = row.get("via") or {"family": "", "host": row.get("gateway", "")}
    if via["host"]:
        words.append(f"via {via['family']} {via['host']}".replace("  ", " "))
    words.append(f"dev {DEVICE}")
    for key, word in (
        ("protocol", "proto"),
        ("scope", "scope"),
        ("prefsrc", "src"),
        ("metric", "metric"),
        ("table", "table"),
        ("pref", "pref"),
        ("expires", "expires"),
    ):
        if key in row:
            words.append(f"{word} {row[key]}")
    for metric in row.get("metrics", []):
        words += [f"{key} {value}" for key, value in metric.items() if isinstance(value, int)]
    if "onlink" in row.get("flags", []):
        words.append("onlink")
    return " ".join(words)


def steps(
    monitor: Monitor, was: Before, *, there: Mapping[str, Link], picture: Picture, switch: Switch
) -> Iterator[Step]:
    """Yield the move as one step, unless everything is on the bridge already."""
    name, bridge = was.interface, monitor.bridge.name
    port = picture.port(name)
    if port and is_marked(port, monitor.name) and _moved(was, there, bridge):
        return
    moving = sum(not _stays(line) for line in was.addresses)
    count = f"{moving} addresses and {len(was.routes)} routes"
    yield Step(
        (f"~ uplink {name}: port of {bridge}, {count} move to {bridge}",),
        partial(_move, monitor, was, mac=there[name].address, switch=switch),
    )


def _moved(was: Before, there: Mapping[str, Link], bridge: str) -> bool:
    """Return whether nothing is left on the interface, and all that left is on the bridge."""
    if there[was.interface].addresses() or bridge not in there or not there[bridge].up:
        return False
    addresses = {_key(_address(one, bridge)) for one in there[bridge].addr_info}
    wanted = {_key(line) for line in was.addresses if not _stays(line)}
    routes = {_key(line) for line in _routes(there[bridge])}
    return wanted <= addresses and {_key(line) for line in was.routes} <= routes


def _stays(line: str) -> bool:
    """Return whether a line is about a link-local address: the bridge makes its own."""
    return " scope link" in line


def _key(line: str) -> str:
    """Return what makes two lines the same address or route, whatever they also say."""
    words = line.split()
    if words[0] == "addr":
        return words[2]
    keep = ("via", "table", "metric")
    pairs = [f"{a} {b}" for a, b in zip(words, words[1:], strict=False) if a in keep]
    return " ".join([words[2], words[3], *pairs])


def _move(monitor: Monitor, was: Before, *, mac: str, switch: Switch) -> None:
    name, bridge = was.interface, monitor.bridge.name
    switch.vsctl(
        *("--", "set", "Bridge", bridge, f'other_config:hwaddr="{mac}"'),
        *("--", "--may-exist", "add-port", bridge, name),
        *("--", "set", "Port", name, marked(monitor.name)),
    )
    lines = [f"link set dev {name} up", f"link set dev {bridge} up"]
    lines += [_on(bridge, line) for line in was.addresses if not _stays(line)]
    lines += [_on(bridge, line) for line in was.routes]
    commands.batch([*lines, f"addr flush dev {name}"])
    if was.disable_ipv6:
        # With the userspace datapath its own stack would still hear the routers, and answer.
        _sysctl(name).write_text("1")


def undo(monitor_name: str, bridge: str, was: Before, *, switch: Switch) -> None:
    """Give an interface back what it had, and take it out of the bridge. Raises MonitorError.

    Nothing is taken for granted: it may have moved wholly, half or not at all.
    """
    down: SwitchDown | None = None
    try:
        port = switch.picture().port(was.interface)
        if port and is_marked(port, monitor_name):
            switch.vsctl(
                *("--", "del-port", bridge, was.interface),
                *("--", "remove", "Bridge", bridge, "other_config", "hwaddr"),
            )
    except SwitchDown as error:
        down = error  # without the switch the addresses still are better where they were
    name = was.interface
    there = links()
    if name not in there:
        return  # a USB adapter that was pulled out
    words = [line.split() for line in was.addresses]
    lines = [f"addr del {_subject(one)} dev {bridge}" for one in words]
    lines += [
        _on(bridge, line).replace("route replace", "route del", 1).replace(" onlink", "")
        for line in reversed(was.routes)
    ]
    if bridge in there:
        text = "".join(f"{line}\n" for line in lines)
        # What is not there any more cannot be taken away: that is no reason to stop.
        commands.run("ip", "-force", "-batch", "-", text=text, check=False)
    if was.disable_ipv6:
        _sysctl(name).write_text(was.disable_ipv6)
    commands.batch([f"link set dev {name} up"])
    commands.batch(_on(name, line) for line in [*was.addresses, *was.routes])
    if not was.up:
        commands.batch([f"link set dev {name} down"])
    if down is not None:
        raise down


def _subject(words: Sequence[str]) -> str:
    """Return the address of a line's words, with its other end if it has one."""
    return " ".join(words[2:5]) if words[3] == "peer" else words[2]


def _on(device: str, line: str) -> str:
    return line.replace(DEVICE, device)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
