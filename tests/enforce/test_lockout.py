"""Protected senders put into the sets by another's hand: their traffic flows all the same."""

import time

import pytest

from ids_appliance.config import Enforce
from ids_appliance.enforce.protected import MAX_MACS
from ids_appliance.types import Kind, Response, Subject
from tests.enforce.conftest import BEYOND, Scene, decide
from tests.enforce.traffic import Tap, answered, connects, echo_server, flood, pings
from tests.net.namespaces import wait_for

pytestmark = pytest.mark.net

SETS = ("quarantine", "limited")


def ban_mac(scene: Scene, enforcer: object, port: str, host: str, kind: str) -> None:
    key = f'"{port}" . {scene.mac(host).hex(":")} timeout 1h'
    scene.nft(enforcer, f"add element netdev ids_ports lan_{kind} {{ {key} }}")


def ban(scene: Scene, enforcer: object, address: str, kind: str) -> None:
    family = 6 if ":" in address else 4
    element = f"{address} timeout 1h"
    for table in ("netdev ids_ports", "inet ids_hosts"):
        scene.nft(enforcer, f"add element {table} wan_{kind}{family} {{ {element} }}")


@pytest.mark.parametrize("kind", SETS)
def test_routed_dns_node_and_administrators(routed: Scene, kind: str) -> None:
    net = routed.net
    triples = (
        ("", None, BEYOND[0]),  # DNS beyond us
        ("wan0", None, "198.51.100.0/24"),  # the default router's network
        ("lan0", routed.mac("dev"), "192.0.2.2"),  # the node, its MAC known
        ("lan1", None, "192.0.3.66"),  # an administrator whose MAC is not known yet
        ("lan1", None, "2001:db8:3::/64"),
        ("", None, "2001:db8:9::/64"),
        ("wan0", net.mac("gw", "wan0"), "198.51.100.1"),  # ourselves
    )
    enforcer = routed.enforcer(protected=routed.protected(*triples))
    for host, port in (("dev", "lan0"), ("bad", "lan1")):
        ban_mac(routed, enforcer, port, host, kind)
    for address in (BEYOND[0], "198.51.100.2", "198.51.100.1", "192.0.2.2", "192.0.3.66"):
        ban(routed, enforcer, address, kind)
    for address in ("2001:db8:9::", "2001:db8:3::", "2001:db8:2::"):
        ban(routed, enforcer, address, kind)
    for _ in range(20):  # more than a limited sender may send
        assert answered(net, "out", "192.0.2.2", source=BEYOND[0], count=1)
    assert answered(net, "out", "192.0.2.2")
    assert answered(net, "dev", "198.51.100.2")
    assert answered(net, "dev", "192.0.2.1")
    # ARP of the one whose MAC nobody knows: it is asked anew, and answers.
    net.ip("bad", "neigh flush dev eth0")
    net.ip("gw", "neigh flush dev lan1")
    assert answered(net, "bad", "192.0.3.1", count=5)
    assert answered(net, "bad", "2001:db8:9::2", count=5)
    assert answered(net, "gw", "198.51.100.2")


@pytest.mark.parametrize("kind", SETS)
def test_bridged_router_and_what_is_behind_it(bridged: Scene, kind: str) -> None:
    net = bridged.net
    triples = (
        ("port3", bridged.mac("router"), "192.0.2.254"),
        ("", None, BEYOND[0]),
        ("port3", bridged.mac("router"), BEYOND[1]),
        ("port1", bridged.mac("dev"), None),  # a MAC alone
        ("", None, "2001:db8:9::2"),
    )
    enforcer = bridged.enforcer(protected=bridged.protected(*triples))
    ban_mac(bridged, enforcer, "port3", "router", kind)
    ban_mac(bridged, enforcer, "port1", "dev", kind)
    for address in (BEYOND[0], BEYOND[1], BEYOND[2], "192.0.2.254", "2001:db8:9::"):
        ban(bridged, enforcer, address, kind)
    for _ in range(15):
        for source in (BEYOND[0], BEYOND[1]):
            assert answered(net, "router", "192.0.2.2", source=source, count=1)
    assert answered(net, "router", "192.0.2.2")
    assert answered(net, "dev", "192.0.2.254")
    assert answered(net, "router", "2001:db8:2::2", source="2001:db8:9::2")
    if kind == "quarantine":  # the router is spared for its own address, not for whom it forwards
        assert pings(net, "router", "192.0.2.2", source=BEYOND[2]) == 0


def test_who_forges_a_protected_address_is_not_spared(bridged: Scene) -> None:
    triples = (
        ("port3", bridged.mac("router"), "192.0.2.254"),
        ("", None, BEYOND[0]),
    )
    enforcer = bridged.enforcer(protected=bridged.protected(*triples))
    bridged.apply(enforcer, decide(Subject(Kind.MAC, bridged.mac("bad"), "port2")))
    with Tap(bridged.net, "dev") as tap, bridged.net.packet_socket("bad", "eth0") as raw:
        for source in (bytes([192, 0, 2, 254]), bytes([203, 0, 113, 1])):
            ends = source + bytes([192, 0, 2, 2])
            header = bytes.fromhex("45000014000000004011") + b"\0\0" + ends
            raw.send(bridged.mac("dev") + bridged.mac("bad") + b"\x08\0" + header + bytes(26))
        assert [f for f in tap.frames() if f[6:12] == bridged.mac("bad")] == []


def test_protected_ones_are_limited_in_new_connections_only(routed: Scene) -> None:
    """A forger of a protected address cannot flood in its name; the true one hardly notices."""
    net = routed.net
    triples = (("", None, BEYOND[0]),)
    enforcer = routed.enforcer(Enforce(protected_syns_pps=50), protected=routed.protected(*triples))
    start = time.monotonic()

    def refused() -> int:
        with routed.net.inside("gw"):
            return enforcer.counters().get("dropped_packets_protected_syns", 0)

    with Tap(net, "dev") as tap:
        with flood(net, "out", "-S", "-p", "9", "-a", BEYOND[0], "-i", "u200", "192.0.2.2"):
            assert answered(net, "out", "192.0.2.2", source=BEYOND[0], count=10)
            wait_for(lambda: refused() > 200)
        took = time.monotonic() - start
        syns = tap.syns()
    assert 200 <= len(syns) <= 200 + 50 * took + 1  # the burst, and 50 a second
    with echo_server(net, "dev", 7777):
        assert connects(net, "out", ("192.0.2.2", 7777), source=BEYOND[1])


def test_refused_in_code_too(bridged: Scene) -> None:
    triples = (("port3", bridged.mac("router"), "192.0.2.254"), ("", None, BEYOND[0]))
    enforcer = bridged.enforcer(protected=bridged.protected(*triples))
    wanted = [
        Subject(Kind.MAC, bridged.mac("router"), "port3"),
        Subject(Kind.MAC, bridged.net.mac("gw", "br0"), "port1"),
        Subject(Kind.IPV4, bytes([192, 0, 2, 254])),
        Subject(Kind.IPV4, bytes([203, 0, 113, 1])),
    ]
    decisions = [decide(s, r) for s in wanted for r in (Response.RATE_LIMIT, Response.QUARANTINE)]
    assert [a.done for a in bridged.apply(enforcer, *decisions)] == [False] * 8


@pytest.mark.nightly
def test_more_protected_macs_than_the_kernels_set_takes(routed: Scene) -> None:
    """A wide network of administrators has as many as somebody forges in it."""
    many = [("lan0", b"\2\0\2" + n.to_bytes(3, "big"), None) for n in range(MAX_MACS)]
    enforcer = routed.enforcer()
    protected = routed.protected(("lan0", routed.mac("dev"), "192.0.2.2"), *many)
    with routed.net.inside("gw"):
        enforcer.set_protected(protected)
    assert ("limited", "1 protected MACs find no room in the kernel's set") in routed.notes
    ban_mac(routed, enforcer, "lan0", "dev", "quarantine")
    assert answered(routed.net, "dev", "192.0.2.1")
    last = Subject(Kind.MAC, many[-1][1], "lan0")
    assert not routed.apply(enforcer, decide(last))[0].done
