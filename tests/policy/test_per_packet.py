"""The published policy: one verdict of 1, one finding about its sender."""

import math

import numpy as np

from ids_appliance import config
from ids_appliance.policy.per_packet import PerPacketPolicy
from ids_appliance.types import Outcome, Policy, TriggerEvent
from tests.policy.judged import judged, lan_key


def test_one_malicious_packet_is_a_finding_about_its_sender() -> None:
    p: Policy = PerPacketPolicy(config.Policy())
    found = p.weigh(judged([(1, 7, 0.1), (2, 8, 0.75), (3, 9, 1.0), (2, 8, 0.75), (1, 7, 0.5)]))
    assert [(f.sender, f.packets, f.malicious) for f in found] == [
        (lan_key(2), 2, True),
        (lan_key(3), 1, True),
    ]
    assert found[0].cells == ((8, math.log(3.0), 2),) and found[0].score == math.log(3.0)
    assert math.isfinite(found[1].score)
    assert found[0].address == bytes([192, 0, 2, 2])


def test_the_order_of_packets_does_not_matter() -> None:
    packets = [(k % 5, k, 0.1 + 0.08 * k) for k in range(11)]
    there, back = (
        {(f.sender, f.packets) for f in PerPacketPolicy(config.Policy()).weigh(judged(order))}
        for order in (packets, packets[::-1])
    )
    assert there == back and sum(n for _, n in there) == 5


def test_only_judged_packets_count() -> None:
    batch = judged([(1, 7, 0.9), (2, 7, 0.9)])
    batch.outcomes[0] = Outcome.SHED
    found = PerPacketPolicy(config.Policy()).weigh(batch)
    assert [f.sender for f in found] == [lan_key(2)]


def test_nobody_is_accused_where_nobody_can_be_named() -> None:
    batch = judged([(1, 7, 0.9)])
    batch.senders[:] = np.zeros(1, batch.senders.dtype)
    assert PerPacketPolicy(config.Policy()).weigh(batch) == []


def test_triggers_are_named_and_never_judge() -> None:
    p = PerPacketPolicy(config.Policy())
    assert p.notice(TriggerEvent("dos", "key", 0, 0, lan_key(1), "")) == []
    (finding,) = p.weigh(judged([(1, 7, 0.9)]))
    assert finding.rules == ("dos",)
    p.new_window()
    assert p.weigh(judged([(1, 7, 0.9)]))[0].rules == ()


def test_why_tells_the_latest_finding_until_it_is_forgotten() -> None:
    p = PerPacketPolicy(config.Policy(max_senders=2))
    p.weigh(judged([(n, n, 0.9) for n in range(4)]))
    assert p.why(lan_key(1)) == {} and p.why(lan_key(3))["packets"] == 1
    p.forget(lan_key(3))
    assert p.why(lan_key(3)) == {}
    assert p.counters() == {"evidence_crossed": 4, "evidence_senders": 1}
