"""The `decisions` command."""

import msgspec
import pytest

from ids_appliance.gateway.actions import DecisionInfo
from tests.gateway.running import CAMERA, DECISION


def test_a_decision_is_a_line(live):
    heads, line = live.table("decisions")
    assert heads.split() == ["number", "sender", "response", "left", "kernel", "device", "reason"]
    for part in ("7", CAMERA + "@br-lan", "quarantine", "7 m 12 s", "yes", "Camera?[31m? of…"):
        assert part in line
    (all_of_it,) = live.json("decisions")
    assert msgspec.convert(all_of_it, DecisionInfo) == DECISION


def test_one_that_is_not_enforced_says_what_it_would_be(live, monkeypatch):
    decision = msgspec.structs.replace(
        DECISION, response="observe", would="rate_limit", enforced=False, by_hand=True, note="why"
    )
    monkeypatch.setattr(live.actions, "decisions", lambda n: [decision])
    line = live.table("decisions")[1]
    assert " rate_limit " in line and "  no  " in line and "by hand: why" in line


@pytest.mark.parametrize(
    "subject", ["2001:db8:ffff:ffff::/64", "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"]
)
def test_long_names_fit(live, monkeypatch, subject):
    decision = msgspec.structs.replace(
        DECISION,
        number=10**9,
        subject=subject,
        interface="x" * 15,
        remaining_s=6e5,
        device="é" * 90,
    )
    monkeypatch.setattr(live.actions, "decisions", lambda n: [decision])
    assert "7d" not in live.table("decisions")[1]


def test_how_many_is_asked_for_and_none_is_said(live):
    live.table("decisions", "-n", "7")
    assert live.actions.calls[-1] == ("decisions", 7)
    live.actions.many = 0
    assert live.table("decisions") == ["nothing stands about anybody"]


def test_colour_follows_what_is_done(live):
    assert "\x1b[31mquarantine" in live("decisions", colour=True).stdout


def test_what_is_by_hand_is_said_once(live, monkeypatch):
    decision = msgspec.structs.replace(DECISION, by_hand=True, reason="by hand")
    monkeypatch.setattr(live.actions, "decisions", lambda n: [decision])
    assert live.table("decisions")[1].count("by hand") == 1
