"""Caches that an ARP forger has poisoned, right again in time."""

import socket
import time
from collections.abc import Iterator

import pytest

from ids_appliance.enforce.heal import BROADCAST, Binding, Healer, reply
from ids_appliance.enforce.neighbours import correct, neighbours
from ids_appliance.types import Kind, Subject
from tests.enforce.conftest import Scene, decide
from tests.enforce.traffic import answered, arp_frame, neighbour

A, B = bytes([192, 0, 2, 2]), bytes([192, 0, 2, 254])


def test_a_reply_says_what_is_true() -> None:
    true = Binding(B, b"\2\0\0\0\0\1", "port3")
    target = Binding(A, b"\2\0\0\0\0\2", "port1")
    frame = reply(true, target, source=b"\2\0\0\0\0\xfe")
    assert frame == arp_frame(
        2, (true.mac, "192.0.2.254"), (target.mac, "192.0.2.2"), ethernet=(target.mac, frame[6:12])
    )
    assert frame[6:12] == b"\2\0\0\0\0\xfe" and len(frame) == 42


def test_nobody_is_told_what_the_culprit_says() -> None:
    notes: list[tuple[str, str]] = []
    healer = Healer(clock=lambda: 0.0, on_note=lambda kind, line: notes.append((kind, line)))
    bad = b"\2\0\0\0\0\x66"
    healer.heal(bad, [Binding(A, bad, "port1")], victims=[Binding(B, b"\2\0\0\0\0\1", "port3")])
    assert notes == [] and healer.tick() is None and healer.counters()["heal_frames"] == 0


def poison(scene: Scene) -> None:
    """Let `bad` tell dev, router and the gateway that it is each of the others."""
    bad = scene.mac("bad")
    raw = scene.net.packet_socket("bad", "eth0")
    hosts = {
        "192.0.2.2": scene.mac("dev"),
        "192.0.2.254": scene.mac("router"),
        "192.0.2.1": scene.net.mac("gw", "br0"),
    }
    for address, mac in hosts.items():
        for other in hosts:
            if other != address:
                raw.send(arp_frame(2, (bad, other), (mac, address), ethernet=(mac, bad)))
    raw.close()


@pytest.fixture
def poisoned(bridged: Scene) -> Iterator[Scene]:
    for host, target in (("dev", "192.0.2.254"), ("dev", "192.0.2.1"), ("router", "192.0.2.1")):
        assert answered(bridged.net, host, target)
    bad = bridged.mac("bad").hex(":")
    end = time.monotonic() + 60
    # Entries younger than a second are not changed: that is why correcting takes time, too.
    while not all(
        neighbour(bridged.net, host, address) == bad
        for host, address in (("dev", "192.0.2.254"), ("router", "192.0.2.2"), ("gw", "192.0.2.2"))
    ):
        assert time.monotonic() < end
        poison(bridged)
        time.sleep(0.1)
    yield bridged


@pytest.mark.net
def test_victims_and_we_ourselves_know_better_in_time(
    poisoned: Scene,
) -> None:
    net = poisoned.net
    enforcer = poisoned.enforcer()
    start = time.monotonic()
    bad = poisoned.mac("bad")
    poison(poisoned)  # up to the last moment
    poisoned.apply(enforcer, decide(Subject(Kind.MAC, bad, "port2")))
    true = {
        "dev": Binding(A, poisoned.mac("dev"), "port1"),
        "router": Binding(B, poisoned.mac("router"), "port3"),
        "gw": Binding(bytes([192, 0, 2, 1]), net.mac("gw", "br0"), "port1"),
    }
    with net.inside("gw"):
        healer = Healer(clock=time.monotonic, on_note=lambda kind, line: None)
        healer.heal(bad, true.values(), victims=[true["dev"], true["router"]])
        assert healer.counters()["heal_neighbours"] == 2
    wanted = [
        (host, socket.inet_ntoa(other.address), other.mac.hex(":"))
        for host in true
        for name, other in true.items()
        if name != host
    ]
    while not all(neighbour(net, host, address) == mac for host, address, mac in wanted):
        assert time.monotonic() < start + 60
        poison(poisoned)  # it keeps sending, and is not heard
        with net.inside("gw"):
            healer.tick()
        time.sleep(0.05)
    print(f"all caches right after {time.monotonic() - start:.2f} s")
    assert answered(net, "dev", "192.0.2.254")
    with net.inside("gw"):
        counts = healer.counters()
        healer.close()
    assert healer.tick() is None
    assert counts["heal_failed"] == counts["heal_given_up"] == 0 < counts["heal_frames"]


@pytest.mark.net
def test_a_permanent_entry_of_ours_stays(bridged: Scene) -> None:
    bad, true = bridged.mac("bad"), bridged.mac("dev")
    net = bridged.net
    net.ip("gw", f"neigh replace 192.0.2.2 lladdr {bad.hex(':')} dev br0 nud permanent")
    net.ip("gw", f"neigh replace 192.0.2.254 lladdr {bad.hex(':')} dev br0 nud reachable")
    with net.inside("gw"):
        assert correct(bad, {A: true, B: bridged.mac("router")}) == [B]
        known = {e.address: e.mac for e in neighbours() if e.address[0] == 192}
    assert known == {A: bad, B: bridged.mac("router")}


@pytest.mark.net
def test_what_cannot_be_sent_is_counted(bridged: Scene) -> None:
    now = 0.0
    with bridged.net.inside("gw"):
        healer = Healer(clock=lambda: now, on_note=lambda kind, line: None)
        claimed = [
            Binding(bytes([10, 0, i >> 8, i & 255]), b"\2\0\0\0\0\1", "port1") for i in range(2000)
        ]
        healer.heal(b"\2\0\0\0\0\x66", claimed, victims=[])
        healer.heal(b"\2\0\0\0\0\x66", claimed[:1], victims=[Binding(A, BROADCAST, "gone")])
        bridged.net.ip("gw", "link del port1")
        now = 10.0
        assert healer.tick() is None
    counts = healer.counters()
    assert counts["heal_given_up"] > 0 and counts["heal_failed"] > 0
    assert counts["heal_frames"] + counts["heal_failed"] <= 4096 + 4
