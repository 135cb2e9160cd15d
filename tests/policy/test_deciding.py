"""From findings and events to decisions: how much, how long, about whom, and when not."""

from dataclasses import replace

import pytest

from ids_appliance.config import Enforce, Policy
from ids_appliance.policy.protect import Place
from ids_appliance.types import Applied, Kind, Response, Standing, Subject
from tests.policy.ledgers import (
    FOUND,
    HOSTS,
    World,
    device,
    event,
    finding,
    flood,
    ip,
    lan,
    mac,
    wan,
)

O, L, Q = Response.OBSERVE, Response.RATE_LIMIT, Response.QUARANTINE  # noqa: E741


@pytest.fixture
def world() -> World:
    return World()


# How much ----------------------------------------------------------------------------------------


def test_two_witnesses_cut_off_at_once(world: World) -> None:
    (made,) = world.found(lan(5), "port_scan", address=ip("192.0.2.5"))
    assert (made.subject, made.response, made.duration_s) == (device(5), Q, 600.0)
    assert "port_scan and evidence 9.0 over 6.0 (40 packets)" in made.reason
    assert made.address == ip("192.0.2.5") and made.score == 9.0 and made.number == 1


def test_evidence_alone_limits_first_and_cuts_off_if_it_goes_on(world: World) -> None:
    (first,) = world.found(lan(5))
    assert first.response is L
    world.later(9)
    assert world.found(lan(5)) == []
    world.later(1)
    (second,) = world.found(lan(5))
    assert (second.response, second.duration_s) == (Q, 600.0)  # the same incident: the same time


def test_a_trigger_alone_decides_nothing(world: World) -> None:
    assert world.named(lan(5)) == []
    assert world.ledger.decisions() == []


def test_the_second_witness_may_come_later(world: World) -> None:
    world.found(lan(5))
    (made,) = world.named(lan(5))
    assert made.response is Q and "after evidence alone" in made.reason
    assert world.named(lan(5)) == []


@pytest.mark.parametrize("rule", ["sample", "manual", "always", "overflow"])
def test_rules_that_accuse_nobody_are_no_witnesses(world: World, rule: str) -> None:
    (made,) = world.found(lan(5), rule)
    assert made.response is L


def test_cleared_is_no_decision(world: World) -> None:
    assert world.found(lan(5), "port_scan", malicious=False) == []


def test_a_decisive_event_cuts_off_the_mac_on_its_port(world: World) -> None:
    (made,) = world.named(lan(66, ifindex=3), "arp_spoof", decisive=True)
    assert (made.subject, made.response) == (device(66, "lan1"), Q)


@pytest.mark.parametrize("rule", ["repeated_connections", "udp_exchanges", "arp_sweep"])
def test_a_further_rule_alone_limits_and_never_cuts_off(world: World, rule: str) -> None:
    (made,) = world.named(lan(66, ifindex=3), rule, decisive=True)
    assert made.response is Response.RATE_LIMIT
    (limited,) = world.named(wan("198.51.100.7"), rule, decisive=True)
    assert limited.response is Response.RATE_LIMIT and not limited.subject.proven
    assert world.named(lan(66, ifindex=3), rule, decisive=True) == []


def test_who_insists_by_arp_is_cut_off(world: World) -> None:
    (made,) = world.named(lan(66, ifindex=3), "arp_insistence", decisive=True)
    assert made.response is Response.QUARANTINE


def test_an_address_that_we_have_elsewhere_is_not_taken_from_us(world: World) -> None:
    """Docker's 172.17.0.1 is on many machines, ours among them, and one frame would be enough."""
    claim = event(lan(5), "arp_spoof", decisive=True)
    assert world.ledger.decide([], [replace(claim, key="203.0.113.254")]) == []
    assert "is ours, but not on that link" in world.ledger.why("192.0.2.5").history[0]
    (made,) = world.ledger.decide([], [replace(claim, key="192.0.2.254")])  # of this link
    assert made.response is Q
    world = World()
    world.protection.update(replace(FOUND, networks=()), HOSTS)  # a mirror: nobody knows
    (made,) = world.ledger.decide([], [replace(claim, key="203.0.113.254")])
    assert made.response is Q


def test_a_decisive_event_never_bans_an_address(world: World) -> None:
    assert world.named(wan("198.51.100.7"), "arp_spoof", decisive=True) == []
    assert world.named(flood("192.0.2.5"), "arp_spoof", decisive=True) == []
    assert [n.kind for n in world.ledger.notes()] == ["refused", "refused"]


def test_the_router_whose_address_is_forged_is_let_alone(world: World) -> None:
    """ARP forged as the router: the event names the forger's MAC; an event naming the router's
    own MAC, or evidence about its address, changes nothing."""
    assert world.named(lan(1), "arp_spoof", decisive=True) == []
    assert world.found(lan(1), "arp_spoof", address=ip("192.0.2.1")) == []
    (made,) = world.found(lan(66), "arp_spoof", address=ip("192.0.2.1"))
    assert (made.subject, made.response) == (device(66), Q)


def test_a_scan_from_a_spoofed_neighbour_accuses_the_mac(world: World) -> None:
    (made,) = world.found(lan(66), "port_scan", address=ip("192.0.2.5"))
    assert made.subject == device(66)
    assert [row.decision.subject for row in world.ledger.decisions()] == [device(66)]


def test_a_flood_limits_its_senders_and_cuts_off_nobody(world: World) -> None:
    (made,) = world.found(flood("192.0.2.5", 80), "dos")
    assert made.subject == Subject(Kind.FLOOD, ip("192.0.2.5"), port=80)
    assert made.response is L
    assert world.found(flood("192.0.2.5", 80), "dos") == []
    assert world.named(flood("192.0.2.5", 80), "dos") == []
    (ended,) = world.later(600)
    assert ended.response is O and world.ledger.decisions() == []


def test_who_may_be_forged_is_limited_until_proven(world: World) -> None:
    (first,) = world.found(wan("198.51.100.7"), "port_scan", standing=0)
    assert (first.response, first.subject.proven) == (L, False)
    assert world.found(wan("198.51.100.7"), "port_scan", standing=0) == []
    assert world.named(wan("198.51.100.7")) == []
    (second,) = world.found(wan("198.51.100.7"), "port_scan")
    assert (second.response, second.subject.proven) == (Q, True)
    assert world.found(wan("198.51.100.7"), "port_scan", standing=0) == []
    assert len(world.ledger.decisions()) == 1


def test_unproven_by_evidence_alone_and_then_named_is_still_limited(world: World) -> None:
    world.found(wan("198.51.100.7"), standing=0)
    assert world.named(wan("198.51.100.7")) == []
    world.later(60)
    assert world.found(wan("198.51.100.7"), standing=0) == []


def test_whom_our_devices_call_is_limited_at_most(world: World) -> None:
    both = int(Standing.PROVEN | Standing.CALLED)
    (made,) = world.found(wan("198.51.100.7"), "port_scan", standing=both)
    assert made.response is L and "our own devices call it" in made.reason
    assert not made.subject.proven  # their connections to it are left alone
    (on_the_lan,) = world.found(lan(5), "port_scan", standing=both)
    assert on_the_lan.response is Q


def test_who_claims_an_administrators_address_is_limited_at_most(world: World) -> None:
    (made,) = world.found(lan(66), "port_scan", address=ip("192.0.2.10"))
    assert made.response is L and "administrator" in made.reason
    assert world.found(lan(9), "port_scan", address=ip("192.0.2.9")) == []


def test_the_published_policy_cuts_off_by_a_verdict() -> None:
    (made,) = World(policy=Policy(kind="per_packet")).found(lan(5))
    assert made.response is Q


def test_ceilings() -> None:
    enforce = Enforce(enabled=True, ceilings={"02:00:00:00:00:05": "rate_limit"})
    world = World(enforce=enforce)
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is L and "ceiling of 02:00:00:00:00:05" in made.reason
    assert world.found(lan(5), "port_scan") == []
    (other,) = world.found(lan(6), "port_scan")
    assert other.response is Q
    for_all = World(enforce=Enforce(enabled=True, ceiling="rate_limit"))
    (made,) = for_all.found(lan(6), "port_scan")
    assert made.response is L


def test_a_ceiling_may_be_that_somebody_waits(world: World) -> None:
    world = World(enforce=Enforce(enabled=True, ceilings={"02:00:00:00:00:05": "deprioritise"}))
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is Response.DEPRIORITISE and "no more than deprioritise" in made.reason
    assert [n.kind for n in world.ledger.notes()] == ["capped"]


# How long ----------------------------------------------------------------------------------------


def test_the_ladder_climbs_and_steps_down(world: World) -> None:
    for step in (600.0, 3600.0, 86_400.0, 604_800.0, 604_800.0):
        (made,) = world.found(lan(5), "port_scan")
        assert (made.response, made.duration_s) == (Q, step)
        (milder,) = world.later(step)
        assert (milder.response, milder.duration_s) == (L, min(step, 86_400.0))
        assert milder.number > made.number and "probation" in milder.reason
        (free,) = world.later(milder.duration_s)
        assert (free.response, free.duration_s, free.subject) == (O, 0.0, device(5))
    world.later(1_209_600)
    (made,) = world.found(lan(5), "port_scan")
    assert made.duration_s == 600.0  # long quiet: it starts over


def test_an_offence_during_probation_cuts_off_for_longer(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.later(600)
    assert world.named(lan(5)) == []
    (made,) = world.found(lan(5))  # by evidence alone: it is limited already
    assert (made.response, made.duration_s) == (Q, 3600.0)


def test_a_limit_ends_without_probation(world: World) -> None:
    world.found(lan(5))
    (ended,) = world.later(600)
    assert ended.response is O


def test_a_late_tick_takes_from_the_probation(world: World) -> None:
    world.found(lan(5), "port_scan")
    (milder,) = world.later(1000)
    assert milder.duration_s == pytest.approx(200)
    world = World()
    world.found(lan(5), "port_scan")
    (ended,) = world.later(1200)
    assert ended.response is O


def test_no_storms(world: World) -> None:
    made = world.ledger.decide([finding(lan(5), "port_scan")] * 100, [event(lan(5))] * 100)
    assert len(made) == 1
    assert all(world.found(lan(5), "port_scan") == [] for _ in range(100))


# Who is let off, and when nothing is enforced ----------------------------------------------------


def test_a_refusal_is_told_once_a_minute_and_remembered(world: World) -> None:
    for _ in range(10):
        assert world.found(lan(1), "port_scan") == []
    (note,) = world.ledger.notes()
    assert note.kind == "refused" and "default router" in note.text and "port_scan" in note.text
    account = world.ledger.why("02:00:00:00:00:01")
    assert account.protected == "default router" and "refused" in account.history[0]
    assert world.ledger.counters()["ledger_refused"] == 10


def test_observe_records_what_it_would_have_been() -> None:
    world = World(enforce=Enforce())
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is O and made.duration_s == 600.0
    assert "would be quarantine for 10 min" in made.reason
    assert world.found(lan(5), "port_scan") == []
    assert world.ledger.in_force(world.now) == []
    world.later(601)
    (again,) = world.found(lan(5), "port_scan")
    assert "for 10 min" in again.reason  # nobody was punished: the ladder has not begun


def test_the_breaker_holds_and_keeps_what_stands(world: World) -> None:
    for n in range(10, 15):
        (made,) = world.found(wan(f"198.51.100.{n}"), "port_scan")
        assert made.response is Q
    (sixth,) = world.found(lan(5), "port_scan")
    assert sixth.response is O and "breaker" in sixth.reason
    assert [n.kind for n in world.ledger.notes()] == ["breaker"]
    assert "breaker" in world.ledger.held_because()
    assert len(world.ledger.in_force(world.now)) == 5
    assert world.found(lan(5), "port_scan") == []
    changed = world.later(900)  # cooled down; the five quarantines are on probation by now
    assert {d.response for d in changed if d.subject == device(5)} == {O}
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is Q and made.duration_s == 600.0


def test_a_held_climb_leaves_what_stands(world: World) -> None:
    world.found(lan(5))
    for n in range(10, 15):
        world.found(wan(f"198.51.100.{n}"), "port_scan")
    assert world.found(lan(5), "port_scan") == []
    (row,) = [r for r in world.ledger.decisions() if r.decision.subject == device(5)]
    assert (row.decision.response, row.would) == (L, Q)
    world.ledger.enforce(True)
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is Q


def test_a_share_of_the_lan(world: World) -> None:
    world.ledger.known_devices = 12
    responses = []
    for n in (21, 22, 23):
        (made,) = world.found(lan(n), "port_scan")
        responses.append(made.response)
        world.later(61)
    assert responses == [Q, Q, O]


def test_forged_senders_cannot_switch_the_rest_off(world: World) -> None:
    responses = []
    for n in range(10, 30):
        (made,) = world.found(wan(f"198.51.100.{n}"), "port_scan", standing=0)
        responses.append(made.response)
    assert responses == [L] * 5 + [O] * 15
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is Q


def test_floods_cannot_switch_anything_off(world: World) -> None:
    for port in range(1, 50):
        (made,) = world.found(flood("192.0.2.5", port), "dos")
        assert made.response is L
    (made,) = world.found(lan(5), "port_scan")
    assert made.response is Q


# Bounded, and what changes under way -------------------------------------------------------------


def test_a_full_table_loses_its_weakest() -> None:
    world = World(policy=Policy(max_decisions=16), enforce=Enforce())
    for n in range(16):
        assert world.found(wan(f"198.51.100.{n + 1}"), "port_scan", score=10.0 + n)
    assert world.found(wan("203.0.113.7"), "port_scan", score=9.0) == []
    assert world.found(wan("203.0.113.8"), "port_scan", score=50.0)
    assert len(world.ledger.standing) == 16
    (gone,) = world.later(1)
    assert gone.subject.value == ip("198.51.100.1") and "gave way" in gone.reason
    assert {n.kind for n in world.ledger.notes()} == {"evicted"}


def test_who_gave_way_and_was_decided_about_anew_is_not_released() -> None:
    world = World(policy=Policy(max_decisions=16), enforce=Enforce())
    for n in range(16):
        world.found(wan(f"198.51.100.{n + 1}"), "port_scan", score=10.0 + n)
    world.found(wan("203.0.113.8"), "port_scan", score=50.0)
    world.found(wan("198.51.100.1"), "port_scan", score=60.0)
    assert [d.subject.value for d in world.later(1)] == [ip("198.51.100.2")]


def test_who_becomes_protected_is_let_go(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.found(lan(6), "port_scan")
    assert world.ledger.surround(FOUND, HOSTS) == []
    found = replace(FOUND, sessions=(Place(ip("192.0.2.12"), "lan0", mac(5)),))
    (ended,) = world.ledger.surround(found, HOSTS)
    assert (ended.subject, ended.response) == (device(5), O)
    assert world.ledger.surround(found, HOSTS) == []
    assert [row.decision.subject for row in world.ledger.decisions()] == [device(6)]


def test_a_contradicted_pin_is_told(world: World) -> None:
    spoofed = replace(FOUND, routers=(Place(ip("192.0.2.1"), "lan0", mac(66)),))
    world.ledger.surround(spoofed, HOSTS)
    assert [n.kind for n in world.ledger.notes()] == ["pin"]
    (made,) = world.found(lan(66), "arp_spoof", address=ip("192.0.2.1"))
    assert made.response is Q


def test_a_replaced_router_is_let_go_by_reload(world: World) -> None:
    replaced = replace(FOUND, routers=(Place(ip("192.0.2.1"), "lan0", mac(66)),))
    world.ledger.surround(replaced, HOSTS)
    world.found(lan(66), "port_scan")
    assert world.ledger.surround(replaced, HOSTS) == []
    world.protection.relearn()
    (ended,) = world.ledger.surround(replaced, HOSTS)
    assert ended.subject == device(66)
    assert world.found(lan(66), "port_scan") == []


def test_what_the_kernel_says_is_shown(world: World) -> None:
    (made,) = world.found(lan(5), "port_scan")
    world.ledger.settle([Applied(made, done=False, note="set full")])
    (row,) = world.ledger.decisions()
    assert row.note == "not enforced: set full"
    (milder,) = world.later(600)
    world.ledger.settle([Applied(made, done=True, note="late")])  # about an older decision
    (row,) = world.ledger.decisions()
    assert row.decision == milder and row.note == ""


def test_counters_add_up(world: World) -> None:
    world.found(lan(5), "port_scan")
    world.found(flood("192.0.2.5"), "dos")
    world.later(600)
    counted = world.ledger.counters()
    assert (
        counted["decisions_made"] - counted["decisions_ended"] - counted["decisions_stepped_down"]
        == counted["decisions_standing"]
    )


def test_where_nobody_can_judge_and_people_prefer_closed_a_trigger_limits(world: World) -> None:
    assert world.ledger.decide([], [event(lan(4))]) == []  # open: a trigger alone never decides
    world.later(6)
    assert world.ledger.decide([], [event(lan(3))]) == []
    (just_before,) = world.ledger.fail_closed("no classifier answers (on_classifier_down: closed)")
    assert (just_before.subject, just_before.response) == (device(3), L)
    assert world.ledger.fail_closed("no classifier answers (on_classifier_down: closed)") == []
    (made,) = world.ledger.decide([], [event(lan(5))])
    assert (made.subject, made.response) == (device(5), L)
    assert made.reason.startswith("no classifier answers")
    assert world.ledger.decide([], [event(lan(5))]) == []  # nothing climbs by a trigger alone
    assert world.ledger.fail_closed("") == []
    assert world.ledger.decide([], [event(lan(6))]) == []
