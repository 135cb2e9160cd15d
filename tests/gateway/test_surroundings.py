"""What the system says of itself: files by hand, the kernel's tables in namespaces."""

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ids_appliance.capture.netlink import Link
from ids_appliance.config import Config, Node, Protect, Trigger
from ids_appliance.errors import ConfigError
from ids_appliance.gateway import surroundings
from ids_appliance.gateway.surroundings import Files, boot_id, look, name_servers
from ids_appliance.policy.protect import Place, Protection, SystemFound
from ids_appliance.types import Kind, Subject
from tests.net.namespaces import Network, require, wait_for


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def test_name_servers_of_both_files_but_the_stub(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("nameserver 127.0.0.53\n# nameserver 192.0.2.9\noptions x\n nameserver ::1\n")
    two.write_text("nameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\n")
    found = name_servers([str(one), str(two), str(tmp_path / "none")])
    assert found == [ip("192.0.2.53"), ip("fe80::1")]


def test_noise_for_resolv_conf(tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    many = b"nameserver 192.0.2.1\n" * 99_999
    noise.write_bytes(b"nameserver \xff\xfe\nnameserver 1.2.3\n" + many)
    assert name_servers([str(noise)]) == [ip("192.0.2.1")]


def test_this_boot_has_a_name() -> None:
    assert boot_id() == boot_id() != ""


def route(prefix: int, kind: int = 1, *attributes: tuple[int, bytes]) -> bytes:
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, 254, 3, 0, kind, 0)
    for number, value in attributes:
        body += struct.pack("=HH", len(value) + 4, number) + value.ljust(-len(value) % 4, b"\0")
    return body


def test_routes_with_several_next_hops(monkeypatch: pytest.MonkeyPatch) -> None:
    def hop(index: int, gateway: str) -> bytes:
        inner = struct.pack("=HH", 8, 5) + ip(gateway)
        return struct.pack("=HBBi", 8 + len(inner), 0, 0, index) + inner

    several = route(0, 1, (9, hop(3, "192.0.2.1") + hop(4, "198.51.100.1")))
    via6 = route(0, 1, (4, struct.pack("=i", 5)), (18, struct.pack("=H", 10) + ip("fe80::1")))
    unreachable = route(0, 7, (4, struct.pack("=i", 5)))
    bodies = [several, via6, unreachable, b"", several[:15], several[:-3] + b"\xff\xff\xff"]
    monkeypatch.setattr(surroundings, "dump", lambda *_: bodies)
    found = [(r.interface, r.gateway) for r in surroundings.routes()]
    assert found[:3] == [(3, ip("192.0.2.1")), (4, ip("198.51.100.1")), (5, ip("fe80::1"))]
    assert all(r.prefix == 0 for r in surroundings.routes())


def test_vlans_on_a_bridge_on_a_port_are_built_on_the_port() -> None:
    def link(index: int, *, master: int = 0, lower: int = 0) -> Link:
        return Link(index, f"if{index}", 1, True, b"", master, "", lower)

    table = {2: link(2, master=3), 3: link(3), 4: link(4, lower=3), 5: link(5, lower=9)}
    assert surroundings._stacked_on(2, table) == {3, 4}
    looped = {2: link(2, master=3), 3: link(3, master=2)}
    assert surroundings._stacked_on(2, looped) == {3}


def test_link_local_peers_are_on_the_link_that_knows_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`ssh root@gateway.local` comes from fe80::, whose network is on every link."""
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver fe80::53%lan0\n")
    named = {2: "wan0", 3: "lan0"}
    links = {n: Link(n, name, 1, True, ip_mac(n), 0, "", 0) for n, name in named.items()}
    routes = [surroundings.Route(ip("fe80::"), 64, n, b"") for n in links]
    seen = {(3, ip("fe80::9")): ip_mac(9), (2, ip("fe80::8")): ip_mac(8)}
    for name, value in (("links", links), ("routes", routes), ("neighbours", seen)):
        monkeypatch.setattr(surroundings, name, lambda value=value: value)
    monkeypatch.setattr(surroundings, "addresses", lambda: [])
    monkeypatch.setattr(surroundings, "capture_points", tuple)
    files = Files((str(resolver),), lambda: [ip("fe80::8"), ip("fe80::9")])
    found = look(Config(interfaces=("lan0",)), files)
    assert found.sessions == (
        Place(ip("fe80::8"), "wan0", ip_mac(8)),
        Place(ip("fe80::9"), "lan0", ip_mac(9)),
    )
    assert found.dns == (Place(ip("fe80::53"), "lan0"),)  # nobody has seen it yet
    protection = Protection(Protect(), found)
    assert protection.refuses(Subject(Kind.MAC, ip_mac(9), "lan0")) == "logged in here"
    assert protection.refuses(Subject(Kind.MAC, ip_mac(8), "lan0")) is None


@pytest.fixture
def network() -> Iterator[Network]:
    require()
    with Network("sur", "gw", "dev", "up") as network:
        network.veth(("gw", "lan0"), ("dev", "eth0"))
        network.veth(("gw", "wan0"), ("up", "eth0"))
        network.ip("gw", "addr add 192.0.2.254/24 dev lan0")
        network.ip("gw", "addr add 2001:db8:1::1/64 dev lan0 nodad")
        network.ip("gw", "addr add 203.0.113.2/24 dev wan0")
        network.ip("gw", "route add default via 203.0.113.1")
        network.ip("gw", "neigh add 203.0.113.1 lladdr 02:00:00:00:00:01 dev wan0")
        network.ip("gw", "neigh add 192.0.2.53 lladdr 02:00:00:00:00:53 dev lan0")
        yield network


@pytest.mark.net
def test_a_routed_gateway(network: Network, tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 192.0.2.53\nnameserver 192.0.2.254\n")
    files = Files((str(resolver),), lambda: [ip("198.51.100.9")])
    config = Config(
        interfaces=("lan0",),
        node=Node(addresses=("203.0.113.40:7447", "node.example:7447", "[2001:db8:1::40]:7447")),
        routers=("02-00-00-00-00-99",),
    )
    with network.inside("gw"):
        found = look(config, files)
        assert look(config, files) == found
    assert (found.captured, found.above) == (("lan0",), ())
    assert network.mac("gw", "lan0") in found.macs and network.mac("gw", "wan0") in found.macs
    assert {ip("192.0.2.254"), ip("203.0.113.2"), ip("127.0.0.1")} <= set(found.addresses)
    assert found.networks == (
        ("lan0", ip("2001:db8:1::1"), 64),
        ("lan0", ip("192.0.2.254"), 24),
    )
    assert found.routers == (Place(ip("203.0.113.1"), "wan0", ip_mac(1)),)
    assert found.dns == (Place(ip("192.0.2.53"), "lan0", bytes([2, 0, 0, 0, 0, 0x53])),)
    assert found.nodes == (
        Place(ip("2001:db8:1::40"), "lan0"),
        Place(ip("203.0.113.40"), "wan0"),
    )
    assert found.sessions == (Place(ip("198.51.100.9")),)
    assert found.router_macs == (ip_mac(0x99),)
    protection = Protection(Protect(), found)
    assert protection.refuses(Subject(Kind.MAC, ip_mac(0x53), "lan0")) == "DNS server"
    assert protection.refuses(Subject(Kind.IPV4, ip("203.0.113.1"))) == "default router"


def ip_mac(n: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, n])


@pytest.mark.net
def test_a_change_shows(network: Network) -> None:
    config, files = Config(interfaces=("lan0",)), Files((), lambda: [])
    with network.inside("gw"):
        before = look(config, files)
        network.ip("gw", "route replace default via 203.0.113.9")
        after = look(config, files)
    assert after == replace(before, routers=(Place(ip("203.0.113.9"), "wan0"),))


@pytest.mark.net
def test_a_bridge_is_built_on_what_is_captured(network: Network) -> None:
    network.ip("gw", "addr flush dev lan0")
    network.ip("gw", "link add br0 type bridge")
    network.ip("gw", "link set lan0 master br0")
    network.ip("gw", "addr add 192.0.2.254/24 dev br0")
    network.ip("gw", "link set br0 up")
    network.ip("gw", "neigh add 192.0.2.53 lladdr 02:00:00:00:00:53 dev br0")
    with network.inside("gw"):
        found = look(
            Config(interfaces=("br0",), node=Node(addresses=("192.0.2.53:7447",))),
            Files((), lambda: []),
        )
    assert found.captured == ("lan0",)
    assert found.above == (("lan0", "br0"),)
    assert found.networks == (("br0", ip("192.0.2.254"), 24),)
    assert Protection(Protect(), found).refuses(Subject(Kind.MAC, ip_mac(0x53), "lan0")) == "node"


@pytest.mark.net
def test_an_interface_that_is_gone_stays_one_that_is_captured(network: Network) -> None:
    config, files = Config(interfaces=("lan0", "lan7")), Files((), lambda: [])
    with network.inside("gw"):
        assert look(config, files).captured == ("lan0", "lan7")


@pytest.mark.net
def test_bindings_of_the_configuration(network: Network) -> None:
    trigger = Trigger(bindings={"192.0.2.53": "02:00:00:00:00:54"})
    config = Config(interfaces=("lan0",), trigger=trigger, node=Node(addresses=("192.0.2.53:1",)))
    with network.inside("gw"):
        found = look(config, Files((), lambda: []))
    protection = Protection(Protect(), found)
    assert protection.refuses(Subject(Kind.MAC, ip_mac(0x54), "lan0")) == "node"
    assert protection.refuses(Subject(Kind.MAC, ip_mac(0x53), "lan0")) is None


@pytest.mark.net
def test_bad_names_are_told(network: Network) -> None:
    with network.inside("gw"):
        with pytest.raises(ConfigError, match="routers: 'x' is not a MAC"):
            look(Config(interfaces=("lan0",), routers=("x",)))


@pytest.mark.net
def test_a_node_is_protected_where_the_link_has_found_it(network: Network) -> None:
    config = Config(interfaces=("lan0",), node=Node(addresses=("node.example:7447",)))
    with network.inside("gw"):
        found = look(config, Files((), lambda: []), reached=[ip("192.0.2.53"), ip("192.0.2.254")])
    assert found.nodes == (Place(ip("192.0.2.53"), "lan0", ip_mac(0x53)),)  # we are not a node
    assert Protection(Protect(), found).refuses(Subject(Kind.MAC, ip_mac(0x53), "lan0")) == "node"


@pytest.mark.net
def test_a_link_local_router_is_greeted_on_its_link(network: Network) -> None:
    near, far = ip("fe80::99"), ip("fe80::98")
    for where, interface, address in (
        ("gw", "lan0", "fe80::1"),
        ("gw", "wan0", "fe80::1"),
        ("dev", "eth0", "fe80::99"),
        ("up", "eth0", "fe80::98"),
    ):
        network.ip(where, f"addr add {address}/64 dev {interface} nodad")
    with network.inside("gw"):
        surroundings.greet(SystemFound(routers=(Place(near, "lan0"), Place(far, "wan0"))))
        wait_for(lambda: {near, far} <= {at for _, at in surroundings.neighbours()})
