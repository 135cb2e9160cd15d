"""The role gateway's program for a port: what a bridge or VLAN stands on is switched, and back."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ids_appliance.errors import LabError
from tests.ansible.trees import ROOT
from tests.net.namespaces import Network, require

PROGRAM = ROOT / "ansible" / "roles" / "gateway" / "files" / "port"
CONF = 'offloads_off="gro lro rx-gro-hw"\nrps_cpus="1"\n'
JOINS = "generic-receive-offload: on\n"

pytestmark = pytest.mark.net


class Ports:
    """A bridge of two cables, and a third for a VLAN; GRO is on."""

    def __init__(self, net: Network, place: Path) -> None:
        self._net = net
        text = PROGRAM.read_text("utf-8")
        self._program = place / "port"
        for path, own in (("/etc/ids-appliance/ports", "etc"), ("/run/ids-appliance-port", "run")):
            assert path in text
            (place / own).mkdir()
            text = text.replace(path, str(place / own))
        self._program.write_text(text, "utf-8")
        for name in ("br0", "c0.7"):
            (place / "etc" / f"{name}.conf").write_text(CONF)
        self.kept = place / "run"
        for cable in "abc":
            net.ip("gw", f"link add {cable}0 type veth peer name {cable}1")
            self.say("ethtool", "--features", f"{cable}0", "gro", "on")
        net.ip(
            "gw",
            "link add br0 type bridge",
            "link set a0 master br0",
            "link set b0 master br0",
        )

    def vlan(self) -> None:
        try:
            self._net.ip("gw", "link add link c0 name c0.7 type vlan id 7")
        except LabError:
            pytest.skip("this kernel has no VLANs (CONFIG_VLAN_8021Q)")

    def say(self, *words: str) -> str:
        done = subprocess.run(
            self._net.command("gw", *words), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def order(self, what: str, name: str) -> None:
        self.say("sh", str(self._program), what, name)

    def joining(self) -> set[str]:
        """Return the cables that join packets."""
        ends = ("a0", "b0", "c0")
        return {one for one in ends if JOINS in self.say("ethtool", "--show-features", one)}

    def spread(self, name: str) -> str:
        return self.say("cat", f"/sys/class/net/{name}/queues/rx-0/rps_cpus").strip("0,\n")


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    require("ethtool", "nft")
    with Network("port", "gw") as net:
        made = Ports(net, tmp_path)
        if made.joining() != {"a0", "b0", "c0"}:
            pytest.skip("this kernel joins no packets on a cable")
        yield made


def test_what_a_bridge_stands_on_joins_no_packets(ports: Ports) -> None:
    ports.order("up", "br0")
    assert ports.joining() == {"c0"} and ports.spread("a0") == ports.spread("b0") == "1"
    ports.order("up", "br0")  # as when its settings have changed
    assert ports.joining() == {"c0"}
    ports.order("down", "br0")
    assert ports.joining() == {"a0", "b0", "c0"} and ports.spread("a0") == ""
    assert list(ports.kept.iterdir()) == []


def test_what_a_vlan_stands_on_joins_no_packets(ports: Ports) -> None:
    ports.vlan()
    ports.order("up", "c0.7")
    assert ports.joining() == {"a0", "b0"}
    ports.order("down", "c0.7")
    assert ports.joining() == {"a0", "b0", "c0"}


def test_what_a_bridge_that_is_gone_stood_on_is_put_back(ports: Ports) -> None:
    ports.order("up", "br0")
    assert ports.joining() == {"c0"}
    ports.say("ip", "link", "delete", "br0")
    ports.order("down", "br0")
    assert ports.joining() == {"a0", "b0", "c0"}
