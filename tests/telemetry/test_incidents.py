"""One notice per incident, and never silence about a second, different attack."""

from typing import Any

import pytest

from ids_appliance.config.notices import Notices
from ids_appliance.telemetry.incidents import MAX_INCIDENTS, Incidents

CAMERA = "02:00:00:00:00:07@lan0"


def event(kind: str, **detail: Any) -> dict[str, Any]:
    return {
        "event_type": kind,
        "event_id": "1-1",
        "timestamp": "2026-01-01T12:00:00.000000+00:00",
        "host": "gw",
        "src_mac": "02:00:00:00:00:07",
        "src_ip": "192.0.2.7",
        "interface": "lan0",
        "device": {"name": "Camera", "vendor": "Maker"},
        kind: detail,
    }


def decided(reason: str, subject: str = CAMERA, response: str = "quarantine") -> dict[str, Any]:
    return event(
        "decision",
        action="decided",
        subject=subject,
        response=response,
        duration_s=600.0,
        reason=reason,
    )


@pytest.fixture
def told() -> Incidents:
    return Incidents(Notices(about=("decision", "trigger", "alarm"), repeat_s=3600.0))


def test_a_notice_says_who_what_and_where(told: Incidents) -> None:
    notice = told.take(decided("port_scan and evidence 14.2 over 9.0 (412 packets)"), 0.0)
    assert notice is not None
    assert notice["title"].startswith(
        "Camera (Maker, 02:00:00:00:00:07, 192.0.2.7): quarantine for 600 s: port_scan and"
    )
    assert (notice["attack"], notice["host"], notice["kind"]) == ("port_scan", "gw", "decision")
    assert notice["device"] == {"name": "Camera", "vendor": "Maker"}
    assert notice["interface"] == "lan0" and notice["response"] == "quarantine"


def test_one_incident_is_told_once_and_again_after_a_while(told: Incidents) -> None:
    assert told.take(decided("port_scan and more"), 0.0) is not None
    for second in range(1, 10):
        assert told.take(decided(f"port_scan and evidence {second}"), float(second)) is None
    again = told.take(decided("port_scan"), 3600.0)
    assert again is not None and again["again"] == 10 and told.suppressed == 9


def test_a_second_attack_is_never_suppressed(told: Incidents) -> None:
    first = told.take(decided("port_scan and evidence 9"), 0.0)
    second = told.take(decided("dos and evidence 9"), 0.1)
    third = told.take(decided("evidence 9 over 8 (40 packets)"), 0.2)
    other = told.take(decided("port_scan", subject="02:00:00:00:00:08@lan0"), 0.3)
    found = [one for one in (first, second, third, other) if one]
    assert [one["attack"] for one in found] == ["port_scan", "dos", "evidence", "port_scan"]
    assert len({one["incident"] for one in found}) == 4


def test_what_has_ended_is_a_new_incident_when_it_comes_again(told: Incidents) -> None:
    told.take(decided("port_scan"), 0.0)
    told.take(event("response", action="applied", subject=CAMERA), 0.1)
    assert told.standing == 1
    assert told.take(event("response", action="ended", subject=CAMERA), 1.0) is None
    assert told.standing == 0
    assert told.take(decided("port_scan"), 2.0) is not None


def test_triggers_count_by_rule_and_key(told: Incidents) -> None:
    def fired(rule: str, key: str) -> dict[str, Any] | None:
        return told.take(event("trigger", rule=rule, key=key, detail="500 SYNs"), 0.0)

    assert fired("dos", "192.0.2.9:80") and not fired("dos", "192.0.2.9:80")
    assert fired("dos", "192.0.2.9:443") and fired("mirai", "192.0.2.9:80")
    quiet = Incidents(Notices())
    assert quiet.take(event("trigger", rule="dos", key="x", detail=""), 0.0) is None


@pytest.mark.parametrize(
    ("detail", "news"),
    [
        ({"component": "node", "state": "down", "message": "the node does not answer"}, True),
        ({"component": "node", "state": "up", "message": "the node judges"}, False),
        ({"component": "ledger", "action": "breaker", "note": "ALARM: 6 decisions"}, True),
        ({"what": "events_lost", "detail": "12 events"}, True),
        ({"component": "order", "state": "done", "message": "pause"}, False),
        ({"component": "notices", "state": "warning", "message": "webhook: no"}, False),
    ],
)
def test_what_is_wrong_with_us_is_told(told: Incidents, detail: dict[str, Any], news: bool) -> None:
    assert (told.take(event("health", **detail), 0.0) is not None) is news
    assert told.take(event("health", **detail), 1.0) is None


def test_what_is_remembered_is_bounded(told: Incidents) -> None:
    for number in range(MAX_INCIDENTS + 10):
        assert told.take(decided("dos", subject=f"192.0.2.{number}"), 0.0) is not None
    assert len(told._told) == MAX_INCIDENTS
    assert told.take({"event_type": "decision", "decision": "odd"}, 0.0) is None
    assert told.take({}, 0.0) is None
