"""What a gateway tells during an act is put together rightly."""

from typing import Any

from ids_appliance.lab.demo.journal import story, time_of

HEAD = {"event_id": "1", "version": 1, "host": "here"}


def event(second: float, kind: str, what: dict[str, Any], **fields: Any) -> dict[str, Any]:
    stamp = f"2026-11-22T01:00:{second:09.6f}+00:00"
    return {"timestamp": stamp, "event_type": kind, kind: what, **HEAD, **fields}


def decided(second: float, subject: str, action: str = "decided", **fields: Any) -> dict[str, Any]:
    kind = "decision" if action == "decided" else "response"
    what = {"action": action, "subject": subject, "response": "quarantine", "reason": "dos"}
    return event(second, kind, what, **fields)


def window(second: float, number: int, state: str, **account: Any) -> dict[str, Any]:
    return event(second, "window", {"id": number, "state": state, "rule": "dos"} | account)


ZERO = time_of(event(0, "stats", {}))
BOT = "02:00:00:00:00:66"


def by_bot(one: dict[str, Any]) -> bool:
    return bool(one.get("src_mac") == BOT)


def test_times_are_exact_to_the_microsecond() -> None:
    assert time_of(event(12.000001, "stats", {})) - ZERO == 12_000_001_000


def test_an_attack_from_trigger_to_close() -> None:
    account = {"duration_s": 5.0, "packets": 900, "judged": 800, "cells_asked": 70}
    found = story(
        [
            event(0.5, "trigger", {"rule": "mirai", "detail": "something else"}),
            window(1.0, 7, "opened"),
            event(1.0, "trigger", {"rule": "dos", "detail": "500 SYNs"}),
            decided(1.2, "bot", src_mac=BOT),
            decided(1.3, "bot", "applied", src_mac=BOT),
            window(6.0, 7, "closed", **account),
            event(7.0, "trigger", {"rule": "dos", "detail": "again"}),
        ],
        culprit=by_bot,
        opens=["dos"],
    )
    assert found.trigger_ns == ZERO + 10**9, "the act's own rule, not another one's"
    assert found.rules == {"mirai": 1, "dos": 2}
    assert found.contained_ns == ZERO + 1_300_000_000
    assert found.accused == []
    (closed,) = found.windows
    assert (closed["opened_ns"], closed["closed_ns"]) == (ZERO + 10**9, ZERO + 6 * 10**9)
    assert found.total("packets") == 900 and not found.open_ids


def test_a_further_rule_may_see_the_same_sooner() -> None:
    events = [
        event(0.5, "trigger", {"rule": "arp_sweep", "detail": "something else"}),
        event(1.0, "trigger", {"rule": "slow_scan", "detail": "8 ports"}),
        event(2.0, "trigger", {"rule": "port_scan", "detail": "20 ports"}),
    ]
    assert story(events, culprit=by_bot, opens=["port_scan"]).trigger_ns == ZERO + 10**9


def test_whoever_else_is_decided_about_is_accused_once() -> None:
    events = [
        decided(1, "phone", src_mac="02:00:00:00:00:11"),
        decided(1, "phone", "applied", src_mac="02:00:00:00:00:11"),
        decided(2, "phone", src_mac="02:00:00:00:00:11"),
        decided(3, "bot", src_mac=BOT),
    ]
    found = story(events, culprit=by_bot, opens=[])
    assert found.accused == ["phone"]
    assert found.contained_ns is None, "what held in the kernel was about somebody else"


def test_findings_without_a_decision_accuse_nobody() -> None:
    what = {"action": "finding", "score": 20.0}
    found = story([event(1, "decision", what)], culprit=by_bot, opens=[])
    assert found.accused == [] and found.decided == []


def test_windows_that_are_still_open_and_what_was_spared() -> None:
    events = [
        window(1, 3, "opened"),
        window(2, 3, "closed", duration_s=1.0),
        window(3, 4, "opened"),
        event(4, "response", {"subject": "admin", "action": "refused", "note": "allowed"}),
        event(5, "response", {"subject": "bot", "action": "ended", "note": ""}),
        event(6, "health", {"component": "node", "state": "down", "message": "gone"}),
        event(6, "health", {"component": "order", "state": "done", "message": "release"}),
    ]
    found = story(events, culprit=by_bot, opens=[])
    assert found.open_ids == {4} and len(found.windows) == 1
    assert found.spared == ["admin refused: allowed"]
    assert found.warnings == ["node: gone"]
