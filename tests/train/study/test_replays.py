"""What a replay is counted as: culprits, the wronged, and why nobody was found."""

import pytest

from ids_appliance.gateway.replay import Made, Replayed, Sent
from ids_appliance.train.study.replays import RUNS, outcome, settings, why_missed
from ids_appliance.train.study.summary import summary
from ids_appliance.types import Decision, Kind, Response, Subject

SUBJECT = Subject(Kind.IPV4, bytes(4))


def sent(malicious=0, benign=0, floods=(), at=0):
    return Sent([benign, malicious, 0, 0], set(floods), at if malicious else None)


def acted(who, at=5 * 10**9):
    return Made(Decision(1, SUBJECT, Response.QUARANTINE, 60.0, ""), who, at, done=True)


def test_settings_of_the_runs():
    rules = ("dos", "port_scan", "mirai", "arp_spoof")
    whole = {run: settings(run) for run in RUNS}
    assert whole["appliance"].trigger.kind == whole["triggers"].trigger.kind == "embedded"
    assert whole["always"].trigger.kind == whole["forest"].trigger.kind == "always"
    assert all(getattr(whole["always"].trigger, rule).enabled for rule in rules)
    assert not any(getattr(whole["forest"].trigger, rule).enabled for rule in rules)
    assert [whole[run].enforce.enabled for run in RUNS] == [True, True, False, True]


def test_a_spoofed_flood_is_one_culprit_and_so_is_a_crowd_of_forged_clients():
    replayed = Replayed("x")
    replayed.senders = {bytes([n]): sent(1, floods=[b"flood"]) for n in range(50)}
    replayed.senders |= {bytes([n]): sent(1) for n in range(50, 90)}
    replayed.senders[b"victim"] = sent(benign=3)
    replayed.made = [acted(b"flood")]
    made = outcome("appliance", replayed)
    assert (made.culprits, made.found, made.ordinary, made.wronged) == (2, 1, 1, 0)


@pytest.mark.parametrize(("seen", "found"), [(0, 0), (3, 1), (40, 1)])
def test_no_more_is_found_of_a_crowd_than_the_one_culprit_that_it_is(seen, found):
    replayed = Replayed("x", senders={bytes([n]): sent(1) for n in range(40)})
    replayed.made = [acted(bytes([n])) for n in range(seen)]
    made = outcome("appliance", replayed)
    assert (made.culprits, made.found) == (1, found)
    assert summary([row(culprits=made.culprits, found=made.found)])["missed"] == (
        [] if found else [summary([row()])["missed"][0]]
    )


def test_the_delay_is_from_the_first_malicious_frame():
    replayed = Replayed("x", senders={b"a": sent(2, at=2 * 10**9), b"b": sent(benign=1)})
    replayed.made = [acted(b"a"), acted(b"b")]
    made = outcome("appliance", replayed)
    assert (made.delay_s, made.found, made.wronged) == (3.0, 1, 1)
    assert outcome("triggers", replayed).found == 0


ROW = {"windows": 1, "named": 1, "decisions": 1, "culprits": 1, "found": 0, "ordinary": 4}
ROW |= {"wronged": 0, "delay_s": None}


def row(origin="o", family="DoS", **changed):
    runs = {run: ROW | changed for run in RUNS}
    return {"file": "f", "family": family, "origin": origin, "ordinary_s": 43_200.0} | runs


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"windows": 0}, "no rule fired"),
        ({"named": 0}, "no rule named"),
        ({"decisions": 0}, "does not know its packets"),
        ({}, "somebody else"),
    ],
)
def test_why_nobody_was_found(changed, why):
    assert why in why_missed(row(**changed))


def test_the_summary_weighs_origins_alike_and_names_the_missed():
    rows = [row("a", found=1, delay_s=1.0), row("a", found=1, delay_s=3.0), row("b")]
    rows.append(row("c", "Benign", culprits=0, wronged=1))
    made = summary(rows)
    found = made["runs"]["appliance"]["families"]["DoS"]
    assert (found["found"], found["culprits"], found["origins"]) == (2, 3, 2)
    assert found["mean_of_origins"] == 0.5 and found["delay_median_s"] == 3.0
    assert found["worst_origin"] == {"origin": "b", "missed": 1, "culprits": 1}
    ordinary = made["runs"]["appliance"]["ordinary"]
    assert (ordinary["accused"], ordinary["senders"], ordinary["a_device_day"]) == (1, 16, 0.5)
    assert [one["origin"] for one in made["missed"]] == ["b"]
    assert list(made["runs"]["appliance"]["families"]) == ["DoS"]
