"""Three hosts on a private switch, and a monitor that gets copies: what S3 has, and one more.

    h1 192.0.2.1 -- p1  +----+  pm -- mon (eth1, no address)
    h2 192.0.2.2 -- p2  | s1 |
    h3 192.0.2.3 -- p3  +----+  mirror `espejo`: from and to p1 and p2, out at pm
"""

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


def address(host: str) -> str:
    return f"192.0.2.{host[1:]}"


def mac(host: str) -> str:
    return f"02:00:00:00:00:0{host[1:]}"


@dataclass
class Mirrored:
    """The network."""

    net: Network
    switch: PrivateSwitch

    @contextmanager
    def controller(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run our controller, with the switch connected to it."""
        command = [sys.executable, "-m", "ids_appliance", "monitor", "controller"]
        with subprocess.Popen(
            self.net.command("sw", *command, *words), stderr=subprocess.PIPE, text=True
        ) as running:
            try:
                assert running.stderr is not None
                for line in running.stderr:
                    if "is here" in line:
                        break
                else:
                    raise AssertionError("the switch has not connected")
                wait_for(lambda: "priority=0" in self.entries(1))
                yield running
            finally:
                if running.poll() is None:
                    running.terminate()
                    running.stderr.read()

    def connect(self, mode: str = "secure") -> None:
        """Tell the switch of our controller."""
        self.switch.vsctl("set-fail-mode", "s1", mode, "--", "set-controller", "s1", TARGET)
        quickly = ("max_backoff=1000", "inactivity_probe=1000")
        self.switch.vsctl("set", "controller", "s1", *quickly)

    def entries(self, table: int) -> str:
        """Return the entries of a table, as the switch prints them."""
        return self.switch.ofctl("--no-names", "--no-stats", "dump-flows", "s1", f"table={table}")

    def ping(self, host: str, other: str, *, count: int = 1) -> bool:
        """Return whether echoes, one after the other, are all answered, in 20 s each."""
        words = ["ping", "-n", "-q", "-c", "1", "-W", "20", address(other)]
        command = self.net.command(host, *words)
        return all(subprocess.run(command, capture_output=True).returncode == 0 for _ in range(count))

    def once(self, host: str, other: str) -> bool:
        """Return whether one echo is answered within a second."""
        words = ["ping", "-n", "-q", "-c", "1", "-W", "1", address(other)]
        return subprocess.run(self.net.command(host, *words), capture_output=True).returncode == 0


TARGET = f"tcp:127.0.0.1:{PORT}"


@contextmanager
def mirrored(directory: Path, tag: str) -> Iterator[Mirrored]:
    """Build it; everything is gone afterwards."""
    with Network(tag, "sw", "mon", *HOSTS) as net:
        with private_switch(directory, namespace=net.full("sw")) as switch:
            of13 = ("datapath_type=netdev", "protocols=OpenFlow13", "fail-mode=standalone")
            switch.vsctl("add-br", "s1", "--", "set", "bridge", "s1", *of13)
            for n, host in enumerate(HOSTS, start=1):
                net.veth(("sw", f"p{n}"), (host, "eth1"))
                net.ip(host, f"link set eth1 address {mac(host)}")
                net.ip(host, f"addr add {address(host)}/24 dev eth1")
                switch.vsctl("add-port", "s1", f"p{n}", "--", "set", "interface", f"p{n}", f"ofport_request={n}")
            net.veth(("sw", "pm"), ("mon", "eth1"))
            switch.vsctl("add-port", "s1", "pm", "--", "set", "interface", "pm", "ofport_request=9")
            switch.vsctl(
                *("--", "--id=@1", "get", "port", "p1", "--", "--id=@2", "get", "port", "p2"),
                *("--", "--id=@m", "get", "port", "pm", "--", "--id=@e", "create", "mirror"),
                *("name=espejo", "select-src-port=@1,@2", "select-dst-port=@1,@2"),
                *("output-port=@m", "--", "set", "bridge", "s1", "mirrors=@e"),
            )
            yield Mirrored(net, switch)
