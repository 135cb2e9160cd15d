"""The default policy: triggers and judged packets in, findings with their reasons out."""

import numpy as np

from ids_appliance import config
from ids_appliance.policy.bounds import Bounds, read_bounds, settings_of
from ids_appliance.policy.sequential import SequentialPolicy
from ids_appliance.types import SENDER, Policy, TriggerEvent
from tests.policy.judged import PORT, flood_record, judged, lan_key

BOUNDS = Bounds(
    upper=12.0,
    false_alarms=0.01,
    prior_logit=0.0,
    model_id="00" * 16,
    settings=settings_of(config.Policy(clip=3.0)),
    priors={"port_scan": 8.0},
)


def policy(**changed: object) -> SequentialPolicy:
    return SequentialPolicy(config.Policy(**{"clip": 3.0} | changed), BOUNDS)  # type: ignore[arg-type]


def event(rule: str, sender: bytes | None) -> TriggerEvent:
    return TriggerEvent(rule, "key", 0, 0, sender, "20 ports")


def test_it_is_a_policy() -> None:
    kept: Policy = policy()
    assert kept.weigh(judged([])) == []


def test_a_finding_names_sender_bound_cells_and_triggers() -> None:
    p = policy()
    assert p.notice(event("port_scan", lan_key(1))) == []
    (finding,) = p.weigh(judged([(1, cell, 1.0) for cell in (7, 7, 8)]))
    assert (finding.sender, finding.malicious, finding.bound) == (lan_key(1), True, 12.0)
    # After the second packet: 8 + 6 are more than 12.
    assert (finding.score, finding.packets, finding.rules) == (14.0, 2, ("port_scan",))
    assert finding.cells == ((7, 3.0, 2),)
    assert finding.address == bytes([192, 0, 2, 1])
    assert finding.reason == "the heaviest of its cells weighs 3.0 a packet and came 2 times"


def test_a_trigger_counts_once_a_window_and_never_decides_alone() -> None:
    p = policy(priors={"mirai": 500.0})
    for rule in ("port_scan", "port_scan", "mirai", "unknown"):
        assert p.notice(event(rule, lan_key(1))) == []
    known = p.why(lan_key(1))
    assert known["triggers"] == {"port_scan": 8.0, "mirai": 500.0, "unknown": 0.0}
    assert known["prior"] < 12.0 - 3.0
    assert p.notice(event("port_scan", None)) == []


def test_the_configuration_overrides_bound_and_priors() -> None:
    p = policy(upper=6.0, priors={"port_scan": 1.0})
    p.notice(event("port_scan", lan_key(1)))
    assert p.why(lan_key(1))["prior"] == 1.0
    (finding,) = p.weigh(judged([(1, cell, 1.0) for cell in range(2)]))
    assert (finding.bound, finding.score) == (6.0, 7.0)


def test_evidence_that_waits_for_a_trigger_decides_with_it() -> None:
    p = policy()
    assert p.weigh(judged([(1, cell, 1.0) for cell in range(3)])) == []
    (finding,) = p.notice(event("port_scan", lan_key(1)))
    assert finding.rules == ("port_scan",) and finding.score == 17.0


def test_an_ordinary_sender_is_cleared_once_a_window() -> None:
    p = policy()
    (finding,) = p.weigh(judged([(1, 7, 0.01)] * 10))
    assert not finding.malicious and finding.bound == -8.0
    assert p.weigh(judged([(1, 7, 0.01)] * 10)) == []
    p.new_window()
    assert len(p.weigh(judged([(1, 7, 0.01)]))) == 1


def test_a_new_window_forgets_who_was_named() -> None:
    p = policy()
    p.notice(event("port_scan", lan_key(1)))
    p.new_window()
    assert p.why(lan_key(1))["triggers"] == {}


def test_a_flood_is_found_by_its_victim() -> None:
    p = policy()
    floods = np.zeros(16, SENDER)
    floods[2] = flood_record()
    p.set_floods(floods)
    found = p.weigh(judged([(cell, cell, 1.0) for cell in range(5)], standing=2 << 4))
    assert [f.sender for f in found] == [floods[2].tobytes()] and PORT == floods[2]["ifindex"]


def test_forgotten_senders_begin_anew() -> None:
    p = policy()
    p.notice(event("port_scan", lan_key(1)))
    p.forget(lan_key(1))
    assert p.why(lan_key(1)) == {}
    p.notice(event("port_scan", lan_key(1)))
    assert p.why(lan_key(1))["prior"] == 8.0


def test_who_is_named_is_bounded_and_counted() -> None:
    p = policy(max_senders=3)
    for n in range(5):
        p.notice(event("port_scan", lan_key(n)))
    assert p.counters()["evidence_triggers_past_cap"] == 2


def test_shipped_bounds_go_with_the_default_configuration() -> None:
    p = SequentialPolicy(config.Policy(), read_bounds())
    assert p.upper == read_bounds().upper > 3 * config.Policy().clip
