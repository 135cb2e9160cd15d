"""Flow entries on a real switch: what they let through, whose they are, and that they end."""

import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from ids_appliance.config import Enforce, OpenFlow
from ids_appliance.enforce.elements import Place
from ids_appliance.enforce.intention import Standing
from ids_appliance.enforce.openflow import OpenFlowEnforcer, long_lived
from ids_appliance.enforce.openflow_meters import Meters
from ids_appliance.enforce.openflow_record import remember, remembered, remove_remembered
from ids_appliance.enforce.openflow_switch import Switch
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.errors import EnforceError
from ids_appliance.types import Decision, Kind, Response, Subject
from tests.monitor.controlled import HOSTS, Controlled, controlled, mac
from tests.net.namespaces import require, wait_for
from tests.net.packets import TCP, UDP, tcp, udp

TAP = "eth1"
ACK, SYN = 0x10, 0x02
NOBODY = ProtectedSets()
MANY = 150
"""Frames that the switch's socket has room for, however long it does not look."""


@dataclass
class Scene:
    """A bridge, and enforcers on it."""

    place: Controlled
    notes: list[tuple[str, str]] = field(default_factory=list)

    def settings(self, **more: object) -> Enforce:
        flow = OpenFlow(bridge="s1", ovs_run_dir=str(self.place.switch.directory))
        return Enforce(backend="openflow", openflow=msgspec.structs.replace(flow, **more))

    def enforcer(
        self, enforce: Enforce | None = None, protected: ProtectedSets = NOBODY
    ) -> OpenFlowEnforcer:
        made = OpenFlowEnforcer(
            enforce or self.settings(),
            interfaces=(TAP,),
            protected=protected,
            clock=time.monotonic,
            on_note=lambda kind, line: self.notes.append((kind, line)),
        )
        made.open()
        return made

    def ours(self) -> str:
        """Return our entries about decisions, with what they have met."""
        return self.place.switch.ofctl(
            "--no-names", "dump-flows", "s1", "cookie=0x1d5a000000000001/-1"
        )

    def met(self) -> int:
        """Return how many packets our entries about decisions have met."""
        return sum(int(n) for n in re.findall(r"n_packets=(\d+)", self.ours()))

    def forward(self) -> None:
        """Let everything pass that nobody forbids, as the switch does by itself."""
        self.place.switch.ofctl("del-flows", "s1")
        self.place.switch.ofctl("del-meters", "s1")
        self.place.switch.ofctl("add-flow", "s1", "priority=0,actions=NORMAL")

    def sent(
        self, packets: list[bytes], *, meets: int = 0, arrive: int = 0, kind: int = 0x0800
    ) -> int:
        """Send packets from h1 to h2, each once; return how many arrived once entries have met
        `meets` of them, `arrive` have arrived, and one from h3 that was sent after that."""
        net = self.place.net
        before = self.met()
        to = bytes.fromhex(mac("h2").replace(":", ""))
        head = to + bytes.fromhex(mac("h1").replace(":", "")) + struct.pack("!H", kind)
        frames = [head + packet.ljust(46, b"\0") for packet in packets]
        end = to + b"\x02\0\0\0\0\x99\x12\x34" + b"end of them".ljust(46, b"\0")
        arrived: list[bytes] = []
        with (
            net.packet_socket("h1", "eth1") as out,
            net.packet_socket("h2", "eth1") as into,
            net.packet_socket("h3", "eth1") as last,
        ):
            out.setblocking(True)
            for frame in frames:
                out.send(frame)
            # A switch reads its ports in turns: what h3 sends now may be there before all of these.
            wait_for(lambda: self.met() - before >= meets)

            def done() -> bool:
                last.send(end)
                with suppress(BlockingIOError):
                    while True:
                        arrived.append(into.recv(2048))
                there = sum(frame in known for frame in arrived)
                return end in arrived and there >= arrive

            known = set(frames)
            wait_for(done)
        return sum(frame in known for frame in arrived)


def packet(
    proto: int,
    body: bytes,
    *,
    number: int = 0,
    source: str = "192.0.2.1",
    target: str = "192.0.2.2",
) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, 0, 64, proto, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(target) + body


def datagrams(count: int, **more: str) -> list[bytes]:
    return [packet(UDP, udp((5000, 5001), b"x"), number=n, **more) for n in range(count)]


def segments(count: int, flags: int, *, port: int = 80, **more: str) -> list[bytes]:
    return [packet(TCP, tcp((4000, port), flags), number=n, **more) for n in range(count)]


def decide(
    subject: Subject, response: Response = Response.QUARANTINE, for_s: float = 600.0
) -> Decision:
    return Decision(1, subject, response, for_s, "test")


def of(host: str) -> Subject:
    return Subject(Kind.MAC, bytes.fromhex(mac(host).replace(":", "")), TAP)


def beyond(text: str, *, proven: bool = True) -> Subject:
    return Subject(Kind.IPV4, socket.inet_aton(text), proven=proven)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    require()
    with controlled(tmp_path_factory.mktemp("of"), "of") as made:
        yield made


@pytest.fixture
def scene(place: Controlled) -> Iterator[Scene]:
    made = Scene(place)
    made.forward()
    for host in HOSTS:  # the switch knows who is where
        assert place.ping(host, "h2" if host == "h1" else "h1")
    yield made


pytestmark = pytest.mark.net


def test_whom_it_cuts_off_reaches_nobody_and_others_do(scene: Scene) -> None:
    made = scene.enforcer()
    assert made.apply([decide(of("h1"))])[0].done
    assert scene.sent(datagrams(50), meets=50) == 0
    assert scene.place.ping("h3", "h2", count=3)
    made.reconcile()
    assert made.counters()["dropped_packets_lan_quarantine"] >= 50
    made.release([of("h1")])
    assert scene.ours().count("priority") == 0 and scene.place.ping("h1", "h2")


def test_whom_it_cuts_off_may_still_ask_for_a_lease(scene: Scene) -> None:
    scene.enforcer().apply([decide(of("h1"))])
    lease = [packet(UDP, udp((68, 67), b"discover"), number=n) for n in range(3)]
    assert scene.sent(lease, meets=3) == 3
    arp = bytes.fromhex("0001080006040001") + bytes(20)
    assert scene.sent([arp], meets=1, kind=0x0806) == 0


def test_a_limited_sender_keeps_its_rate(scene: Scene) -> None:
    made = scene.enforcer()
    made.apply([decide(of("h1"), Response.RATE_LIMIT)])
    begun = time.monotonic()
    arrived = scene.sent(datagrams(MANY), meets=MANY)
    assert 10 <= arrived <= 20 * (2 + time.monotonic() - begun)  # a burst, and the rate since
    assert scene.place.ping("h3", "h2", count=3)
    assert dropped(made, "metered_limit", MANY - arrived)


def dropped(made: OpenFlowEnforcer, name: str, least: int) -> bool:
    """Wait until so many packets count as dropped."""

    def look() -> bool:
        made.reconcile()
        return made.counters()[f"dropped_packets_{name}"] >= least

    wait_for(look)
    return True


def test_beyond_us_only_that_address_is_meant(scene: Scene) -> None:
    made = scene.enforcer()
    limited, cut = (beyond(f"203.0.113.{n}") for n in (6, 7))
    assert all(a.done for a in made.apply([decide(limited, Response.RATE_LIMIT), decide(cut)]))
    begun = time.monotonic()
    found = scene.sent(datagrams(MANY, source="203.0.113.6"), meets=MANY)
    assert 10 <= found <= 20 * (2 + time.monotonic() - begun)
    assert scene.sent(datagrams(MANY, source="203.0.113.7"), meets=MANY) == 0
    assert scene.sent(datagrams(30, source="203.0.113.8"), arrive=30) == 30
    assert dropped(made, "wan_quarantine", MANY)


def test_who_may_be_forged_opens_little_and_goes_on(scene: Scene) -> None:
    made = scene.enforcer()
    made.apply([decide(beyond("203.0.113.7", proven=False))])
    assert scene.sent(segments(100, ACK, source="203.0.113.7"), arrive=100) == 100
    begun = time.monotonic()
    arrived = scene.sent(segments(MANY, SYN, source="203.0.113.7"), meets=MANY)
    assert 5 <= arrived <= 12 + time.monotonic() - begun
    assert dropped(made, "metered_opening", MANY - arrived)


def test_a_flood_is_limited_and_the_proven_pass(scene: Scene) -> None:
    made = scene.enforcer()
    made.set_proven([socket.inet_aton("203.0.113.9")])
    victim = Subject(Kind.FLOOD, socket.inet_aton("192.0.2.2"), port=80)
    assert made.apply([decide(victim)])[0].done
    forged = [p for n in range(MANY) for p in segments(1, SYN, source=f"198.51.100.{n}")]
    begun = time.monotonic()
    arrived = scene.sent(forged, meets=MANY)
    assert 10 <= arrived <= 30 + 200 * (time.monotonic() - begun)
    assert arrived == MANY or dropped(made, "metered_flood", MANY - arrived)
    for other in ("203.0.113.9", "203.0.113.10"):
        assert scene.sent(segments(60, SYN, source=other), arrive=60) == 60
        made.set_proven([socket.inet_aton("203.0.113.10")])  # while it goes on
    assert scene.sent(segments(60, SYN, port=81, source="198.51.100.1"), arrive=60) == 60


def test_the_protected_pass_whatever_is_decided(scene: Scene) -> None:
    protected = ProtectedSets(triples=((TAP, None, "192.0.2.50"), ("", None, "203.0.113.0/28")))
    made = scene.enforcer(scene.settings(cut="port"), protected)
    assert made.apply([decide(of("h1"))])[0].note == "with port p1"
    assert not made.apply([decide(beyond("203.0.113.7"))])[0].done
    assert scene.sent(datagrams(20, source="192.0.2.50"), arrive=20) == 20
    assert scene.sent(datagrams(20, source="203.0.113.7"), arrive=20) == 20
    assert scene.sent(datagrams(20), meets=20) == 0
    made.set_protected(NOBODY)
    assert scene.sent(datagrams(20, source="192.0.2.50"), meets=20) == 0


def test_who_is_cut_off_answers_for_our_own_address_no_more(scene: Scene) -> None:
    triples = (("", None, "192.0.2.254/32"), ("", None, "192.0.2.50"))
    made = scene.enforcer(protected=ProtectedSets(triples=triples, own=("192.0.2.254",)))
    assert made.apply([decide(of("h1"))])[0].done

    def claims(text: str) -> bytes:
        return bytes.fromhex("0001080006040002") + of("h1").value + socket.inet_aton(text)

    assert scene.sent([claims("192.0.2.254")], meets=1, kind=0x0806) == 0
    # Of another protected one nobody knows the MAC: it may be the true one.
    assert scene.sent([claims("192.0.2.50")], arrive=1, kind=0x0806) == 1


def test_a_port_is_cut_whatever_it_calls_itself(scene: Scene) -> None:
    made = scene.enforcer(scene.settings(cut="port"))
    assert made.apply([decide(of("h1"))])[0].note == "with port p1"
    # The last frame of each round has yet another MAC: it must not pass now.
    with scene.place.net.packet_socket("h1", "eth1") as out:
        for n in range(50):
            head = bytes.fromhex(mac("h2").replace(":", "")) + bytes([2, 0, 0, 0, 9, n])
            out.send(head + b"\x08\0" + datagrams(1)[0].ljust(46, b"\0"))
    wait_for(lambda: re.search(r"n_packets=([5-9]\d|\d{3,}),.*in_port=1 ", scene.ours()))
    assert scene.place.ping("h3", "h2", count=2)
    assert not scene.place.ping("h1", "h2", wait_s=1)


@pytest.mark.parametrize("why", ["uplink", "protected", "unknown"])
def test_a_port_with_others_behind_it_is_not_cut(scene: Scene, why: str) -> None:
    router = bytes.fromhex("020000000077")
    protected = ProtectedSets(routers=((TAP, router),)) if why == "protected" else NOBODY
    uplinks = ("p1",) if why == "uplink" else ()
    who = of("h1")
    if why == "unknown":
        who = Subject(Kind.MAC, bytes.fromhex("0200000000aa"), TAP)
    if why == "protected":
        with scene.place.net.packet_socket("h1", "eth1") as out:
            out.send(bytes.fromhex(mac("h2").replace(":", "")) + router + bytes(48))
    made = scene.enforcer(scene.settings(cut="port", uplinks=uplinks), protected)
    answer = made.apply([decide(who)])[0]
    assert answer.done and answer.note.startswith("its MAC alone")
    assert "in_port" not in scene.ours()


def test_somebody_elses_entries_stay(scene: Scene) -> None:
    switch = scene.place.switch
    switch.ofctl("add-flow", "s1", "table=3,cookie=0x5,priority=7,actions=drop")
    other = scene.enforcer(scene.settings(mark=1))
    other.apply([decide(of("h3"))])
    made = scene.enforcer()
    made.apply([decide(of("h1")), decide(of("h3"), Response.RATE_LIMIT)])
    made.settle()
    made.reconcile()
    made.clear()
    left = switch.ofctl("--no-names", "--no-stats", "dump-flows", "s1")
    assert "cookie=0x5" in left and "priority=0 actions=NORMAL" in left
    assert "0x1d5a000000000001" not in left and "meter=20002" not in switch.ofctl(
        "dump-meters", "s1"
    )
    # The same sender under another mark is one match in the switch: that one puts it right.
    other.reconcile()
    assert "cookie=0x1d5a000100000001" in switch.ofctl("--no-names", "dump-flows", "s1")


def test_what_is_taken_away_comes_back(scene: Scene) -> None:
    made = scene.enforcer()
    made.apply([decide(of("h1")), decide(of("h3"), Response.RATE_LIMIT)])
    before = re.findall(r"priority=.*", scene.ours())
    scene.place.switch.ofctl("del-meters", "s1")  # entries go with their meters
    state = made.reconcile()
    assert (state.intended, state.found, state.rebuilt) == (2, 1, True)
    scene.forward()
    assert made.reconcile().rebuilt
    assert sorted(re.findall(r"priority=.*", scene.ours())) == sorted(before)
    state = made.reconcile()
    assert (state.found, state.repaired, state.rebuilt) == (2, 0, False)


def test_what_is_changed_behind_its_back_is_put_right(scene: Scene) -> None:
    made = scene.enforcer()
    made.apply([decide(of("h1"))])
    made.settle()
    cookie = "cookie=0x1d5a000000000001"
    switch = scene.place.switch
    switch.ofctl("mod-flows", "s1", f"{cookie}/-1,actions=NORMAL")
    switch.ofctl("add-flow", "s1", f"table=0,{cookie},priority=9,ip,nw_src=10.9.9.9,actions=drop")
    state = made.reconcile()
    assert (state.found, state.foreign) == (0, 2)
    state = made.reconcile()
    assert (state.found, state.foreign, state.repaired) == (1, 0, 0)
    assert not scene.place.ping("h1", "h2", wait_s=1)


def test_a_switch_that_is_away_is_told_once_and_restored(scene: Scene) -> None:
    made = scene.enforcer()
    made.apply([decide(of("h1"))])
    socket_of = scene.place.switch.directory / "s1.mgmt"
    hidden = socket_of.with_suffix(".away")
    socket_of.rename(hidden)
    try:
        for _ in range(3):
            assert made.reconcile().found == 0
        answer = made.apply([decide(of("h3"))])[0]
        assert not answer.done and "not a bridge" in answer.note
        made.release([of("h3")])
    finally:
        hidden.rename(socket_of)
    scene.forward()
    assert made.reconcile().rebuilt and made.reconcile().found == 1
    told = [line for kind, line in scene.notes if "restored when it is back" in line]
    assert len(told) == 1 and "\n" not in told[0]


def test_the_next_gateway_takes_over_without_a_gap(scene: Scene) -> None:
    scene.enforcer().apply([decide(of("h1")), decide(of("h3"), Response.RATE_LIMIT)])
    made = scene.enforcer()
    assert [kind for kind, _ in scene.notes] == ["taken_over"]
    made.apply([decide(of("h1"))])
    assert made.reconcile().foreign == 0 and scene.ours().count("priority") == 2
    made.settle()
    assert made.reconcile().foreign == 1
    assert scene.ours().count("priority") == 1 and scene.place.ping("h3", "h2")


def test_a_predecessors_decision_that_is_lifted_goes(scene: Scene) -> None:
    scene.enforcer().apply([decide(of("h1")), decide(of("h3"), Response.RATE_LIMIT)])
    made = scene.enforcer()
    made.release([of("h1"), of("h3")])
    made.settle()
    made.reconcile()
    assert scene.ours().count("priority") == 0


def test_nothing_outlives_a_gateway_that_is_dead(scene: Scene) -> None:
    made = scene.enforcer()
    made.apply([decide(of("h1"), for_s=1.0), decide(of("h3"), for_s=7 * 86_400.0)])
    assert made.reconcile().repaired == 0  # a week is more than a time-out can be
    assert "hard_timeout=65535" in scene.ours()
    wait_for(lambda: scene.ours().count("priority") == 1)
    fixed = scene.place.switch.ofctl("dump-flows", "s1", "cookie=0x1d5a000000000002/-1")
    assert fixed.count("priority") == fixed.count("hard_timeout=65535") > 0


def test_panic_finds_the_switch_of_a_dead_gateway(scene: Scene, tmp_path: Path) -> None:
    remember(tmp_path, scene.settings().openflow)
    scene.enforcer().apply([decide(of("h1")), decide(of("h3"), Response.RATE_LIMIT)])
    assert remove_remembered(tmp_path) == ["bridge s1"]
    left = scene.place.switch.ofctl("--no-stats", "dump-flows", "s1")
    assert "0x1d5a" not in left and "NORMAL" in left
    assert "meter=" not in scene.place.switch.ofctl("dump-meters", "s1")
    assert remembered(tmp_path / "nowhere") is None
    (tmp_path / "openflow.json").write_text("{")
    with pytest.raises(EnforceError, match="end by themselves"):
        remembered(tmp_path)


def test_there_are_only_so_many_meters(scene: Scene) -> None:
    meters = Meters(scene.settings(), Switch(scene.settings().openflow))
    taken = [meters.take("limit") for _ in range(1500)]
    shared = meters.shared("limit")
    assert len(set(taken)) == 1022 and taken[-1] == shared and min(taken) >= 20_000
    meters.give(taken)
    assert sorted({meters.take("limit") for _ in range(1021)}) == sorted(set(taken) - {shared})


def test_no_switch_and_no_tools_are_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnforceError, match="bridge nosuch: .*nosuch"):
        scene.enforcer(scene.settings(bridge="nosuch"))
    with pytest.raises(EnforceError, match="tcp:127.0.0.1:9: connecting"):
        scene.enforcer(scene.settings(bridge="", target="tcp:127.0.0.1:9"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnforceError, match="apt-get install openvswitch-switch"):
        scene.enforcer()


def test_it_acts_on_a_switch_that_listens_elsewhere(scene: Scene) -> None:
    switch = scene.place.switch
    switch.vsctl("set-controller", "s1", "ptcp:16640:127.0.0.1")
    try:
        with scene.place.net.inside("sw"):
            made = scene.enforcer(scene.settings(bridge="", target="tcp:127.0.0.1:16640"))
            assert made.apply([decide(of("h1"))])[0].done
            assert made.reconcile().found == 1
        assert not scene.place.ping("h1", "h2", wait_s=1)
    finally:
        switch.vsctl("del-controller", "s1")


def test_a_switch_that_opens_without_its_controller_is_told(scene: Scene) -> None:
    switch = scene.place.switch
    made = scene.enforcer()
    made.apply([decide(of("h1"))])
    switch.vsctl("set-fail-mode", "s1", "standalone")
    switch.vsctl("set-controller", "s1", "tcp:127.0.0.1:9")
    try:
        made.settle()  # the next comparison looks at everything
        assert [made.reconcile().found for _ in range(3)] == [0, 0, 0]
        assert not made.apply([decide(of("h3"))])[0].done
        assert scene.enforcer().counters()["intended"] == 0
        kinds = [kind for kind, line in scene.notes if "set-fail-mode" in line]
        assert kinds == ["failed", "limited"]
        switch.vsctl("set-fail-mode", "s1", "secure")
        wait_for(lambda: made.reconcile().found == 1)
        assert not scene.place.ping("h1", "h2", wait_s=1)
    finally:
        switch.vsctl("del-controller", "s1")


def test_a_decision_longer_than_any_time_out_is_renewed_at_half() -> None:
    place = Place("0", "drop", "priority=1")
    standing = [Standing(decide(of("h1"), for_s=604_800.0), 604_800.0, (place,), 1)]
    for has, counted in ((65_535.0, 604_800.0), (32_768.0, 604_800.0), (32_000.0, 32_000.0)):
        left = {place: has}
        long_lived(standing, left, now_s=0.0)
        assert left[place] == counted
