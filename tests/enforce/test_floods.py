"""A SYN flood with forged senders: who still gets through, with and without synproxy."""

import ipaddress
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest

from ids_appliance.config import Enforce
from ids_appliance.types import Kind, Subject
from tests.enforce.conftest import BEYOND, Scene, decide
from tests.enforce.traffic import Tap, connects, echo_server, flood, received, spoofed_syns
from tests.net.namespaces import require

pytestmark = pytest.mark.net

PORT = 7777
FLOOD = ("-S", "-p", str(PORT), "--rand-source", "-i", "u50", "192.0.2.2")
"""20,000 SYNs a second, as far as the machine keeps up."""


def victim(address: str) -> Subject:
    return Subject(Kind.FLOOD, ipaddress.ip_address(address).packed, port=PORT)


def attempts(scene: Scene, name: str, target: str, *, n: int, within_s: float) -> list[float]:
    """Return the seconds of each connection of `n` that opened in time, 8 under way at once."""

    def one(number: int) -> float:
        start = time.monotonic()
        source = "" if ":" in target else BEYOND[number % len(BEYOND)]
        opened = connects(scene.net, name, (target, PORT), source=source, within_s=within_s)
        return time.monotonic() - start if opened else -1.0

    with ThreadPoolExecutor(8) as pool:
        return [took for took in pool.map(one, range(n)) if took >= 0]


def repeated(scene: Scene, name: str, target: tuple[str, int]) -> int:
    """Open a connection; return how many segments, SYNs too, had to be sent again for it."""
    with scene.net.inside(name):
        plug = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET)
    with plug:
        plug.settimeout(15.0)
        plug.connect(target)
        info = plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return struct.unpack_from("I", info, 100)[0]  # tcpi_total_retrans


@pytest.mark.parametrize("cookies", ["0", pytest.param("1", marks=pytest.mark.nightly)])
def test_new_connections_open_through_synproxy(routed: Scene, cookies: str) -> None:
    enforcer = routed.enforcer()
    assert enforcer.capabilities.synproxy
    routed.net.write("dev", "net/ipv4/tcp_syncookies", cookies)
    routed.net.write("dev", "net/ipv4/tcp_max_syn_backlog", "128")
    with echo_server(routed.net, "dev", PORT):
        with routed.net.inside("out"):
            old = socket.create_connection(("192.0.2.2", PORT), timeout=30)
        with old, flood(routed.net, "out", *FLOOD):
            assert routed.apply(enforcer, decide(victim("192.0.2.2")))[0].done
            at_gateway, at_victim = received(routed.net, "gw", "wan0"), received(routed.net, "dev")
            took = attempts(routed, "out", "192.0.2.2", n=40, within_s=15.0)
            at_gateway = received(routed.net, "gw", "wan0") - at_gateway
            at_victim = received(routed.net, "dev") - at_victim
            old.sendall(b"z" * 4000)  # what was open before goes on
            got = b""
            while len(got) < 4000:
                got += old.recv(4000)
    print(
        f"synproxy, cookies {cookies}: {len(took)} of 40, median {median(took):.4f} s, "
        f"worst {max(took):.2f} s, {at_victim} of {at_gateway} packets reach the victim"
    )
    assert len(took) >= 38
    assert at_victim < 40 * 8 + 400


def test_a_client_comes_again_from_the_same_port(routed: Scene) -> None:
    enforcer = routed.enforcer()
    again = []
    with echo_server(routed.net, "dev", PORT), flood(routed.net, "out", *FLOOD):
        assert routed.apply(enforcer, decide(victim("192.0.2.2")))[0].done
        assert attempts(routed, "out", "192.0.2.2", n=1, within_s=15.0), "it gets through at all"
        for number in range(10):
            with routed.net.inside("out"):
                again.append(opens((BEYOND[0], 40_000 + number // 5)))
    assert again == [True] * 10


def opens(source: tuple[str, int], *, within_s: float = 2.0) -> bool:
    """Say whether the victim answers a connection from this very address and port; it ends by a
    reset here, so that this end forgets it at once."""
    with socket.socket() as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plug.settimeout(within_s)
        plug.bind(source)
        try:
            plug.connect(("192.0.2.2", PORT))
            plug.sendall(b"x")
            return plug.recv(1) == b"x"
        except OSError:
            return False


def test_ports_of_before_the_decision_get_through(routed: Scene) -> None:
    """What conntrack knows of connections that ended, or were never answered, is in the way."""
    enforcer = routed.enforcer()
    ended = [(BEYOND[0], 41_000 + n) for n in range(5)]
    unanswered = [(BEYOND[1], 42_000 + n) for n in range(5)]
    routed.net.ip("dev", f"route add blackhole {BEYOND[1]}/32")
    with routed.net.inside("out"):
        assert not any(opens(source, within_s=0.2) for source in unanswered)
    routed.net.ip("dev", f"route del blackhole {BEYOND[1]}/32")
    with echo_server(routed.net, "dev", PORT):
        with routed.net.inside("out"):
            assert all(opens(source) for source in ended)
            old = socket.create_connection(("192.0.2.2", PORT), timeout=2)
        with old, flood(routed.net, "out", *FLOOD):
            assert routed.apply(enforcer, decide(victim("192.0.2.2")))[0].done
            with routed.net.inside("gw"):
                enforcer.tidy()
            assert enforcer.counters()["stale_flows"] >= len(ended)
            assert attempts(routed, "out", "192.0.2.2", n=1, within_s=3.0), "it gets through at all"
            with routed.net.inside("out"):
                again = [opens(source) for source in (*ended, *unanswered)]
            old.sendall(b"y")
            assert old.recv(1) == b"y", "what is established stays"
    assert again == [True] * 10


@pytest.mark.nightly
@pytest.mark.parametrize("cookies", ["0", "1"])
def test_without_synproxy_a_second_attempt_gets_through(routed: Scene, cookies: str) -> None:
    enforcer = routed.enforcer(Enforce(synproxy=False))
    routed.net.write("dev", "net/ipv4/tcp_syncookies", cookies)
    proven = BEYOND[0]
    with echo_server(routed.net, "dev", PORT):
        # A handshake beforehand proves this sender to the rules themselves.
        assert connects(routed.net, "out", ("192.0.2.2", PORT), source=proven)
        with flood(routed.net, "out", *FLOOD):
            assert routed.apply(enforcer, decide(victim("192.0.2.2")))[0].done
            before = received(routed.net, "dev")
            start = time.monotonic()
            assert connects(routed.net, "out", ("192.0.2.2", PORT), source=proven, within_s=15.0)
            took = attempts(routed, "out", "192.0.2.2", n=40, within_s=15.0)
            seconds = time.monotonic() - start
            flooded = (received(routed.net, "dev") - before) / seconds
    print(
        f"no synproxy, cookies {cookies}: {len(took)} of 40, "
        f"median {median(took):.3f} s, {flooded:.0f} packets/s reach the victim"
    )
    assert len(took) >= 38
    assert flooded < 400


def test_on_a_bridge_a_second_attempt_gets_through(bridged: Scene) -> None:
    enforcer = bridged.enforcer()
    bridged.net.write("dev", "net/ipv4/tcp_syncookies", "0")
    with echo_server(bridged.net, "dev", PORT):
        with bridged.net.inside("gw"):
            enforcer.set_proven([socket.inet_aton(BEYOND[0])])
        with flood(bridged.net, "router", *FLOOD):
            assert bridged.apply(enforcer, decide(victim("192.0.2.2")))[0].done
            before = received(bridged.net, "dev")
            start = time.monotonic()
            target = ("192.0.2.2", PORT)
            assert connects(bridged.net, "router", target, source=BEYOND[0], within_s=15.0)
            took = attempts(bridged, "router", "192.0.2.2", n=40, within_s=15.0)
            flooded = (received(bridged.net, "dev") - before) / (time.monotonic() - start)
    print(
        f"bridge: {len(took)} of 40, median {median(took):.3f} s, "
        f"{flooded:.0f} packets/s reach the victim"
    )
    assert len(took) >= 38
    assert flooded < 400


@pytest.mark.nightly
@pytest.mark.parametrize("cookies", ["0", "1"])
@pytest.mark.parametrize("way", ["synproxy", "limit", "bridge"])
def test_at_twenty_thousand_a_second(
    way: str, cookies: str, request: pytest.FixtureRequest
) -> None:
    """trafgen keeps its rate where hping3 does not; the connections' own sources are not proven."""
    require("trafgen")
    scene: Scene = request.getfixturevalue("bridged" if way == "bridge" else "routed")
    client, wire = ("router", "port3") if way == "bridge" else ("out", "wan0")
    via = scene.mac("dev") if way == "bridge" else scene.net.mac("gw", "wan0")
    enforcer = scene.enforcer(Enforce(synproxy=way == "synproxy"))
    scene.net.write("dev", "net/ipv4/tcp_syncookies", cookies)
    target = ("192.0.2.2", PORT)
    with (
        echo_server(scene.net, "dev", PORT),
        spoofed_syns(scene.net, client, via=via, target=target, pps=20_000),
    ):
        scene.apply(enforcer, decide(victim("192.0.2.2")))
        at_gateway, at_victim = received(scene.net, "gw", wire), received(scene.net, "dev")
        start = time.monotonic()
        took = attempts(scene, client, "192.0.2.2", n=100, within_s=15.0)
        took += attempts(scene, client, "192.0.2.2", n=100, within_s=15.0)
        seconds = time.monotonic() - start
        offered = (received(scene.net, "gw", wire) - at_gateway) / seconds
        reaching = (received(scene.net, "dev") - at_victim) / seconds
    print(
        f"{way}, cookies {cookies}: {len(took)} of 200 at {offered:.0f} packets/s, median "
        f"{median(took):.4f} s, worst {max(took):.2f} s, {reaching:.0f} packets/s reach the victim"
    )
    assert len(took) >= 190


@pytest.mark.parametrize("scene", ["routed", pytest.param("bridged", marks=pytest.mark.nightly)])
def test_ipv6_connections_open_at_the_second_attempt(
    scene: str, request: pytest.FixtureRequest
) -> None:
    place: Scene = request.getfixturevalue(scene)
    client = "out" if scene == "routed" else "router"
    enforcer = place.enforcer()
    place.apply(enforcer, decide(victim("2001:db8:2::2")))
    with echo_server(place.net, "dev", PORT):
        took = attempts(place, client, "2001:db8:2::2", n=16, within_s=15.0)
        # The first SYN is repeated after a second; where tracked, that handshake is a proof.
        assert len(took) == 16 and max(took) > 0.9
        with place.net.inside("gw"):
            source = "2001:db8:9::2" if scene == "routed" else "2001:db8:2::fe"
            enforcer.set_proven([ipaddress.ip_address(source).packed])
        again = [repeated(place, client, ("2001:db8:2::2", PORT)) for _ in range(4)]
        assert again == [0] * 4  # now the first SYN of each is answered


def test_a_flood_that_is_over_leaves_nothing_changed(routed: Scene) -> None:
    loose = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")
    with routed.net.inside("gw"):
        before = loose.read_text()
    enforcer = routed.enforcer()
    routed.apply(enforcer, decide(victim("192.0.2.2")))
    with echo_server(routed.net, "dev", PORT):
        assert connects(routed.net, "out", ("192.0.2.2", PORT), within_s=15.0)
        with routed.net.inside("gw"):
            assert enforcer.counters()["dropped_packets_flood_proxied"] > 0
            enforcer.release([victim("192.0.2.2")])
            assert loose.read_text() == before
        with Tap(routed.net, "dev") as tap:
            assert connects(routed.net, "out", ("192.0.2.2", PORT))
            syns = tap.syns()
        # The victim sees the client's own SYN again: the gateway's carries no TCP options but MSS.
        assert len(syns) == 1 and syns[0][46] >> 4 > 6


def test_what_the_victim_loses_is_sent_again(routed: Scene) -> None:
    """synproxy's own SYN has no timer: the client's probe of the closed window brings it back."""
    enforcer = routed.enforcer()
    once = (
        "add table inet lossy; add chain inet lossy in { type filter hook input priority -300; };"
        f"add rule inet lossy in tcp dport {PORT} tcp flags syn numgen inc mod 1000000 == 0 drop"
    )
    with echo_server(routed.net, "dev", PORT):
        assert routed.apply(enforcer, decide(victim("192.0.2.2")))[0].done
        subprocess.run(routed.net.command("dev", "nft", once), check=True)
        with Tap(routed.net, "dev") as tap:
            assert connects(routed.net, "out", ("192.0.2.2", PORT), source=BEYOND[0])
            seen = tap.syns()
        assert len(seen) == 2, "the first one is lost, the second one comes of the probe"
