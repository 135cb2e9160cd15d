"""A monitor's settings in, how it is now out: ports, hosts, mirrors, controller, losses."""

from typing import Final

import msgspec

from ids_appliance.errors import MonitorError
from ids_appliance.monitor import hosts, ports, watchdog
from ids_appliance.monitor import links as kernel
from ids_appliance.monitor.contradictions import port_of
from ids_appliance.monitor.plan import plan
from ids_appliance.monitor.record import Records
from ids_appliance.monitor.settings import Host, Monitor
from ids_appliance.monitor.switch import BridgeRow, Picture, Switch

_UNUSABLE: Final = -1


class PortStatus(msgspec.Struct, frozen=True):
    """One port of the bridge."""

    name: str
    host: str
    """Who is behind it; empty for the bridge's own, the uplink and ports of others."""
    number: int
    """OpenFlow's; -1 where the switch cannot use it."""
    vlan: int
    link: str
    """up, down or missing."""
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    dropped: int
    """In either direction, with errors."""
    error: str


class HostStatus(msgspec.Struct, frozen=True):
    """One host."""

    name: str
    place: str
    """"namespace Host1" or "container Host1"."""
    joined: bool
    interface: str
    mac: str
    addresses: tuple[str, ...]
    """As they are, not as they should be."""


class MirrorStatus(msgspec.Struct, frozen=True):
    """One mirror."""

    name: str
    selects: str
    output: str
    there: bool
    tx_packets: int
    tx_bytes: int
    dropped: int
    """Copies that the output port could not take."""


class ControllerStatus(msgspec.Struct, frozen=True):
    """The controller as the bridge sees it."""

    target: str
    connected: bool
    state: str
    """ACTIVE, BACKOFF, ...; with the last error, if there is one."""


class UplinkStatus(msgspec.Struct, frozen=True):
    """The uplink."""

    interface: str
    moved: bool
    confirmed: bool
    guarded: bool
    """A watchdog will undo the move unless somebody confirms."""


class Status(msgspec.Struct, frozen=True):
    """A monitor at one moment."""

    name: str
    bridge: str
    up: bool
    """The bridge is there and is ours."""
    missing: tuple[str, ...]
    """What `up` would change, or why it cannot be said."""
    datapath: str = ""
    datapath_id: str = ""
    fail_mode: str = ""
    flows: int = 0
    flow_packets: int = 0
    flow_bytes: int = 0
    controller: ControllerStatus | None = None
    uplink: UplinkStatus | None = None
    ports: tuple[PortStatus, ...] = ()
    hosts: tuple[HostStatus, ...] = ()
    mirrors: tuple[MirrorStatus, ...] = ()


def status(monitor: Monitor) -> Status:
    """Return how a monitor is now. Raises SwitchDown, MonitorError."""
    switch = Switch(monitor.ovs_run_dir)
    records = Records(monitor.run_dir, monitor.name)
    switch.require()
    picture = switch.picture()
    try:
        missing = plan(monitor, switch, records, waiting=True).lines
    except MonitorError as error:
        missing = (str(error),)
    bridge = ports.own_bridge(monitor, picture)
    if bridge is None:
        return Status(name=monitor.name, bridge=monitor.bridge.name, up=False, missing=missing)
    try:
        flows = switch.aggregate(bridge.name, monitor.bridge.protocols[0])
    except MonitorError:  # the bridge was just made, or goes: its socket is not there
        flows = {}
    return Status(
        name=monitor.name,
        bridge=bridge.name,
        up=True,
        missing=missing,
        datapath=bridge.datapath_type or "system",
        datapath_id=bridge.datapath_id,
        fail_mode=bridge.fail_mode or "standalone",
        flows=flows.get("flow_count", 0),
        flow_packets=flows.get("packet_count", 0),
        flow_bytes=flows.get("byte_count", 0),
        controller=_controller(bridge, picture),
        uplink=_uplink(monitor, records, picture),
        ports=tuple(_ports(monitor, bridge, picture)),
        hosts=tuple(map(_host, monitor.hosts)),
        mirrors=tuple(_mirrors(monitor, bridge, picture)),
    )


def _ports(monitor: Monitor, bridge: BridgeRow, picture: Picture) -> list[PortStatus]:
    behind = {host.bridge_end: host.name for host in monitor.hosts}
    rows = []
    for one in bridge.ports:
        port = picture.ports[one]
        face = picture.interface(port.name) or picture.interfaces[port.interfaces[0]]
        counted = face.statistics
        lost = ("rx_dropped", "tx_dropped", "rx_errors", "tx_errors")
        rows.append(
            PortStatus(
                name=port.name,
                host=behind.get(port.name, ""),
                number=face.ofport,
                vlan=port.tag[0] if port.tag else 0,
                link=(face.link_state or "missing") if face.ifindex else "missing",
                rx_packets=counted.get("rx_packets", 0),
                rx_bytes=counted.get("rx_bytes", 0),
                tx_packets=counted.get("tx_packets", 0),
                tx_bytes=counted.get("tx_bytes", 0),
                dropped=sum(counted.get(key, 0) for key in lost),
                error=face.error,
            )
        )
    return sorted(rows, key=lambda row: (row.number == _UNUSABLE, row.number))


def _host(host: Host) -> HostStatus:
    name = hosts.namespace_of(host)
    kind = "container" if host.container else "namespace"
    try:
        inner = kernel.links(name).get(host.inside) if kernel.present(name) else None
    except MonitorError:  # it ended between the two
        inner = None
    return HostStatus(
        name=host.name,
        place=f"{kind} {name}",
        joined=inner is not None and inner.running,
        interface=host.inside,
        mac=inner.address if inner else "",
        addresses=tuple(sorted(inner.addresses())) if inner else (),
    )


def _mirrors(monitor: Monitor, bridge: BridgeRow, picture: Picture) -> list[MirrorStatus]:
    there = {picture.mirrors[one].name: picture.mirrors[one] for one in bridge.mirrors}
    rows = []
    for mirror in monitor.mirrors:
        row = there.get(mirror.name)
        face = picture.interface(port_of(monitor, mirror.output))
        lost = face.statistics if face else {}
        rows.append(
            MirrorStatus(
                name=mirror.name,
                selects=ports.described(monitor, mirror),
                output=port_of(monitor, mirror.output),
                there=row is not None and bool(picture.names([row.output_port])),
                tx_packets=row.statistics.get("tx_packets", 0) if row else 0,
                tx_bytes=row.statistics.get("tx_bytes", 0) if row else 0,
                dropped=lost.get("tx_dropped", 0) + lost.get("tx_errors", 0),
            )
        )
    return rows


def _controller(bridge: BridgeRow, picture: Picture) -> ControllerStatus | None:
    rows = [picture.controllers[one] for one in bridge.controller]
    if not rows:
        return None
    row = rows[0]
    words = [row.status.get(key, "") for key in ("state", "last_error")]
    return ControllerStatus(row.target, row.is_connected, ", ".join(filter(None, words)))


def _uplink(monitor: Monitor, records: Records, picture: Picture) -> UplinkStatus | None:
    name = monitor.uplink.interface
    if not name:
        return None
    record = records.read()
    was = record.uplink if record else None
    port = picture.port(name)
    return UplinkStatus(
        interface=name,
        moved=was is not None and port is not None,
        confirmed=was is not None and was.confirmed,
        guarded=was is not None and watchdog.listening(records, was.token),
    )
