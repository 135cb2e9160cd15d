"""What the rules do to real packets, routed and bridged, IPv4, IPv6 and ARP.

VLAN devices need CONFIG_VLAN_8021Q, which the development kernel lacks: not tested here.
"""

import ipaddress
import socket
import time

import pytest

from ids_appliance.config import Enforce
from ids_appliance.types import Kind, Response, Subject
from tests.enforce.conftest import BEYOND, Scene, decide
from tests.enforce.traffic import (
    Limit,
    Stream,
    Tap,
    answered,
    arp_frame,
    connects,
    echo_server,
    pings,
)
from tests.net.namespaces import wait_for

pytestmark = pytest.mark.net


def v4(text: str, *, interface: str = "", proven: bool = True) -> Subject:
    return Subject(Kind.IPV4, ipaddress.IPv4Address(text).packed, interface, proven=proven)


def net64(text: str, *, proven: bool = True) -> Subject:
    return Subject(Kind.IPV6, ipaddress.IPv6Address(text).packed[:8], proven=proven)


def few_open(
    scene: Scene, name: str, target: tuple[str, int], *, per_minute: float, burst: int = 5
) -> None:
    """Insist that of new connections from one address a burst opens, then those of its rate."""
    start = time.monotonic()
    # One of the burst may have been spent before.
    assert all(connects(scene.net, name, target, source=BEYOND[0]) for _ in range(burst - 1))
    more = [
        connects(scene.net, name, target, source=BEYOND[0], within_s=0.2) for _ in range(15 - burst)
    ]
    assert sum(more) <= 1 + (time.monotonic() - start) * per_minute / 60


def test_a_quarantined_mac_is_silent_and_everybody_else_is_not(routed: Scene) -> None:
    enforcer = routed.enforcer()
    bad = Subject(Kind.MAC, routed.mac("bad"), "lan1")
    assert answered(routed.net, "bad", "192.0.2.2")
    assert routed.apply(enforcer, decide(bad))[0].done
    assert pings(routed.net, "bad", "192.0.2.2") == 0
    assert pings(routed.net, "bad", "2001:db8:2::2") == 0
    assert answered(routed.net, "dev", "198.51.100.2")
    assert answered(routed.net, "dev", "2001:db8:9::2")
    # The same MAC at another port is another sender.
    other = Subject(Kind.MAC, routed.mac("dev"), "lan1")
    assert routed.apply(enforcer, decide(other))[0].done
    assert answered(routed.net, "dev", "198.51.100.2")
    with routed.net.inside("gw"):
        enforcer.release([bad])
        assert enforcer.counters()["dropped_packets_lan_quarantine"] >= 4
    assert answered(routed.net, "bad", "192.0.2.2")


def test_a_quarantined_mac_is_silent_on_a_bridge_arp_included(bridged: Scene) -> None:
    enforcer = bridged.enforcer()
    assert answered(bridged.net, "bad", "192.0.2.2")
    assert bridged.apply(enforcer, decide(Subject(Kind.MAC, bridged.mac("bad"), "port2")))[0].done
    bad = bridged.mac("bad")
    frame = arp_frame(1, (bad, "192.0.2.66"), (bytes(6), "192.0.2.2"), ethernet=(b"\xff" * 6, bad))
    with Tap(bridged.net, "dev") as tap, bridged.net.packet_socket("bad", "eth0") as raw:
        raw.send(frame)
        assert [f for f in tap.frames() if f[6:12] == bad] == []
    assert pings(bridged.net, "bad", "192.0.2.2") == 0
    assert answered(bridged.net, "router", "192.0.2.2")


def test_an_element_ends_by_itself(routed: Scene) -> None:
    enforcer = routed.enforcer()
    bad = Subject(Kind.MAC, routed.mac("bad"), "lan1")
    assert answered(routed.net, "bad", "192.0.2.2", count=1)
    start = time.monotonic()
    routed.apply(enforcer, decide(bad, for_s=2.0))
    found = pings(routed.net, "bad", "192.0.2.2", count=1)
    assert found == 0 or time.monotonic() > start + 2.0
    wait_for(lambda: pings(routed.net, "bad", "192.0.2.2", count=1))
    assert time.monotonic() > start + 2.0
    assert answered(routed.net, "bad", "192.0.2.2")


@pytest.mark.parametrize("pps", [20, pytest.param(100, marks=pytest.mark.nightly)])
def test_a_limited_sender_gets_exactly_its_rate(bridged: Scene, pps: int) -> None:
    enforcer = bridged.enforcer(Enforce(rate_limit_pps=pps))
    bad = Subject(Kind.MAC, bridged.mac("bad"), "port2")
    assert answered(bridged.net, "bad", "192.0.2.2")
    bridged.apply(enforcer, decide(bad, Response.RATE_LIMIT))
    stream = Stream("bad", ("192.0.2.66", 0), ("192.0.2.2", 9), "dev", bridged.mac("bad"))
    limit = Limit(pps)
    passed = stream.press(bridged.net, limit, enough=2 * pps)
    assert passed.keeps_to(limit), passed


def test_a_wan_sender_is_met_where_it_arrives(routed: Scene) -> None:
    enforcer = routed.enforcer()
    sources = {"quarantine": BEYOND[0], "other": BEYOND[1]}
    routed.apply(enforcer, decide(v4(BEYOND[0])), decide(net64("2001:db8:9::")))
    assert pings(routed.net, "out", "192.0.2.2", source=sources["quarantine"]) == 0
    assert answered(routed.net, "out", "192.0.2.2", source=sources["other"])
    assert pings(routed.net, "out", "2001:db8:2::2") == 0
    with routed.net.inside("gw"):
        enforcer.release([net64("2001:db8:9::")])
    assert answered(routed.net, "out", "2001:db8:2::2")


def test_a_forged_lan_address_does_not_cut_the_device_off(routed: Scene) -> None:
    enforcer = routed.enforcer()
    routed.apply(enforcer, decide(v4("192.0.2.2")))
    assert answered(routed.net, "dev", "198.51.100.2")


def test_a_wan_sender_behind_a_router_on_the_bridge(bridged: Scene) -> None:
    enforcer = bridged.enforcer()
    routed_v6 = "2001:db8:9::2"
    assert answered(bridged.net, "router", "192.0.2.2", source=BEYOND[0])
    bridged.apply(enforcer, decide(v4(BEYOND[0])), decide(net64("2001:db8:9::")))
    assert pings(bridged.net, "router", "192.0.2.2", source=BEYOND[0]) == 0
    assert pings(bridged.net, "router", "2001:db8:2::2", source=routed_v6) == 0
    assert answered(bridged.net, "router", "192.0.2.2", source=BEYOND[1])
    assert answered(bridged.net, "router", "192.0.2.2")
    # To the bridge's own address it is routed, and still behind the router.
    assert pings(bridged.net, "router", "192.0.2.1", source=BEYOND[0]) == 0


def test_a_limited_wan_sender_gets_its_rate(routed: Scene) -> None:
    enforcer = routed.enforcer()
    routed.apply(enforcer, decide(v4(BEYOND[0]), Response.RATE_LIMIT))
    assert answered(routed.net, "out", "192.0.2.2")
    by = routed.net.mac("gw", "lan0")
    limit = Limit(20)
    passed = Stream("out", (BEYOND[0], 0), ("192.0.2.2", 9), "dev", by).press(
        routed.net, limit, enough=40
    )
    assert passed.keeps_to(limit), passed


def test_of_an_unproven_sender_only_new_flows_are_limited(routed: Scene) -> None:
    enforcer = routed.enforcer(Enforce(new_flows_per_minute=10))
    net = routed.net
    with echo_server(net, "dev", 7777):
        with net.inside("out"):
            old = socket.socket()
        with old:
            old.bind((BEYOND[0], 0))
            old.settimeout(30)
            old.connect(("192.0.2.2", 7777))
            unproven = v4(BEYOND[0], proven=False)
            assert routed.apply(enforcer, decide(unproven))[0].done
            few_open(routed, "out", ("192.0.2.2", 7777), per_minute=10)
            for _ in range(50):  # the old connection goes on as if nothing were
                old.sendall(b"y" * 1000)
                got = 0
                while got < 1000:
                    got += len(old.recv(1000))
            assert connects(net, "out", ("192.0.2.2", 7777), source=BEYOND[1])


def test_of_an_unproven_sender_on_a_bridge_only_new_connections_are_limited(
    bridged: Scene,
) -> None:
    enforcer = bridged.enforcer(Enforce(new_flows_per_minute=10))
    bridged.apply(enforcer, decide(v4(BEYOND[0], proven=False)))
    target = ("192.0.2.2", 7777)
    with echo_server(bridged.net, "dev", 7777):
        few_open(bridged, "router", target, per_minute=10)
        assert connects(bridged.net, "router", target, source=BEYOND[1])


def test_neighbour_discovery_and_dhcp_are_never_limited_to_zero(bridged: Scene) -> None:
    enforcer = bridged.enforcer()
    assert answered(bridged.net, "bad", "192.0.2.2")  # it knows where that is from now on
    bridged.apply(enforcer, decide(Subject(Kind.MAC, bridged.mac("bad"), "port2")))
    with Tap(bridged.net, "dev") as tap:
        assert pings(bridged.net, "bad", "2001:db8:2::2", count=1) == 0
        frames = tap.frames()
    solicits = [f for f in frames if f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] == 135]
    assert [f for f in solicits if f[6:12] == bridged.mac("bad")]
    asking = Stream("bad", ("192.0.2.66", 68), ("192.0.2.2", 67), "dev", bridged.mac("bad"))
    limit = Limit(10, burst=10)
    passed = asking.press(bridged.net, limit, enough=25)
    assert passed.keeps_to(limit), passed
