"""Two hosts on a switch and a third that gets copies of what the first two send and receive.

host a, eth0 -- p1 \\
host b, eth0 -- p2 -- s1 in the namespace sw;  copies of p1, p2 -> pm -- eth0 in the namespace mon
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.monitor.ovs import PrivateSwitch, private_switch
from tests.net.namespaces import Network

MIRROR = (
    "-- --id=@a get port p1 -- --id=@b get port p2 -- --id=@m get port pm "
    "-- --id=@new create mirror name=espejo {what} output-port=@m -- set bridge s1 mirrors=@new"
)
BOTH = "select-src-port=@a,@b select-dst-port=@a,@b"
CAPTURE = [sys.executable, "-m", "ids_appliance", "monitor", "capture"]


@dataclass(frozen=True)
class Mirrored:
    """The network, its switch, and what both count."""

    net: Network
    switch: PrivateSwitch

    @property
    def monitor(self) -> str:
        """The namespace of the monitor."""
        return self.net.full("mon")

    def select(self, what: str) -> None:
        """Mirror something else: words of ovs-vsctl's, with @a and @b for the hosts' ports."""
        self.switch.vsctl("clear", "bridge", "s1", "mirrors")
        self.switch.vsctl(*MIRROR.format(what=what).split())
        # Else flows that are under way go on to be copied as before (ovs-vswitchd(8)).
        self.switch.run("ovs-appctl", "revalidator/purge")

    def capture(self, *words: str) -> list[str]:
        """Return the words that capture at the monitor."""
        where = ["--engine", "none", "--interface", "eth0", "--namespace", self.monitor]
        return [*CAPTURE, *where, *words]

    def statistics(self, table: str, name: str) -> dict[str, int]:
        """Return what the switch has counted of a row: of an interface, of a mirror."""
        # Statistics come into the database every so often; this asks for it.
        text = self.switch.vsctl("--format=json", "--columns=statistics", "find", table,
                                 f"name={name}")  # fmt: skip
        found: Any = msgspec.json.decode(text)["data"]
        return dict(found[0][0][1])

    def link(self, host: str) -> dict[str, int]:
        """Return what the kernel has counted at a host's eth0."""
        place = "/sys/class/net/eth0/statistics"
        names = ("rx_packets", "rx_dropped", "tx_packets", "tx_dropped")
        paths = [f"{place}/{name}" for name in names]
        done = self.switch.run("ip", "netns", "exec", self.net.full(host), "cat", *paths)
        return dict(zip(names, map(int, done.split()), strict=True))


@contextmanager
def mirrored(directory: Path, tag: str) -> Iterator[Mirrored]:
    """Build it; remove it afterwards. IPv6 is off, so that nobody speaks unasked."""
    with (
        Network(tag, "a", "b", "mon", "sw") as net,
        private_switch(directory, namespace=net.full("sw")) as switch,
    ):
        for host in ("a", "b", "mon", "sw"):
            for scope in ("all", "default"):
                net.write(host, f"net/ipv6/conf/{scope}/disable_ipv6", "1")
        for number, (host, port) in enumerate((("a", "p1"), ("b", "p2"), ("mon", "pm"))):
            net.veth((host, "eth0"), ("sw", port))
            if host != "mon":
                net.ip(host, f"addr add 192.168.1.{222 + number}/24 dev eth0")
        switch.vsctl("add-br", "s1", "--", "set", "bridge", "s1", "datapath_type=netdev")
        # Statistics in the database are brought up to date as often as possible.
        switch.vsctl("set", "open_vswitch", ".", "other_config:stats-update-interval=5000")
        for port in ("p1", "p2", "pm"):
            switch.vsctl("add-port", "s1", port)
        there = Mirrored(net, switch)
        there.select(BOTH)
        yield there
