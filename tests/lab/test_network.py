"""Layouts are built, everybody reaches everybody, and all is gone afterwards."""

import socket
import subprocess
from pathlib import Path

import pytest

from ids_appliance.capture.interfaces import capture_points, identity, offloads_on
from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import HOSTS, LAYOUTS, mac_of
from ids_appliance.lab.measure import everybody_is_there
from ids_appliance.lab.namespaces import present
from ids_appliance.lab.network import Lab
from ids_appliance.lab.wiring import Wiring
from tests.net.namespaces import wait_for

pytestmark = pytest.mark.net


@pytest.mark.parametrize("layout", ["routed", "bridge"])
def test_gone_afterwards(layout: str, privileged: None) -> None:
    with Lab(layout, tag="t") as lab:
        names = {lab.full(host) for host in lab.hosts}
        assert names <= present()
        tool = lab.popen("dev01", ["sh", "-c", "sleep 7351 & sleep 7352"])
        scratch = lab.directory
    assert not names & present()
    assert not scratch.exists() and tool.returncode is not None
    listed = subprocess.run(["pgrep", "-f", "sleep 735[12]"], capture_output=True, check=False)
    assert not listed.stdout, "its own children have ended with it"


def test_everybody_is_reachable(lab: Lab) -> None:
    wait_for(lambda: everybody_is_there(lab) == [])
    pairs = [("bot", "dev20"), ("dev01", "server"), ("outsider", "dev02"), ("gw", "node")]
    for one, other in pairs:
        for family in (4, 6):
            lab.run(one, "ping", "-c", "1", "-W", "20", lab.address(other, family))
            if other != "node":  # which knows no other network
                lab.run(other, "ping", "-c", "1", "-W", "20", lab.address(one, family))


def test_who_is_who(lab: Lab) -> None:
    for host in HOSTS:
        assert lab.mac(host.name).hex(":") == mac_of(host)
        with lab.inside(host.name):
            for address in lab.addresses(host.name):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                with socket.socket(family) as tcp:
                    tcp.bind((address, 0))  # refused unless it is this host's own
    assert len({lab.address(h.name) for h in HOSTS}) == len(HOSTS)
    for word in ("nobody", "switch0"):
        with pytest.raises(LabError, match="there is no host"):
            lab.command(word)


def test_what_the_gateway_sees(lab: Lab) -> None:
    with lab.inside("gw"):
        points = capture_points(lab.interfaces)
        assert [offloads_on(name) for name in points] == [()] * len(points)
        found = identity(points)
        ports = {name for name in lab.gateway_interfaces if name != "br0"}
        assert set(points) == ports
    assert found.all_ports == lab.layout.bridged
    assert {socket.inet_ntop(socket.AF_INET, a) for a in found.addresses if len(a) == 4} >= {
        a for a in lab.addresses("gw") if "." in a
    }
    assert lab.port("bot") in points and lab.port("node") not in points
    assert (lab.port("outsider") in points) == lab.layout.bridged


def test_nothing_is_translated(lab: Lab) -> None:
    with lab.ip_socket("server") as listening:
        listening.bind(("0.0.0.0", 9000))
        listening.listen()
        listening.settimeout(30)
        with lab.ip_socket("bot") as tcp:
            tcp.settimeout(30)
            tcp.connect((lab.address("server"), 9000))
            connection, peer = listening.accept()
            connection.close()
    assert peer[0] == lab.address("bot")


def test_a_new_card(lab: Lab) -> None:
    old = lab.mac("dev19").hex(":")
    lab.change_card("dev19", "02:1d:5e:00:00:ee")
    assert lab.mac("dev19").hex(":") == "02:1d:5e:00:00:ee"
    for address in lab.addresses("dev19"):
        lab.run(
            "dev19",
            "ping",
            "-c",
            "1",
            "-W",
            "20",
            lab.address("server", 6 if ":" in address else 4),
        )
    lab.change_card("dev19", old)
    lab.forget_neighbours()


def test_layouts_are_known_by_name() -> None:
    with pytest.raises(LabError, match="routed, vlan, bridge"):
        Lab("star")
    assert set(LAYOUTS) == {"routed", "vlan", "bridge"}


def test_a_failure_while_building_leaves_nothing(
    privileged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab("routed", tag="broken")
    monkeypatch.setattr(Wiring, "_settle", lambda *_: (_ for _ in ()).throw(LabError("no")))
    with pytest.raises(LabError, match="no"):
        lab.__enter__()
    assert not [name for name in present() if "-broken-" in name]
    assert not list(Path("/etc/netns").glob("*-broken-*"))
