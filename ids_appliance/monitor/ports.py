"""A bridge on paper and the database as it is in, the transactions that are still missing out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from ids_appliance.errors import MonitorError
from ids_appliance.monitor.contradictions import port_of
from ids_appliance.monitor.settings import Mirror, Monitor
from ids_appliance.monitor.steps import Step
from ids_appliance.monitor.switch import (
    BridgeRow,
    MirrorRow,
    Picture,
    Switch,
    is_marked,
    kernel_datapath,
    marked,
)


@dataclass(slots=True)
class Transaction:
    """Changes of the database that happen together."""

    lines: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def add(self, line: str, *words: str) -> None:
        """Add one command of ovs-vsctl, with what it says to people ("": nothing)."""
        if line:
            self.lines.append(line)
        self.words += ["--", *words]

    def steps(self, switch: Switch) -> Iterator[Step]:
        """Yield it as one step, unless nothing is to be done."""
        if self.words:
            yield Step(tuple(self.lines), partial(_commit, switch, self.words))


def _commit(switch: Switch, words: list[str]) -> None:
    switch.vsctl(*words)
    switch.settled()


def refuse_foreign(monitor: Monitor, picture: Picture) -> None:
    """Raise MonitorError where a name of ours is somebody else's in the database."""
    name = monitor.bridge.name
    bridge = picture.bridge(name)
    if bridge and not is_marked(bridge, monitor.name):
        raise MonitorError(
            f"there is a bridge {name!r} already, and it is not this monitor's: "
            f"remove it (ovs-vsctl del-br {name}), or choose another name"
        )
    for port_name in ports(monitor):
        port = picture.port(port_name)
        other = port and picture.bridge_of(port)
        if other and not is_marked(other, monitor.name):
            raise MonitorError(
                f"{port_name!r} is a port of bridge {other.name!r}: take it out first "
                f"(ovs-vsctl del-port {other.name} {port_name})"
            )
    for mirror in monitor.mirrors:
        row = _mirror_row(mirror.name, bridge, picture)
        if row and not is_marked(row, monitor.name):
            raise MonitorError(f"bridge {name!r} has a mirror {mirror.name!r} that is not ours")


def own_bridge(monitor: Monitor, picture: Picture) -> BridgeRow | None:
    """Return the bridge if it is there and ours."""
    row = picture.bridge(monitor.bridge.name)
    return row if row and is_marked(row, monitor.name) else None


def ports(monitor: Monitor) -> dict[str, int]:
    """Return the ports that join the hosts, each with its VLAN (0: none)."""
    return {host.bridge_end: host.vlan for host in monitor.hosts}


def datapath(monitor: Monitor, bridge: BridgeRow | None) -> str:
    """Return which datapath the bridge is to have. Raises MonitorError."""
    wanted = monitor.bridge.datapath
    if wanted == "auto":
        if bridge:
            return bridge.datapath_type or "system"
        return "system" if kernel_datapath() else "netdev"
    if wanted == "system" and not kernel_datapath():
        raise MonitorError(
            "this kernel has no datapath of Open vSwitch (CONFIG_OPENVSWITCH): load the module "
            'openvswitch, or set datapath = "netdev"'
        )
    return wanted


def loosen(picture: Picture, remade: set[str]) -> Transaction:
    """Return what takes ports out whose cable is made anew: the switch would go on listening at
    the interface that is no more, without a word (seen with the userspace datapath)."""
    change = Transaction()
    for name in sorted(remade):
        port = picture.port(name)
        bridge = port and picture.bridge_of(port)
        if bridge:
            change.add(f"- port {name} of {bridge.name}", "del-port", bridge.name, name)
    return change


def bridge_and_ports(monitor: Monitor, picture: Picture, gone: set[str]) -> Transaction:
    """Return what makes the bridge and its ports as they should be; `gone` are ports of the
    picture that will have been taken out before."""
    change = Transaction()
    bridge = picture.bridge(monitor.bridge.name)
    _bridge(change, monitor, bridge, picture)
    _ports(change, monitor, picture, gone)
    for row in picture.bridges.values():
        if is_marked(row, monitor.name) and row is not bridge:
            change.add(f"- bridge {row.name}", "del-br", row.name)
    return change


def _bridge(
    change: Transaction, monitor: Monitor, bridge: BridgeRow | None, picture: Picture
) -> None:
    name, wanted = monitor.bridge.name, monitor.bridge
    kind = datapath(monitor, bridge)
    if bridge is None:
        change.add(f"+ bridge {name}, datapath {kind}", "add-br", name)
        change.add("", "set", "Bridge", name, marked(monitor.name))
    for key, value, present in (
        ("datapath_type", kind, (bridge.datapath_type or "system") if bridge else ""),
        ("fail_mode", wanted.fail_mode, bridge.fail_mode if bridge else ""),
        (
            "protocols",
            ",".join(sorted(wanted.protocols)),
            ",".join(sorted(bridge.protocols)) if bridge else "",
        ),
    ):
        if value != present:
            line = f"~ {name}: {key} {value}" if bridge or key != "datapath_type" else ""
            change.add(line, "set", "Bridge", name, f"{key}={value}")
    target = controller_target(monitor)
    present_rows = [picture.controllers[one] for one in bridge.controller] if bridge else []
    if [target] * bool(target) == [row.target for row in present_rows]:
        return
    if not target:
        change.add(f"- {name}: controller", "del-controller", name)
        return
    change.add(f"~ {name}: controller {target}", "set-controller", name, target)
    if monitor.controller.connect == "embedded":
        # No hidden flows that would let its traffic through: it does not come through the bridge.
        change.add("", "set", "Controller", name, "connection_mode=out-of-band")


def controller_target(monitor: Monitor) -> str:
    """Return what the bridge connects to, as Open vSwitch writes it; empty for nobody."""
    if monitor.controller.connect == "embedded":
        return f"tcp:127.0.0.1:{monitor.controller.port}"
    return monitor.controller.connect


def _ports(change: Transaction, monitor: Monitor, picture: Picture, gone: set[str]) -> None:
    name = monitor.bridge.name
    bridge = picture.bridge(name)
    for number, (port_name, vlan) in enumerate(ports(monitor).items(), 1):
        port = picture.port(port_name) if port_name not in gone else None
        tag = f", VLAN {vlan}" if vlan else ""
        if port is None:
            change.add(f"+ port {port_name} of {name}{tag}", "add-port", name, port_name)
            change.add("", "set", "Port", port_name, marked(monitor.name))
            # The same number in the flow table each time, also after a container's restart.
            change.add("", "set", "Interface", port_name, f"ofport_request={number}")
            if vlan:
                change.add("", "set", "Port", port_name, f"tag={vlan}")
        elif port.tag != ((vlan,) if vlan else ()):
            line = f"~ port {port_name}{tag or ', no VLAN'}"
            if vlan:
                change.add(line, "set", "Port", port_name, f"tag={vlan}")
            else:
                change.add(line, "clear", "Port", port_name, "tag")
    for port in picture.ports.values():
        mine = bridge and port.id in bridge.ports and is_marked(port, monitor.name)
        wanted = {*ports(monitor), monitor.uplink.interface} | gone
        if mine and port.name not in wanted:
            change.add(f"- port {port.name} of {name}", "del-port", name, port.name)


def mirrors(monitor: Monitor, picture: Picture, gone: set[str]) -> Transaction:
    """Return what makes the mirrors as they should be, once all ports are there."""
    change = Transaction()
    name = monitor.bridge.name
    bridge = picture.bridge(name)
    for number, mirror in enumerate(monitor.mirrors):
        row = _mirror_row(mirror.name, bridge, picture)
        wanted = selection(monitor, mirror)
        if row is not None and wanted == _present(row, picture, gone):
            continue
        sources, destinations, every, vlans, output = wanted
        refs = {}
        for at, port in enumerate(sorted({*sources, *destinations, output})):
            refs[port] = f"@m{number}p{at}"
            change.add("", f"--id={refs[port]}", "get", "Port", port)
        fields = [
            f"select_src_port=[{','.join(refs[one] for one in sorted(sources))}]",
            f"select_dst_port=[{','.join(refs[one] for one in sorted(destinations))}]",
            f"select_all={'true' if every else 'false'}",
            f"select_vlan=[{','.join(map(str, sorted(vlans)))}]",
            f"output_port={refs[output]}",
        ]
        text = f"mirror {mirror.name} of {name}: {described(monitor, mirror)}"
        if row is not None:
            change.add(f"~ {text}", "set", "Mirror", row.id, *fields)
            continue
        ref = f"@m{number}"
        mark = marked(monitor.name)
        change.add(
            f"+ {text}", f"--id={ref}", "create", "Mirror", f"name={mirror.name}", mark, *fields
        )
        change.add("", "add", "Bridge", name, "mirrors", ref)
    if bridge is None:
        return change
    names = {mirror.name for mirror in monitor.mirrors}
    for one in bridge.mirrors:
        row = picture.mirrors[one]
        if is_marked(row, monitor.name) and row.name not in names:
            change.add(f"- mirror {row.name}", "remove", "Bridge", name, "mirrors", row.id)
    return change


Selection = tuple[frozenset[str], frozenset[str], bool, frozenset[int], str]


def selection(monitor: Monitor, mirror: Mirror) -> Selection:
    """Return what a mirror is to select, as names of ports, and its output."""
    return (
        frozenset(port_of(monitor, one) for one in mirror.source),
        frozenset(port_of(monitor, one) for one in mirror.destination),
        mirror.all,
        frozenset(mirror.vlans),
        port_of(monitor, mirror.output),
    )


def _present(row: MirrorRow, picture: Picture, gone: set[str]) -> Selection:
    return (
        frozenset(picture.names(row.select_src_port) - gone),
        frozenset(picture.names(row.select_dst_port) - gone),
        row.select_all,
        frozenset(row.select_vlan),
        next(iter(picture.names([row.output_port]) - gone), ""),
    )


def described(monitor: Monitor, mirror: Mirror) -> str:
    """Return a mirror's selection in words."""
    parts = ["everything"] if mirror.all else []
    if mirror.source:
        parts.append(f"from {', '.join(mirror.source)}")
    if mirror.destination:
        parts.append(f"to {', '.join(mirror.destination)}")
    vlans = f" in VLAN {', '.join(map(str, mirror.vlans))}" if mirror.vlans else ""
    return f"{' and '.join(parts)}{vlans}, copied to {mirror.output}"


def _mirror_row(name: str, bridge: BridgeRow | None, picture: Picture) -> MirrorRow | None:
    rows = (picture.mirrors[one] for one in bridge.mirrors) if bridge else iter(())
    return next((row for row in rows if row.name == name), None)
