"""A layout and its empty namespaces in, cables, switches, addresses and routes out."""

from collections.abc import Mapping
from typing import Any, Final

from ids_appliance.errors import LabError
from ids_appliance.lab import layouts
from ids_appliance.lab.layouts import (
    ACCESS_POINT_MAC,
    GATEWAY,
    GATEWAY_NUMBER,
    HOSTS,
    PORTS,
    ROUTER,
    SWITCH,
    Host,
    Layout,
    Net,
    Segment,
)
from ids_appliance.lab.namespaces import Network

_CONF: Final = "net/ipv4/conf"
_VLANS: Final[dict[Segment, int]] = {"iot": 10, "home": 20, "outside": 30}
_NAMES: Final = {host.name for host in HOSTS}


class Wiring:
    """Wires one layout up."""

    def __init__(self, net: Network, layout: Layout) -> None:
        self._net = net
        self._layout = layout
        self._border = ROUTER if layout.bridged else GATEWAY

    def build(self) -> None:
        """Do all of it. Raises LabError."""
        for name in {GATEWAY, self._border}:
            for scope in ("all", "default"):
                # Forged senders get through, and a man in the middle is not corrected.
                self._net.write(name, f"{_CONF}/{scope}/rp_filter", "0")
                self._net.write(name, f"{_CONF}/{scope}/send_redirects", "0")
        self._net.write(SWITCH, "net/ipv6/conf/default/disable_ipv6", "1")
        if self._layout.bridged:
            self._wire_access_point()
        elif self._layout.trunk:
            self._wire_trunk()
        else:
            self._wire_routed()
        self._cable(GATEWAY, {"node": "node0"})
        for host in HOSTS:
            self._settle(host)
            # Half-open connections of one flood do not answer into the next scenario.
            self._net.write(host.name, "net/ipv4/tcp_synack_retries", "1")
        self._net.write(self._border, "net/ipv4/ip_forward", "1")
        self._net.write(self._border, "net/ipv6/conf/all/forwarding", "1")

    def _switch(self, where: str, bridge: str) -> None:
        self._net.ip(
            where,
            f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {bridge} up",
        )

    def _cable(self, where: str, ports: Mapping[str, str], *, bridge: str = "") -> None:
        """Connect hosts (name -> interface at this end) to ports, of a bridge if one is named."""
        master = f"master {bridge} " if bridge else ""
        lines = []
        for name, port in ports.items():
            mac = f"address {layouts.mac_of(layouts.host_of(name))} " if name in _NAMES else ""
            end = "eth0" if name in _NAMES else _far_end(port)
            lines += [
                f"link add {port} type veth peer name {end} {mac}netns {self._net.full(name)}",
                f"link set {port} {master}up",
            ]
        self._net.ip(where, *lines)
        self._net.offloads_off(where, *ports.values())
        for name, port in ports.items():
            self._net.offloads_off(name, "eth0" if name in _NAMES else _far_end(port))

    def _members(self, *segments: Segment) -> dict[str, str]:
        return {h.name: f"p-{h.name}" for h in HOSTS if h.segment in segments}

    def _wire_routed(self) -> None:
        for segment, port in PORTS.items():
            self._switch(SWITCH, f"br-{segment}")
            self._cable(SWITCH, self._members(segment), bridge=f"br-{segment}")
            self._cable(SWITCH, {GATEWAY: f"u-{port}"}, bridge=f"br-{segment}")
        self._address(GATEWAY, PORTS)

    def _wire_trunk(self) -> None:
        self._cable(SWITCH, {GATEWAY: "u-trunk0"})
        self._net.ip(GATEWAY, "link set trunk0 up")
        for segment, port in PORTS.items():
            vlan = f"type vlan id {_VLANS[segment]}"
            self._switch(SWITCH, f"br-{segment}")
            self._cable(SWITCH, self._members(segment), bridge=f"br-{segment}")
            self._net.ip(
                SWITCH,
                f"link add link u-trunk0 name v-{port} {vlan}",
                f"link set v-{port} master br-{segment} up",
            )
            self._net.ip(GATEWAY, f"link add link trunk0 name {port} {vlan}")
        self._address(GATEWAY, PORTS)

    def _wire_access_point(self) -> None:
        self._switch(GATEWAY, "br0")
        self._net.ip(GATEWAY, f"link set br0 address {ACCESS_POINT_MAC}")
        self._cable(GATEWAY, self._members("iot", "home"), bridge="br0")
        self._cable(GATEWAY, {ROUTER: "u-lan0"}, bridge="br0")
        self._net.ip(GATEWAY, "link set u-lan0 name uplink")
        self._switch(SWITCH, "br-outside")
        self._cable(SWITCH, self._members("outside"), bridge="br-outside")
        self._cable(SWITCH, {ROUTER: "u-wan0"}, bridge="br-outside")
        self._address(GATEWAY, {"iot": "br0"})
        self._address(ROUTER, {"iot": "lan0", "outside": "wan0"})
        self._net.ip(GATEWAY, *layouts.ways_out(self._layout, "iot"))

    def _address(self, host: str, ports: Mapping[Any, str]) -> None:
        """Give a gateway or router its addresses on its ports, and the way out."""
        numbers = dict(layouts.places(self._layout, host))
        lines = []
        for segment, port in ports.items():
            net, number = self._segment(segment), numbers[segment]
            lines += [
                f"addr add {net.address4(number)}/24 brd + dev {port}",
                f"addr add {net.address6(number)}/64 dev {port} nodad",
                f"link set {port} up",
            ]
            if segment == "outside":
                lines += [
                    f"route add default via {net.address4(1)}",
                    f"route add ::/0 via {net.address6(1)}",
                ]
        self._net.ip(host, *lines)

    def _settle(self, host: Host) -> None:
        """Give a host its addresses, its way to the others and its name server."""
        net = self._segment(host.segment)
        number = layouts.number_of(host, bridged=self._layout.bridged)
        lines = [
            f"addr add {net.address4(number)}/24 brd + dev eth0",
            f"addr add {net.address6(number)}/64 dev eth0 nodad",
            "link set eth0 up",
        ]
        if host.segment == "node":
            self._net.ip(
                GATEWAY,
                f"addr add {net.address4(GATEWAY_NUMBER)}/24 brd + dev node0",
                f"addr add {net.address6(GATEWAY_NUMBER)}/64 dev node0 nodad",
            )
        elif host.name != "isp":  # which knows no way back: what is sent there is gone
            lines += layouts.ways_out(self._layout, host.segment)
        self._net.ip(host.name, *lines)
        if host.segment in ("iot", "home"):
            router = net.address4(layouts.next_hop(host.segment))
            self._net.setting(host.name, "resolv.conf", f"nameserver {router}\n")

    def _segment(self, segment: Segment) -> Net:
        return layouts.net_of(segment, bridged=self._layout.bridged)


def _far_end(port: str) -> str:
    """Return how a gateway's or router's end of a cable is called: u-iot0 leads to iot0."""
    return port.removeprefix("u-")


def require_vlan() -> None:
    """Raise LabError where the kernel knows no VLANs (CONFIG_VLAN_8021Q)."""
    with Network("v", "probe") as net:
        net.ip("probe", "link add p0 type veth peer name p1")
        try:
            net.ip("probe", "link add link p0 name p0.7 type vlan id 7")
        except LabError as error:
            raise LabError(
                "this kernel has no VLANs (CONFIG_VLAN_8021Q): layout vlan cannot be built"
            ) from error
