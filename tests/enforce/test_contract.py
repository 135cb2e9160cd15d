"""What every enforcer promises (types.Enforcer), asked of the dry run, the kernel and a switch."""

import ipaddress
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import msgspec
import pytest

from ids_appliance.config import Enforce, OpenFlow
from ids_appliance.enforce.dryrun import DryRunEnforcer
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.openflow import OpenFlowEnforcer
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.errors import EnforceError
from ids_appliance.types import Decision, Enforcer, Kind, Response, Subject
from tests.monitor.ovs import PrivateSwitch, private_switch
from tests.net.namespaces import Network, require

Made = DryRunEnforcer | NftEnforcer | OpenFlowEnforcer
BRIDGE = ("datapath_type=netdev", "protocols=OpenFlow13", "fail-mode=secure")
ROUTER = bytes.fromhex("020000000001")
PROTECTED = ProtectedSets(
    triples=(
        ("lan0", ROUTER, "192.0.2.1"),
        ("lan0", None, "192.0.2.9"),
        ("", None, "203.0.113.53"),
        ("", None, "198.51.100.0/24"),
        ("lan0", None, "2001:db8:1::/48"),
    ),
    routers=(("lan0", ROUTER),),
    own_macs=(bytes.fromhex("0200000000fe"),),
)


@dataclass
class Subjects:
    make: Callable[..., Made]
    notes: list[tuple[str, str]] = field(default_factory=list)


ENFORCERS = {
    "dry-run": DryRunEnforcer,
    "nftables": NftEnforcer,
    "openflow": OpenFlowEnforcer,
}


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSwitch]:
    require()
    with Network("eo", "sw") as net:
        directory = tmp_path_factory.mktemp("ovs")
        with private_switch(directory, namespace=net.full("sw")) as running:
            running.vsctl("add-br", "s1", "--", "set", "bridge", "s1", *BRIDGE)
            yield running


@pytest.fixture(
    params=[
        "dry-run",
        pytest.param("nftables", marks=pytest.mark.net),
        pytest.param("openflow", marks=pytest.mark.net),
    ]
)
def place(request: pytest.FixtureRequest) -> Iterator[Subjects]:
    found = Subjects(lambda: None)  # type: ignore[arg-type,return-value]
    openflow = OpenFlow()

    def make(enforce: Enforce | None = None, **more: object) -> Made:
        made = ENFORCERS[request.param](
            msgspec.structs.replace(enforce or Enforce(), openflow=openflow),
            interfaces=("lan0", "usb0"),
            protected=PROTECTED,
            clock=time.monotonic,
            on_note=lambda kind, line: found.notes.append((kind, line)),
            **more,
        )
        made.open()
        return made

    found.make = make
    if request.param == "dry-run":
        yield found
    elif request.param == "nftables":
        require()
        with Network("ec", "gw") as net:
            net.ip("gw", "link add lan0 type veth peer name peer0", "link set lan0 up")
            with net.inside("gw"):
                yield found
    else:
        running: PrivateSwitch = request.getfixturevalue("switch")
        openflow = OpenFlow(bridge="s1", ovs_run_dir=str(running.directory))
        yield found
        running.ofctl("del-flows", "s1")
        running.ofctl("del-meters", "s1")


def mac(number: int, interface: str = "lan0") -> Subject:
    return Subject(Kind.MAC, b"\2\0\1" + number.to_bytes(3, "big"), interface)


def wan(number: int, *, proven: bool = True) -> Subject:
    return Subject(Kind.IPV4, bytes([10, *number.to_bytes(3, "big")]), proven=proven)


EVERY = [
    mac(1),
    mac(2, "usb0"),
    Subject(Kind.IPV4, bytes([10, 0, 0, 1]), "lan0"),
    Subject(Kind.IPV6, ipaddress.IPv6Address("2001:db8:9::").packed[:8], "lan0"),
    wan(1),
    wan(2, proven=False),
    Subject(Kind.IPV6, ipaddress.IPv6Address("2001:db8:7::").packed[:8]),
    Subject(Kind.IPV6, ipaddress.IPv6Address("2001:db8:8::").packed[:8], proven=False),
    Subject(Kind.FLOOD, bytes([192, 0, 2, 7]), port=80),
    Subject(Kind.FLOOD, ipaddress.IPv6Address("2001:db8:1::7").packed, port=443),
]


def decide(
    subject: Subject,
    response: Response = Response.QUARANTINE,
    *,
    for_s: float = 60.0,
    score: float = 1.0,
) -> Decision:
    return Decision(1, subject, response, for_s, "test", score=score)


@pytest.mark.parametrize("response", [Response.RATE_LIMIT, Response.QUARANTINE])
def test_every_kind_of_subject_stands(place: Subjects, response: Response) -> None:
    made: Enforcer = place.make()
    answers = made.apply([decide(s, response) for s in EVERY])
    assert [(a.decision.subject, a.done) for a in answers] == [(s, True) for s in EVERY]
    state = made.reconcile()
    assert (state.intended, state.found, state.foreign) == (len(EVERY), len(EVERY), 0)
    counts = made.counters()
    assert [counts[f"elements_{p}"] for p in ("lan", "wan", "unverified", "flood")] == [4, 2, 2, 2]


def test_applying_again_replaces_response_and_duration(place: Subjects) -> None:
    made = place.make()
    for response in (Response.RATE_LIMIT, Response.QUARANTINE, Response.RATE_LIMIT):
        for seconds in (60.0, 600.0, 30.0):
            assert all(
                a.done for a in made.apply([decide(s, response, for_s=seconds) for s in EVERY])
            )
            made.settle()  # the next comparison looks at everything
            state = made.reconcile()
            assert (state.intended, state.found, state.repaired) == (len(EVERY), len(EVERY), 0)


def test_a_sender_that_proves_itself_stands_once(place: Subjects) -> None:
    made = place.make()
    made.apply([decide(wan(1, proven=False))])
    made.apply([decide(wan(1))])
    counts = made.counters()
    assert (counts["elements_wan"], counts["elements_unverified"]) == (1, 0)
    made.settle()
    assert made.reconcile().foreign == 0


def test_the_same_subject_twice_in_a_batch(place: Subjects) -> None:
    made = place.make()
    first, last = decide(mac(1), Response.RATE_LIMIT), decide(mac(1))
    assert all(a.done for a in made.apply([first, last]))
    made.settle()
    state = made.reconcile()
    assert (state.intended, state.found, state.foreign) == (1, 1, 0)


def test_observing_lets_go(place: Subjects) -> None:
    made = place.make()
    made.apply([decide(mac(1)), decide(mac(2))])
    answers = made.apply([decide(mac(1), Response.OBSERVE), decide(mac(2), Response.DEPRIORITISE)])
    assert [(a.done, bool(a.note)) for a in answers] == [(True, True), (False, True)]
    made.settle()
    assert made.reconcile().intended == 0 and made.counters()["elements_lan"] == 0


def test_deprioritised_where_classes_stand_and_refused_elsewhere(place: Subjects) -> None:
    made = place.make()
    decisions = [decide(subject, Response.DEPRIORITISE) for subject in EVERY]
    assert all("needs traffic classes" in a.note for a in made.apply(decisions) if not a.done)
    assert not any(a.done for a in made.apply(decisions))
    if isinstance(made, OpenFlowEnforcer):
        return  # a switch has no such queues
    made.set_classes(("lan0",))
    answers = made.apply([*decisions, decide(Subject(Kind.MAC, ROUTER, "lan0"))])
    floods = [a.decision.subject.kind is Kind.FLOOD for a in answers[:-1]]
    assert [a.done for a in answers] == [not flood for flood in floods] + [False]
    made.settle()
    state = made.reconcile()
    assert (state.intended, state.found, state.foreign) == (len(EVERY) - 2, len(EVERY) - 2, 0)
    # Up, and down again: a sender stands once.
    for response in (Response.QUARANTINE, Response.DEPRIORITISE):
        assert made.apply([decide(mac(1), response)])[0].done
        state = made.reconcile()
        assert (state.intended, state.found, state.foreign) == (len(EVERY) - 2,) * 2 + (0,)
    made.release([mac(1)])
    assert made.reconcile().intended == len(EVERY) - 3


@pytest.mark.parametrize(
    "subject",
    [
        Subject(Kind.MAC, ROUTER, "lan0"),
        Subject(Kind.MAC, bytes.fromhex("0200000000fe"), "lan0"),
        Subject(Kind.IPV4, bytes([192, 0, 2, 1])),
        Subject(Kind.IPV4, bytes([192, 0, 2, 9]), "lan0"),
        Subject(Kind.IPV4, bytes([203, 0, 113, 53])),
        Subject(Kind.IPV4, bytes([203, 0, 113, 53]), "lan0"),
        Subject(Kind.IPV4, bytes([198, 51, 100, 200]), proven=False),
        Subject(Kind.IPV6, ipaddress.IPv6Address("2001:db8:1:2::").packed[:8]),
        Subject(Kind.MAC, bytes.fromhex("020000000007")),  # without its interface: nobody
        Subject(Kind.MAC, bytes.fromhex("020000000007"), "wan0"),  # not captured
        Subject(Kind.IPV4, bytes(6)),
    ],
)
def test_the_protected_and_the_nameless_are_refused(place: Subjects, subject: Subject) -> None:
    made = place.make()
    good = decide(mac(1))
    answers = made.apply([good, decide(subject), decide(mac(2))])
    assert [a.done for a in answers] == [True, False, True] and answers[1].note
    assert made.counters()["refused"] == 1 and made.reconcile().found == 2


def test_who_is_protected_later_is_let_go(place: Subjects) -> None:
    made = place.make()
    made.apply([decide(wan(1)), decide(wan(2))])
    made.set_protected(replace(PROTECTED, triples=(("", None, "10.0.0.1"),)))
    made.settle()
    state = made.reconcile()
    assert (state.intended, state.found, state.foreign) == (1, 1, 0)
    assert not made.apply([decide(wan(1))])[0].done


def test_what_has_ended_is_refused(place: Subjects) -> None:
    answer = place.make().apply([decide(mac(1), for_s=0.0)])[0]
    assert not answer.done and "ended" in answer.note


def test_releasing(place: Subjects) -> None:
    made = place.make()
    made.apply([decide(s) for s in EVERY])
    made.release([*EVERY, mac(99), wan(99)])
    made.settle()
    state = made.reconcile()
    assert (state.intended, state.foreign) == (0, 0)


def test_every_element_ends_by_itself(place: Subjects) -> None:
    made = place.make()
    made.apply([decide(mac(1), for_s=0.2), decide(mac(2))])
    time.sleep(0.3)  # the kernel's own clock has to pass
    made.settle()
    state = made.reconcile()
    assert (state.intended, state.found, state.foreign, state.repaired) == (1, 1, 0, 0)


def test_a_full_set_loses_its_weakest(place: Subjects) -> None:
    made = place.make(Enforce(lan_set=4, alarm_share=0.75))
    made.apply([decide(mac(n), score=float(n)) for n in (5, 3, 4)])
    assert [kind for kind, _ in place.notes] == ["alarm"]
    made.apply([decide(mac(6), score=6.0)])
    answers = made.apply([decide(mac(1), score=1.0), decide(mac(9), score=9.0)])
    assert [a.done for a in answers] == [False, True]
    assert "full" in answers[0].note and "02:00:01:00:00:03@lan0" in answers[1].note
    made.settle()
    state = made.reconcile()
    assert (state.intended, state.found, state.foreign) == (4, 4, 0)
    counts = made.counters()
    assert counts["evictions"] == 1 and counts["elements_lan"] == 4
    assert [kind for kind, _ in place.notes if kind == "alarm"] == ["alarm"]  # once, not each time
    # Standing already, it needs no room: and others' sets have their own.
    assert made.apply([decide(mac(4), Response.RATE_LIMIT, score=0.1)])[0].done
    assert made.apply([decide(wan(1), score=0.0)])[0].done


def test_of_equal_scores_the_one_that_ends_first_goes(place: Subjects) -> None:
    made = place.make(Enforce(wan_set=2))
    made.apply([decide(wan(1), for_s=600.0), decide(wan(2), for_s=60.0)])
    answer = made.apply([decide(wan(3), for_s=300.0)])[0]
    assert answer.done and "10.0.0.2" in answer.note


def test_ports_come_and_go(place: Subjects) -> None:
    made = place.make()
    made.apply([decide(mac(1)), decide(mac(2, "usb0"))])
    made.set_interfaces(["lan0", "lan7"])
    made.settle()
    state = made.reconcile()
    assert (state.intended, state.found) == (2, 2)  # it ends by itself, and the port may come back
    assert not made.apply([decide(mac(3, "usb0"))])[0].done
    assert made.apply([decide(mac(4, "lan7"))])[0].done


@pytest.mark.parametrize("name", ['x"y', "a*", "a b", "a;b", "", "x" * 16, "a\ny", "{a}"])
def test_a_name_that_would_write_rules_is_refused(place: Subjects, name: str) -> None:
    made = place.make()
    with pytest.raises(EnforceError, match="rename it"):
        made.set_interfaces([name])


def test_clearing_is_safe_and_applying_works_again(place: Subjects) -> None:
    made = place.make()
    made.apply([decide(s) for s in EVERY])
    made.clear()
    made.clear()
    assert made.reconcile().intended == 0
    made.release([mac(1)])
    assert made.apply([decide(mac(1))])[0].done
    made.settle()
    state = made.reconcile()
    assert (state.intended, state.found) == (1, 1)


def test_a_thousand_in_one_batch(place: Subjects) -> None:
    made = place.make()
    answers = made.apply([decide(wan(n)) for n in range(1, 1501)])
    assert sum(a.done for a in answers) == 1500
    made.settle()
    assert made.reconcile().found == 1500
