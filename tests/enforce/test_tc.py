"""Traffic classes in the kernel: who waits where, by its own counters, and what is left."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import pytest

from ids_appliance.config.priorities import Tc
from ids_appliance.enforce import tc_kernel
from ids_appliance.enforce.classed import ClassedEnforcer
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.remove import remove_all
from ids_appliance.enforce.tc import TrafficClasses, left_behind, remove_classes
from ids_appliance.enforce.tc_table import TABLE
from ids_appliance.types import Decision, Kind, Response, Subject
from tests.enforce.conftest import BEYOND, Scene, decide
from tests.enforce.traffic import answered
from tests.net.namespaces import wait_for

pytestmark = pytest.mark.net

N = 20
OUT = "198.51.100.2"


def classes(scene: Scene, *, tc: Tc | None = None, open_: bool = True) -> TrafficClasses:
    with scene.net.inside("gw"):
        made = TrafficClasses(
            tc or Tc(rates={"wan0": "20 mbit", "lan0": "auto"}),
            node_ports=(7447,),
            uid=0,
            clock=time.monotonic,
            on_note=lambda kind, line: scene.notes.append((kind, line)),
        )
        if open_:
            made.open()
    return made


def tc(scene: Scene, *words: str) -> str:
    command = scene.net.command("gw", "tc", *words)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sent(scene: Scene, made: TrafficClasses, act: Callable[[], None]) -> dict[str, int]:
    """Return how many packets each queue has sent of what `act` gave it, those that sent any."""

    def nothing_waits() -> bool:
        with scene.net.inside("gw"):
            made.reconcile()
        return not any(n for k, n in made.counters().items() if k.startswith("tc_waiting_"))

    def now() -> dict[str, int]:
        wait_for(nothing_waits)
        return {k: n for k, n in made.counters().items() if k.startswith("tc_packets_")}

    before = now()
    act()
    after = now()
    return {k.removeprefix("tc_packets_"): n - before[k] for k, n in after.items() if n > before[k]}


def talk(
    scene: Scene, who: str, to: tuple[str, int], *, dscp: int = 0, source: str = "", n: int = N
) -> None:
    """Send n datagrams; nobody has to listen."""
    with scene.net.inside(who):
        plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with plug:
        plug.bind((source, 40_000))
        plug.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        for _ in range(n):
            try:
                plug.sendto(b"x" * 50, to)
            except ConnectionRefusedError:  # of the one before
                plug.sendto(b"x" * 50, to)


def knock(scene: Scene, who: str, to: tuple[str, int]) -> None:
    """Send a SYN and get its reset."""
    with scene.net.inside(who):
        plug = socket.socket()
    with plug:
        plug.settimeout(60)
        assert plug.connect_ex(to) != 0


def test_everything_waits_where_the_table_says(routed: Scene) -> None:
    made = classes(routed)
    assert made.standing == ("wan0", "lan0")
    assert answered(routed.net, "dev", OUT)
    cases = {
        "priority": [
            lambda: talk(routed, "dev", (OUT, 53)),
            lambda: talk(routed, "dev", (OUT, 9999), dscp=46),
            lambda: talk(routed, "gw", (OUT, 5683)),
        ],
        "normal": [
            lambda: talk(routed, "dev", (OUT, 9999)),
            lambda: talk(routed, "dev", (OUT, 7447)),
            lambda: talk(routed, "gw", (OUT, 9999)),
        ],
    }
    for name, acts in cases.items():
        for act in acts:
            found = sent(routed, made, act)
            assert found.get(f"wan0/{name}", 0) >= N, (name, found)
            others = {"control", "priority", "normal", "suspect"} - {name, "control"}
            # Now and then a host of IPv6 says something by itself.
            assert all(found.get(f"wan0/{other}", 0) < N for other in others), (name, found)
    # Of TCP: MQTT and SSH are urgent, a shop is not, the node is when we ask it ourselves.
    for who, port, name in (
        ("dev", 1883, "priority"),
        ("dev", 22, "priority"),
        ("dev", 443, "normal"),
        ("dev", 7447, "normal"),
        ("gw", 7447, "control"),
    ):
        found = sent(routed, made, lambda w=who, p=port: knock(routed, w, (OUT, p)))
        assert found.get(f"wan0/{name}", 0) >= 1, (port, found)
    routed.net.ip("gw", f"neigh flush to {OUT}")
    found = sent(routed, made, lambda: talk(routed, "dev", (OUT, 53), n=1))
    assert found["wan0/control"] >= 1  # ARP


@pytest.mark.nightly
def test_all_tcp_is_urgent_in_the_published_way(routed: Scene) -> None:
    made = classes(routed, tc=Tc(rates={"wan0": "20 mbit"}, all_tcp=True))
    assert answered(routed.net, "dev", OUT)
    assert "wan0/priority" in sent(routed, made, lambda: knock(routed, "dev", (OUT, 443)))
    found = sent(routed, made, lambda: talk(routed, "dev", (OUT, 53)))
    assert found["wan0/normal"] >= N and found.get("wan0/priority", 0) < N


def live(scene: Scene, protected: ProtectedSets | None = None, **rates: str) -> ClassedEnforcer:
    """An enforcer with classes beside it, as the gateway has it."""
    with scene.net.inside("gw"):
        enforcer = scene.enforcer(protected=protected)
        beside = classes(scene, tc=Tc(rates=rates), open_=False)
        made = ClassedEnforcer(
            enforcer, beside, on_standing=enforcer.set_classes, held=lambda: False
        )
        made.open()
    return made


def apply(scene: Scene, made: ClassedEnforcer, *decisions: Decision) -> list[bool]:
    with scene.net.inside("gw"):
        return [answer.done for answer in made.apply(decisions)]


def test_who_is_deprioritised_waits_last_both_ways(routed: Scene) -> None:
    made = live(routed, wan0="20 mbit", lan0="20 mbit")
    bad = Subject(Kind.MAC, routed.mac("dev"), "lan0")
    far = Subject(Kind.IPV4, socket.inet_aton(BEYOND[0]))
    assert answered(routed.net, "dev", OUT) and answered(routed.net, "dev", BEYOND[0])
    beside = made._classes

    def where(who: str, to: str, source: str = "") -> set[str]:
        act = lambda: talk(routed, who, (to, 53), dscp=46, source=source)  # noqa: E731
        found = sent(routed, beside, act)
        return {name for name, n in found.items() if n >= N}

    assert where("dev", OUT) == {"wan0/priority"}
    assert apply(routed, made, decide(far, Response.DEPRIORITISE)) == [True]
    assert where("dev", OUT) == {"wan0/priority"}
    assert where("dev", BEYOND[0]) == {"wan0/suspect"}
    assert where("out", "192.0.2.2", BEYOND[0]) == {"lan0/suspect"}
    assert apply(routed, made, decide(bad, Response.DEPRIORITISE)) == [True]
    assert where("dev", OUT) == {"wan0/suspect"}
    assert where("out", "192.0.2.2") == {"lan0/suspect"}
    assert answered(routed.net, "dev", OUT)  # last, not cut off
    with routed.net.inside("gw"):
        made.release([bad, far])
    assert where("dev", BEYOND[0]) == {"wan0/priority"}
    assert where("out", "192.0.2.2") == {"lan0/priority"}


def test_the_protected_never_wait_last(routed: Scene) -> None:
    protected = routed.protected(("lan0", routed.mac("dev"), "192.0.2.2"))
    made = live(routed, protected, wan0="20 mbit")
    bad = Subject(Kind.MAC, routed.mac("dev"), "lan0")
    assert apply(routed, made, decide(bad, Response.DEPRIORITISE)) == [False]
    assert isinstance(made._inner, NftEnforcer)
    key = f'"lan0" . {routed.mac("dev").hex(":")}'
    routed.nft(made._inner, f"add element netdev ids_ports lan_suspect {{ {key} timeout 1h }}")
    assert answered(routed.net, "dev", OUT)
    found = sent(routed, made._classes, lambda: talk(routed, "dev", (OUT, 53)))
    assert found["wan0/priority"] >= N and "wan0/suspect" not in found


@pytest.mark.nightly
def test_bridged_frames_wait_too(bridged: Scene) -> None:
    made = live(bridged, port1="20 mbit", port3="20 mbit")
    bad = Subject(Kind.MAC, bridged.mac("dev"), "port1")
    far = Subject(Kind.IPV4, socket.inet_aton(BEYOND[0]))
    both = [decide(one, Response.DEPRIORITISE) for one in (bad, far)]
    assert answered(bridged.net, "dev", "192.0.2.254") and answered(bridged.net, "bad", BEYOND[0])
    assert apply(bridged, made, *both) == [True, True]
    for who, to, queue in (
        ("dev", "192.0.2.254", "port3/suspect"),
        ("router", "192.0.2.2", "port1/suspect"),
        ("bad", "192.0.2.254", "port3/priority"),
        ("bad", BEYOND[0], "port3/suspect"),
    ):
        act = lambda w=who, t=to: talk(bridged, w, (t, 53))  # noqa: E731
        assert sent(bridged, made._classes, act).get(queue, 0) >= N, (who, to)


# What is left -------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing(routed: Scene) -> None:
    first = classes(routed)
    before = tc(routed, "class", "show", "dev", "wan0"), tc(routed, "-j", "qdisc", "show")
    talk(routed, "dev", (OUT, 53))
    with routed.net.inside("gw"):
        first.reconcile()
    counted = first.counters()["tc_packets_wan0/priority"]
    second = classes(routed)
    assert (tc(routed, "class", "show", "dev", "wan0"), tc(routed, "-j", "qdisc", "show")) == before
    with routed.net.inside("gw"):
        second.reconcile()
    assert second.counters()["tc_packets_wan0/priority"] >= counted >= N
    assert second.counters()["tc_repairs"] == 0


@pytest.mark.nightly
def test_packets_that_offloads_have_joined_are_split(routed: Scene) -> None:
    made = classes(routed, tc=Tc(rates={"wan0": "20 mbit", "lan0": "auto"}))
    routed.net.ip("gw", "link set wan0 mtu 4000")
    with routed.net.inside("gw"):
        before = tc_kernel.look()
        assert before["wan0"].splits > 1500 and not before["lan0"].splits
        made.reconcile()
        assert made.counters()["tc_repairs"] == 1 and tc_kernel.look()["wan0"].whole
    # A packet of 3 kB has to pass where one of 1500 was the longest before.
    routed.net.ip("out", "link set eth0 mtu 4000")
    words = routed.net.command("gw", "ping", "-c", "1", "-W", "20", "-s", "3000", "-M", "do", OUT)
    assert subprocess.run(words, capture_output=True).returncode == 0


def test_somebody_elses_root_stays_and_is_told(routed: Scene) -> None:
    tc(routed, *"qdisc add dev wan0 root handle 7: pfifo limit 9".split())
    before = tc(routed, "-j", "qdisc", "show", "dev", "wan0")
    made = classes(routed)
    assert made.standing == ("lan0",)
    (line,) = [line for kind, line in routed.notes if "wan0" in line]
    assert "somebody else's (pfifo 7:)" in line and "tc qdisc del dev wan0 root" in line
    with routed.net.inside("gw"):
        made.reconcile()
        assert made.counters()["tc_missing"] == 1
        made.clear()
    assert tc(routed, "-j", "qdisc", "show", "dev", "wan0") == before
    assert len([line for kind, line in routed.notes if "wan0" in line]) == 1
    tc(routed, *"qdisc del dev wan0 root".split())
    with routed.net.inside("gw"):
        made.open()
    assert made.standing == ("wan0", "lan0")


def test_removal_leaves_what_was_there(routed: Scene) -> None:
    before = tc(routed, "-j", "qdisc", "show")
    made = live(routed, wan0="20 mbit", lan1="auto")
    assert tc(routed, "-j", "qdisc", "show") != before
    with routed.net.inside("gw"):
        made.clear()
        assert tc(routed, "-j", "qdisc", "show") == before and not left_behind()
        made.reconcile()
        assert not left_behind()  # the flag of a panic may still be under way
        made.reconcile()
        assert left_behind() and made._classes.standing == ("wan0", "lan1")
        removed = remove_all()
        assert {TABLE, "tc classes on wan0", "tc classes on lan1"} <= set(removed)
        assert remove_classes() == []
    assert tc(routed, "-j", "qdisc", "show") == before


@pytest.mark.nightly
def test_what_was_taken_away_or_altered_is_put_right(routed: Scene) -> None:
    made = classes(routed)
    good = tc(routed, "-d", "class", "show", "dev", "wan0")
    tc(routed, *"qdisc del dev wan0 root".split())
    tc(routed, *"class change dev lan0 parent 1d5:1 classid 1d5:20 htb rate 1mbit".split())
    with routed.net.inside("gw"):
        made._full_due = 0.0
        made._nft.run(f"delete chain {TABLE} on_wan0")
        made.reconcile()
        assert made.counters()["tc_repairs"] == 3
        assert made._table_text().count("hook egress") == 2
        made.reconcile()
        assert made.counters()["tc_repairs"] == 3
    assert sorted(tc(routed, "-d", "class", "show", "dev", "wan0").splitlines()) == sorted(
        good.splitlines()
    )
    assert "rate 1Mbit" not in tc(routed, "class", "show", "dev", "lan0")


@pytest.mark.nightly
def test_an_interface_that_comes_later_gets_its_classes(routed: Scene) -> None:
    made = classes(routed, tc=Tc(rates={"late0": "1 mbit"}))
    assert made.standing == () and "no such interface" in routed.notes[0][1]
    routed.net.ip("gw", "link add late0 type veth peer name late1", "link set late0 up")
    with routed.net.inside("gw"):
        made.reconcile()
        assert made.standing == ("late0",)
        routed.net.ip("gw", "link del late0")
        made.reconcile()
        assert made.standing == ()


@pytest.mark.nightly
def test_a_rate_that_is_named_no_more_is_removed(routed: Scene) -> None:
    classes(routed)
    fresh = classes(routed, tc=Tc(rates={"lan1": "5 mbit"}))
    with routed.net.inside("gw"):
        assert {name for name, queues in tc_kernel.look().items() if queues.ours} == {"lan1"}
        fresh.clear()


@pytest.mark.nightly
def test_a_kill_at_any_moment_leaves_word_of_the_classes(
    routed: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway without rates looks for classes only where the table is."""
    found: list[bool] = []
    run = tc_kernel.run

    def at_each_step(lines: Sequence[str]) -> None:
        found.append(left_behind())
        run(lines)

    monkeypatch.setattr(tc_kernel, "run", at_each_step)
    classes(routed, tc=Tc(rates={"wan0": "20 mbit"}))
    with routed.net.inside("gw"):
        assert remove_classes() == [TABLE, "tc classes on wan0"]
        assert not left_behind()
    assert len(found) >= 2 and all(found)


def test_a_killed_gateway_leaves_what_the_next_one_takes_over(routed: Scene) -> None:
    code = (
        "import time\n"
        "from ids_appliance.config.priorities import Tc\n"
        "from ids_appliance.enforce.tc import TrafficClasses\n"
        "t = TrafficClasses(Tc(rates={'wan0': '20 mbit'}), node_ports=(), uid=0,\n"
        "                   clock=time.monotonic)\n"
        "t.open(); print('up', flush=True); time.sleep(600)\n"
    )
    command = routed.net.command("gw", sys.executable, "-c", code)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        child.send_signal(signal.SIGKILL)
    talk(routed, "dev", (OUT, 53))
    with routed.net.inside("gw"):
        assert left_behind()
        before = tc_kernel.look()["wan0"]
    made = classes(routed, tc=Tc(rates={"wan0": "20 mbit"}))
    with routed.net.inside("gw"):
        made.reconcile()
        assert tc_kernel.look()["wan0"].kinds == before.kinds
    assert made.counters()["tc_packets_wan0/priority"] >= N and made.counters()["tc_repairs"] == 0
