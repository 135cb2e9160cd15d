"""A layout in, its namespaces wired up and running out: `with Lab("routed") as lab`."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from ids_appliance.errors import LabError
from ids_appliance.lab import layouts
from ids_appliance.lab.layouts import (
    ACCESS_POINT_MAC,
    ACCESS_POINT_NUMBER,
    BORDER_NUMBER,
    GATEWAY,
    GATEWAY_NUMBER,
    HOSTS,
    ROUTER,
    SWITCH,
    Host,
    Net,
    Segment,
)
from ids_appliance.lab.namespaces import Network, require, run

_KILL_AFTER: Final = "--kill-after=2"
_CONF: Final = "net/ipv4/conf"
_VLANS: Final[dict[Segment, int]] = {"iot": 10, "home": 20, "outside": 30}
_PORTS: Final[dict[Segment, str]] = {"iot": "iot0", "home": "guest0", "outside": "wan0"}
"""Segment -> the routing gateway's interface there."""


class Lab:
    """One layout's hosts and the processes started in them; leaving it removes everything."""

    def __init__(self, layout: str = "routed", *, tag: str = "l") -> None:
        self.layout = layouts.layout(layout)
        border = (ROUTER,) if self.layout.bridged else ()
        self.hosts: tuple[str, ...] = (GATEWAY, *border, *(host.name for host in HOSTS))
        """Everybody, the gateway first."""
        self.devices: tuple[str, ...] = tuple(h.name for h in HOSTS if h.segment == "iot")
        self.interfaces: tuple[str, ...] = self.layout.captured
        """The gateway's protected side."""
        self.border = border[0] if border else GATEWAY
        """Who routes, names and leases: the gateway, or the router beyond an access point."""
        self._net = Network(f"{tag}-", SWITCH, *self.hosts)
        self._host = {host.name: host for host in HOSTS}
        self.services: dict[str, subprocess.Popen[Any]] = {}
        """Long-running servers by name (see services.py)."""
        self._started: list[subprocess.Popen[Any]] = []
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        require()
        if self.layout.trunk:
            require_vlan()
        self._net.__enter__()
        try:
            self._scratch = tempfile.TemporaryDirectory(prefix="ids-lab-")
            self._wire()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            end_group(process)
        self._net.__exit__()
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._started.clear()
        if self._scratch is not None:
            self._scratch.cleanup()

    @property
    def directory(self) -> Path:
        """Scratch files of this lab; removed with it."""
        if self._scratch is None:
            raise LabError("the lab is not up")
        return Path(self._scratch.name)

    # Who is who

    def addresses(self, host: str) -> tuple[str, ...]:
        """Return a host's addresses, IPv4 before IPv6; of one with several interfaces, all."""
        found: list[str] = []
        for segment, number in self._places(host):
            net = self.net(segment)
            found += [net.address4(number), net.address6(number)]
        return tuple(found)

    def address(self, host: str, family: int = 4) -> str:
        """Return a host's first address of a family (4 or 6)."""
        return self.addresses(host)[0 if family == 4 else 1]

    def mac(self, host: str, interface: str = "eth0") -> bytes:
        """Return the present MAC of a host's interface."""
        return self._net.mac(host, interface)

    def net(self, segment: Segment) -> Net:
        """Return a segment's addresses."""
        return layouts.net_of(segment, bridged=self.layout.bridged)

    def segment(self, host: str) -> Segment:
        """Return where a host hangs."""
        return self._known(host).segment

    def next_hop(self, segment: Segment) -> str:
        """Return the IPv4 address through which a segment reaches the others."""
        number = BORDER_NUMBER if segment == "outside" else GATEWAY_NUMBER
        return self.net(segment).address4(number)

    def port(self, host: str) -> str:
        """Return the gateway's interface behind which a host is."""
        segment = self.segment(host)
        if segment == "node":
            return "node0"
        if self.layout.bridged:
            return "uplink" if segment == "outside" else f"p-{host}"
        return _PORTS[segment]

    def next_hop_mac(self, host: str, target: str) -> bytes:
        """Return the MAC to which a host sends what is for a target (a host's name or address)."""
        if target in self._host and self.net(self.segment(target)) == self.net(self.segment(host)):
            return self.mac(target)
        segment = self.segment(host)
        if not self.layout.bridged:
            return self.mac(GATEWAY, _PORTS[segment])
        return self.mac(ROUTER, "wan0" if segment == "outside" else "lan0")

    @property
    def gateway_interfaces(self) -> tuple[str, ...]:
        """The gateway's captured interfaces and, of a bridge, its ports."""
        if not self.layout.bridged:
            return self.interfaces
        ports = [f"p-{h.name}" for h in HOSTS if h.segment in ("iot", "home")]
        return ("br0", "uplink", *ports)

    @cached_property
    def routers(self) -> tuple[bytes, ...]:
        """MACs of routers on the protected side."""
        return (self.mac(ROUTER, "lan0"),) if self.layout.bridged else ()

    # What runs in it

    def full(self, host: str) -> str:
        """Return the system's name of a host's namespace."""
        if host not in (*self.hosts, SWITCH):
            raise LabError(f"there is no host {host!r} in layout {self.layout.name}")
        return self._net.full(host)

    def command(self, host: str, *words: str) -> list[str]:
        """Return the words that run a command on a host."""
        return ["ip", "netns", "exec", self.full(host), *words]

    def popen(
        self,
        host: str,
        words: Sequence[str],
        *,
        limit_s: float | None = None,
        stdin: int | None = subprocess.DEVNULL,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command on a host, in a session of its own; it is killed with the lab at last.

        With `limit_s` it ends by then even if this process does not live to see it. Further
        options are those of subprocess.Popen; what is not asked for is discarded.
        """
        bounded = ["timeout", _KILL_AFTER, f"{limit_s}"] if limit_s is not None else []
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        process = subprocess.Popen(
            self.command(host, *bounded, *words),
            stdin=stdin,
            start_new_session=True,
            **options,
        )
        self._started.append(process)
        return process

    def run(self, host: str, *words: str, limit_s: float = 30.0) -> str:
        """Run a command on a host that has to succeed; return what it printed. Raises LabError."""
        return run(*self.command(host, "timeout", _KILL_AFTER, f"{limit_s}", *words))

    def inside(self, host: str) -> contextlib.AbstractContextManager[None]:
        """Let this thread live on a host: sockets made there stay there."""
        self.full(host)
        return self._net.inside(host)

    def ip_socket(
        self, host: str, kind: int = socket.SOCK_STREAM, family: int = 4
    ) -> socket.socket:
        """Return a socket that lives on a host (SOCK_STREAM or SOCK_DGRAM; family 4 or 6)."""
        with self.inside(host):
            return socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)

    def packet_socket(self, host: str, interface: str = "eth0") -> socket.socket:
        """Return a non-blocking socket for whole frames of a host's interface."""
        self.full(host)
        return self._net.packet_socket(host, interface)

    def change_card(self, host: str, mac: str) -> None:
        """Give a host another MAC; its addresses stay."""
        segment, number = self._places(host)[0]
        self.ip(
            host,
            "link set eth0 down",  # which takes IPv6 addresses and all routes away
            f"link set eth0 address {mac}",
            "link set eth0 up",
            f"addr replace {self.net(segment).address6(number)}/64 dev eth0 nodad",
            *self._routes(segment),
        )

    def forget_neighbours(self) -> None:
        """Let everybody ask anew who has which address, as if nobody had ever lied."""
        for host in self.hosts:
            self.ip(host, "neigh flush all")

    def write(self, host: str, path: str, value: str) -> None:
        """Set a sysctl of a host, such as net/ipv4/tcp_syncookies."""
        self._net.write(host, path, value)

    def ip(self, host: str, *lines: str) -> None:
        """Run `ip` commands on a host in one go. Raises LabError at the first bad one."""
        self._net.ip(host, *lines)

    # How it is built

    def _known(self, host: str) -> Host:
        if host not in self._host:
            raise LabError(f"there is no device or server {host!r}: {', '.join(self._host)}")
        return self._host[host]

    def _places(self, host: str) -> list[tuple[Segment, int]]:
        if host == GATEWAY and self.layout.bridged:
            return [("iot", ACCESS_POINT_NUMBER), ("node", GATEWAY_NUMBER)]
        if host == self.border:
            lans: list[Segment] = ["iot"] if self.layout.bridged else ["iot", "home"]
            nodes: list[tuple[Segment, int]]
            nodes = [("node", GATEWAY_NUMBER)] if host == GATEWAY else []
            return [(lan, GATEWAY_NUMBER) for lan in lans] + [("outside", BORDER_NUMBER)] + nodes
        known = self._known(host)
        return [(known.segment, layouts.number_of(known, bridged=self.layout.bridged))]

    def _wire(self) -> None:
        for name in (SWITCH, GATEWAY, self.border):
            self._net.write(name, f"{_CONF}/all/rp_filter", "0")  # forged senders get through
            self._net.write(name, f"{_CONF}/default/rp_filter", "0")
        self._net.write(SWITCH, "net/ipv6/conf/default/disable_ipv6", "1")
        if self.layout.bridged:
            self._wire_access_point()
        elif self.layout.trunk:
            self._wire_trunk()
        else:
            self._wire_routed()
        self._cable(GATEWAY, {"node": "node0"})
        for host in HOSTS:
            self._settle(host)
            # Half-open connections of one flood do not answer into the next scenario.
            self._net.write(host.name, "net/ipv4/tcp_synack_retries", "1")
        self._net.write(self.border, "net/ipv4/ip_forward", "1")
        self._net.write(self.border, "net/ipv6/conf/all/forwarding", "1")
        # What a relay such as a man in the middle provokes is not for the gateway to comment.
        self._net.write(self.border, f"{_CONF}/all/send_redirects", "0")

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
            mac = f"address {layouts.mac_of(self._host[name])} " if name in self._host else ""
            end = "eth0" if name in self._host else _far_end(port)
            lines += [
                f"link add {port} type veth peer name {end} {mac}netns {self.full(name)}",
                f"link set {port} {master}up",
            ]
        self._net.ip(where, *lines)
        self._net.offloads_off(where, *ports.values())
        for name, port in ports.items():
            self._net.offloads_off(name, "eth0" if name in self._host else _far_end(port))

    def _members(self, *segments: Segment) -> dict[str, str]:
        return {h.name: f"p-{h.name}" for h in HOSTS if h.segment in segments}

    def _wire_routed(self) -> None:
        for segment, port in _PORTS.items():
            self._switch(SWITCH, f"br-{segment}")
            self._cable(SWITCH, self._members(segment), bridge=f"br-{segment}")
            self._cable(SWITCH, {GATEWAY: f"u-{port}"}, bridge=f"br-{segment}")
        self._address(GATEWAY, _PORTS)

    def _wire_trunk(self) -> None:
        self._cable(SWITCH, {GATEWAY: "u-trunk0"})
        self._net.ip(GATEWAY, "link set trunk0 up")
        for segment, port in _PORTS.items():
            vlan = f"type vlan id {_VLANS[segment]}"
            self._switch(SWITCH, f"br-{segment}")
            self._cable(SWITCH, self._members(segment), bridge=f"br-{segment}")
            self._net.ip(
                SWITCH,
                f"link add link u-trunk0 name v-{port} {vlan}",
                f"link set v-{port} master br-{segment} up",
            )
            self._net.ip(GATEWAY, f"link add link trunk0 name {port} {vlan}")
        self._address(GATEWAY, _PORTS)

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
        self._net.ip(GATEWAY, *self._routes("iot"))

    def _address(self, host: str, ports: Mapping[Any, str]) -> None:
        """Give a gateway or router its addresses on its ports, and the way out."""
        numbers = dict(self._places(host))
        lines = []
        for segment, port in ports.items():
            net, number = self.net(segment), numbers[segment]
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

    def _routes(self, segment: Segment) -> list[str]:
        net = self.net(segment)
        number = BORDER_NUMBER if segment == "outside" else GATEWAY_NUMBER
        return [
            f"route add default via {net.address4(number)}",
            f"route add ::/0 via {net.address6(number)}",
        ]

    def _settle(self, host: Host) -> None:
        """Give a host its addresses, its way to the others and its name server."""
        net = self.net(host.segment)
        number = layouts.number_of(host, bridged=self.layout.bridged)
        lines = [
            f"addr add {net.address4(number)}/24 brd + dev eth0",
            f"addr add {net.address6(number)}/64 dev eth0 nodad",
            "link set eth0 up",
        ]
        if host.segment == "node":
            gateway = net.address4(GATEWAY_NUMBER)
            lines = [f"addr add {net.address4(number)}/24 brd + dev eth0", *lines[1:]]
            self._net.ip(GATEWAY, f"addr add {gateway}/24 brd + dev node0")
            self._net.ip(GATEWAY, f"addr add {net.address6(GATEWAY_NUMBER)}/64 dev node0 nodad")
        elif host.name != "isp":  # which knows no way back: what is sent there is gone
            lines += self._routes(host.segment)
        self._net.ip(host.name, *lines)
        if host.segment in ("iot", "home"):
            text = f"nameserver {self.next_hop(host.segment)}\n"
            self._net.setting(host.name, "resolv.conf", text)


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process of `Lab.popen` and what it has started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
