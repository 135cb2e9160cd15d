"""Three hosts on a private switch that our controller can tell what to do, and a monitor.

h1 192.0.2.1 -- p1  +----+  pm -- mon (eth1, no address)
h2 192.0.2.2 -- p2  | s1 |
h3 192.0.2.3 -- p3  +----+  mirror `espejo`: from and to p1 and p2, out at pm
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.monitor.ovs import PrivateSwitch, private_switch
from tests.net.namespaces import Network, wait_for

HOSTS = ("h1", "h2", "h3")
PORT = 6653
TARGET = f"tcp:127.0.0.1:{PORT}"
MIRROR = (
    "-- --id=@1 get port p1 -- --id=@2 get port p2 -- --id=@m get port pm -- --id=@e create mirror "
    "name=espejo select-src-port=@1,@2 select-dst-port=@1,@2 output-port=@m "
    "-- set bridge s1 mirrors=@e"
)


def address(host: str) -> str:
    return f"192.0.2.{host[1:]}"


def mac(host: str) -> str:
    return f"02:00:00:00:00:0{host[1:]}"


@dataclass
class Controlled:
    """The network."""

    net: Network
    switch: PrivateSwitch

    @contextmanager
    def controller(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run our controller until the switch has its entries; end it afterwards."""
        command = [sys.executable, "-m", "ids_appliance", "monitor", "controller", *words]
        with subprocess.Popen(
            self.net.command("sw", *command), stderr=subprocess.PIPE, text=True
        ) as running:
            try:
                assert running.stderr is not None
                told = iter(running.stderr)
                assert any("is here" in line for line in told), "the switch has not connected"
                wait_for(lambda: "priority=0" in self.entries(1) + self.entries(0))
                yield running
            finally:
                if running.poll() is None:
                    running.terminate()
                    running.communicate()

    def totals(self, running: subprocess.Popen[str]) -> dict[str, int]:
        """End a controller; return what it has counted."""
        running.terminate()
        assert running.stderr is not None
        text = running.stderr.read()
        assert running.wait(20) == 0, text
        return {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", text.splitlines()[-1])}

    def connect(self, mode: str = "secure") -> None:
        """Tell the switch of our controller."""
        self.switch.vsctl("set-fail-mode", "s1", mode, "--", "set-controller", "s1", TARGET)
        # It looks every second whether anybody is there.
        self.switch.vsctl("set", "controller", "s1", "max_backoff=1000", "inactivity_probe=5000")

    def connected(self) -> bool:
        """Return whether the switch has a controller now."""
        return "true" in self.switch.vsctl("--columns=is_connected", "list", "controller")

    def entries(self, table: int) -> str:
        """Return the entries of a table, as the switch prints them."""
        return self.switch.ofctl("--no-names", "--no-stats", "dump-flows", "s1", f"table={table}")

    def ping(self, host: str, other: str, *, count: int = 1, wait_s: int = 0) -> bool:
        """Return whether echoes, one after the other, are all answered.

        Each is sent up to ten times: a busy machine loses frames at the switch's sockets, and an
        ARP request that got lost ends an echo at once. wait_s: send it once, wait so long: for
        those that must not be answered.
        """
        tries, each = (1, wait_s) if wait_s else (10, 4)
        words = ["ping", "-n", "-q", "-c", "1", "-W", str(each), address(other)]
        command = self.net.command(host, *words)

        def answered() -> bool:
            return any(
                subprocess.run(command, capture_output=True).returncode == 0 for _ in range(tries)
            )

        return all(answered() for _ in range(count))


@contextmanager
def controlled(directory: Path, tag: str) -> Iterator[Controlled]:
    """Build it, without a controller at first; everything is gone afterwards."""
    with Network(tag, "sw", "mon", *HOSTS) as net:
        with private_switch(directory, namespace=net.full("sw")) as switch:
            of13 = ("datapath_type=netdev", "protocols=OpenFlow13", "fail-mode=standalone")
            switch.vsctl("add-br", "s1", "--", "set", "bridge", "s1", *of13)
            ends = [(f"p{host[1:]}", host, int(host[1:])) for host in HOSTS] + [("pm", "mon", 9)]
            for port, host, number in ends:
                net.veth(("sw", port), (host, "eth1"))
                asked = ("set", "interface", port, f"ofport_request={number}")
                switch.vsctl("add-port", "s1", port, "--", *asked)
            for host in HOSTS:
                net.ip(host, f"link set eth1 address {mac(host)}")
                net.ip(host, f"addr add {address(host)}/24 dev eth1")
            switch.vsctl(*MIRROR.split())
            yield Controlled(net, switch)
