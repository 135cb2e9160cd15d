"""People's orders and questions."""

import pytest

from ids_appliance.config import Enforce
from ids_appliance.errors import IdsError, Refused, SubjectError
from ids_appliance.types import Applied, Kind, Response, Subject
from tests.policy.ledgers import World, device, flood, ip, lan, wan

O, L, Q = Response.OBSERVE, Response.RATE_LIMIT, Response.QUARANTINE  # noqa: E741


@pytest.fixture
def world() -> World:
    return World()


def test_what_the_kernel_refused_is_given_again_with_the_time_that_is_left(world: World) -> None:
    made = world.ledger.quarantine("192.0.2.5", 60).apply[0]
    other = world.ledger.quarantine("192.0.2.6", 60).apply[0]
    world.ledger.settle([Applied(made, False, "no such table"), Applied(other, True)])
    world.later(20)
    (again,) = world.ledger.not_held(world.now)
    assert (again.number, again.subject, again.duration_s) == (made.number, device(5), 40.0)
    assert world.ledger.not_held(world.now) == [], "not at every turn"
    world.ledger.settle([Applied(again, True)])
    world.later(20)
    assert world.ledger.not_held(world.now) == []


# quarantine --------------------------------------------------------------------------------------


def test_quarantine_by_hand_ends_without_probation(world: World) -> None:
    effect = world.ledger.quarantine("192.0.2.5", 60)
    (made,) = effect.apply
    assert (made.subject, made.response, made.duration_s) == (device(5), Q, 60.0)
    assert effect.message == "02:00:00:00:00:05@lan0 is cut off for 1 min"
    assert world.found(lan(5), "port_scan") == []
    (ended,) = world.later(60)
    assert (ended.subject, ended.response, ended.duration_s) == (device(5), O, 0.0)


def test_quarantine_by_hand_replaces_what_stands(world: World) -> None:
    world.found(lan(5))
    world.ledger.quarantine("02:00:00:00:00:05", 60)
    (row,) = world.ledger.decisions()
    assert row.by_hand and row.decision.response is Q and row.remaining_s == 60


def test_orders_are_not_counted_by_the_breaker(world: World) -> None:
    for n in range(1, 30):
        world.ledger.quarantine(f"198.51.100.{n}", 60)
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is Q


def test_orders_work_while_the_breaker_holds(world: World) -> None:
    for n in range(10, 17):
        world.found(wan(f"198.51.100.{n}"), "port_scan")
    assert world.ledger.quarantine("192.0.2.5", 60).apply


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.1", "default router"),
        ("02:00:00:00:00:01@lan0", "default router"),
        ("192.0.2.254", "our own address"),
        ("203.0.113.254", "our own address"),
        ("02:00:00:00:00:fe@lan0", "our own MAC"),
        ("198.51.100.53", "DNS server"),
        ("203.0.113.40", "node"),
        ("192.0.2.9", "administrator"),
        ("198.51.100.130", "administrator"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
    ],
)
def test_bans_that_are_refused(world: World, text: str, why: str) -> None:
    with pytest.raises(IdsError, match=why):
        world.ledger.quarantine(text, 60)
    assert world.ledger.decisions() == []


def test_allowed_is_refused_with_the_remedy(world: World) -> None:
    world.ledger.allow_add("192.0.2.5", comment="camera")
    with pytest.raises(Refused, match="camera.*allow remove"):
        world.ledger.quarantine("192.0.2.5", 60)


def test_a_devices_ceiling_binds_people_the_global_one_does_not() -> None:
    enforce = Enforce(
        enabled=True, ceiling="rate_limit", ceilings={"02:00:00:00:00:05": "rate_limit"}
    )
    world = World(enforce=enforce)
    with pytest.raises(Refused, match="ceiling"):
        world.ledger.quarantine("192.0.2.5", 60)
    assert world.ledger.quarantine("192.0.2.6", 60).apply


@pytest.mark.parametrize("for_s", [0, -1, 1e9, float("nan"), float("inf")])
def test_no_quarantine_without_an_end(world: World, for_s: float) -> None:
    with pytest.raises(SubjectError, match="up to 30 d"):
        world.ledger.quarantine("192.0.2.5", for_s)


def test_no_quarantine_where_nothing_is_enforced(world: World) -> None:
    with pytest.raises(Refused, match="enforce on"):
        World(enforce=Enforce()).ledger.quarantine("192.0.2.5", 60)
    world.ledger.pause(60)
    with pytest.raises(Refused, match="pause --for 0"):
        world.ledger.quarantine("192.0.2.5", 60)


# release and allow -------------------------------------------------------------------------------


def test_release_by_address_mac_or_flood(world: World) -> None:
    world.found(lan(5), "port_scan", address=ip("192.0.2.5"))
    world.found(flood("192.0.2.5", 80), "dos")
    effect = world.ledger.release("192.0.2.5:80")
    assert [d.subject.kind for d in effect.ended] == [Kind.FLOOD]
    effect = world.ledger.release("192.0.2.5")
    assert [d.subject for d in effect.ended] == [device(5)]
    assert effect.message == "02:00:00:00:00:05@lan0 is free"
    assert [(d.response, d.duration_s) for d in effect.ended] == [(O, 0.0)]
    assert world.later(10**6) == []


def test_release_by_an_address_that_the_decision_does_not_name(world: World) -> None:
    world.named(lan(5), "arp_spoof", decisive=True)  # counts by MAC: no address
    fe80 = bytes.fromhex("fe80000000000000020000fffe000006")
    world.found(lan(6), "port_scan", address=fe80)  # the latest one, of the other family
    assert [d.subject for d in world.ledger.release("192.0.2.5").ended] == [device(5)]
    assert [d.subject for d in world.ledger.release("192.0.2.6@lan0").ended] == [device(6)]
    world.found(lan(66), "port_scan", address=ip("192.0.2.66"))
    for text in ("192.0.2.5", "192.0.2.6", "192.0.2.7"):
        with pytest.raises(SubjectError, match="nothing stands"):
            world.ledger.release(text)


def test_release_of_a_flooded_device_frees_the_device_too(world: World) -> None:
    world.named(lan(5), "arp_spoof", decisive=True)
    world.found(flood("192.0.2.5", 80), "dos")
    ended = world.ledger.release("192.0.2.5").ended
    assert {d.subject.kind for d in ended} == {Kind.MAC, Kind.FLOOD}


def test_release_forgets_the_offences(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.ledger.release("02:00:00:00:00:05")
    (made,) = world.found(lan(5), "port_scan")
    assert made.duration_s == 600.0


def test_release_of_everybody_and_of_nobody(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.found(lan(6), "port_scan")
    assert world.ledger.release("").message == "2 decisions have ended"
    with pytest.raises(SubjectError, match="nothing stands about 192.0.2.5"):
        world.ledger.release("192.0.2.5")


def test_allowed_is_let_go_and_never_decided_about(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.found(lan(6), "port_scan")
    effect = world.ledger.allow_add("192.0.2.5", comment="inventory scan")
    assert [d.subject for d in effect.ended] == [device(5)]
    assert world.found(lan(5), "port_scan", address=ip("192.0.2.5")) == []
    assert world.named(lan(5), "arp_spoof", decisive=True) == []
    assert "inventory scan" in world.ledger.why("192.0.2.5").allowed
    assert [str(e) for e in world.ledger.allow_list()] == ["192.0.2.5@lan0 (inventory scan)"]
    world.ledger.allow_remove("192.0.2.5")
    assert world.found(lan(5), "port_scan") != []


def test_who_only_claims_what_is_allowed_stays_and_is_named(world: World) -> None:
    world.found(lan(66), "port_scan", address=ip("192.0.2.66"))  # no ARP of it was seen
    effect = world.ledger.allow_add("192.0.2.66")
    assert effect.ended == ()
    assert "02:00:00:00:00:42@lan0 claims that address" in effect.message
    assert "`release` that MAC" in effect.message
    assert "release" not in world.ledger.allow_add("192.0.2.5").message


# pause and enforce -------------------------------------------------------------------------------


def test_a_pause_lifts_everything_and_ends_by_itself(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.found(lan(6))
    effect = world.ledger.pause(100)
    assert set(effect.lifted) == {device(5), device(6)} and not effect.ended
    assert world.found(lan(7), "port_scan") == []
    assert world.named(lan(7), "arp_spoof", decisive=True) == []
    assert world.ledger.held_because() == "paused"
    assert not any(row.enforced for row in world.ledger.decisions())
    assert world.later(99) == []
    again = world.later(1)
    assert {(d.subject, d.response, d.duration_s) for d in again} == {
        (device(5), Q, 500.0),
        (device(6), L, 500.0),
    }
    assert all(row.enforced for row in world.ledger.decisions())


def test_what_ends_or_steps_down_in_a_pause_is_not_enforced_again(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.found(lan(6))
    world.ledger.pause(700)
    assert [(d.subject, d.response) for d in world.later(600)] == [(device(6), O)]
    assert [(d.subject, d.response, d.duration_s) for d in world.later(100)] == [
        (device(5), L, 500)
    ]


def test_a_pause_ended_by_hand(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.ledger.pause(100)
    world.now += 10 * 10**9
    (again,) = world.ledger.pause(0).apply
    assert again.duration_s == 590.0
    assert world.later(90) == []
    assert world.ledger.pause(0).message == "there is no pause"
    with pytest.raises(SubjectError, match="up to 1 d"):
        world.ledger.pause(1e6)


def test_enforce_on_begins_with_fresh_evidence() -> None:
    world = World(enforce=Enforce())
    world.found(lan(5), "port_scan")
    effect = world.ledger.enforce(True)
    assert [d.subject for d in effect.ended] == [device(5)] and not effect.apply
    (made,) = world.found(lan(5), "port_scan")
    assert (made.response, made.duration_s) == (Q, 600.0)


def test_enforce_off_ends_everything(world: World) -> None:
    world.found(lan(5), "port_scan")
    assert [d.subject for d in world.ledger.enforce(False).ended] == [device(5)]
    assert world.ledger.in_force(world.now) == []
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is O


def test_enforce_on_resets_the_breaker(world: World) -> None:
    for n in range(10, 17):
        world.found(wan(f"198.51.100.{n}"), "port_scan")
    assert "the breaker is reset" in world.ledger.enforce(True).message
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is Q
    assert world.ledger.enforce(True).message == "enforcement is on already"


# why ---------------------------------------------------------------------------------------------


def test_why_tells_everything(world: World) -> None:
    world.named(lan(5))
    world.found(lan(5), "port_scan", address=ip("192.0.2.5"))
    account = world.ledger.why("192.0.2.5")
    assert account.subject == device(5) and account.address == ip("192.0.2.5")
    assert [e.rule for e in account.events] == ["port_scan"]
    assert account.finding is not None and account.finding.cells == ((1, 2.5, 40),)
    assert account.active is not None and account.active.remaining_s == 600
    assert "quarantine for 10 min: port_scan and evidence" in account.summary
    assert account.history[0].startswith("1: 02:00:00:00:00:05@lan0 quarantine for 10 min")
    world.later(600)
    world.later(600)
    account = world.ledger.why("02:00:00:00:00:05")
    assert account.active is None and "nothing stands" in account.summary
    assert len(account.history) == 3


def test_why_of_somebody_unknown(world: World) -> None:
    account = world.ledger.why("198.51.100.99")
    assert account.subject == Subject(Kind.IPV4, ip("198.51.100.99"))
    assert "nothing is known" in account.summary and account.history == ()
    assert world.ledger.why("192.0.2.1").protected == "default router"
    with pytest.raises(SubjectError, match="no flood"):
        world.ledger.why("198.51.100.99:80")


def test_why_says_how_many_more_are_meant(world: World) -> None:
    world.found(lan(5), "port_scan", address=ip("192.0.2.5"))
    world.found(flood("192.0.2.5"), "dos")
    assert world.ledger.why("192.0.2.5").others == 1


def test_answers_about_what_was_let_go_meanwhile_count_no_more() -> None:
    world = World()
    (made,) = world.found(lan(5), "port_scan")
    answer = Applied(made, True)
    assert world.ledger.settle([answer]) == [answer]
    world.ledger.pause(60)
    assert world.ledger.settle([answer]) == []
    world.ledger.pause(0)
    world.ledger.enforce(False)
    assert world.ledger.settle([answer]) == []
