"""A layout in, its namespaces wired up and running out: `with Lab("routed") as lab`."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from ids_appliance.errors import LabError
from ids_appliance.lab import layouts
from ids_appliance.lab.layouts import (
    GATEWAY,
    HOSTS,
    PORTS,
    ROUTER,
    SWITCH,
    Net,
    Segment,
)
from ids_appliance.lab.namespaces import Network, require, run
from ids_appliance.lab.wiring import Wiring, require_vlan

_KILL_AFTER: Final = "--kill-after=2"


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
            self._scratch = tempfile.TemporaryDirectory(prefix=self._net.full("scratch-"))
            Wiring(self._net, self.layout).build()
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
        for segment, number in layouts.places(self.layout, host):
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
        return layouts.host_of(host).segment

    def next_hop(self, segment: Segment) -> str:
        """Return the IPv4 address through which a segment reaches the others."""
        return self.net(segment).address4(layouts.next_hop(segment))

    def port(self, host: str) -> str:
        """Return the gateway's interface behind which a host is."""
        segment = self.segment(host)
        if segment == "node":
            return "node0"
        if self.layout.bridged:
            return "uplink" if segment == "outside" else f"p-{host}"
        return PORTS[segment]

    def next_hop_mac(self, host: str, target: str) -> bytes:
        """Return the MAC to which a host sends what is for a target (a host's name or address)."""
        if target in self._host and self.net(self.segment(target)) == self.net(self.segment(host)):
            return self.mac(target)
        segment = self.segment(host)
        if not self.layout.bridged:
            return self.mac(GATEWAY, PORTS[segment])
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
        segment, number = layouts.places(self.layout, host)[0]
        self.ip(
            host,
            "link set eth0 down",  # which takes IPv6 addresses and all routes away
            f"link set eth0 address {mac}",
            "link set eth0 up",
            f"addr replace {self.net(segment).address6(number)}/64 dev eth0 nodad",
            *layouts.ways_out(self.layout, segment),
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


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process of `Lab.popen` and what it has started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
